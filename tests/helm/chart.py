"""The chart as helm renders it, as parsed manifests."""

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "script-runner"
NAMESPACE = "operators"
RELEASE = "lab"
#: What the objects of the operator are called.
NAME = f"{RELEASE}-script-runner-operator"

Manifest = dict[str, Any]


class RefusedError(Exception):
    """helm did not render the chart; the text is what it said."""


@dataclass(frozen=True)
class Rendered:
    """Every manifest of one rendering, hooks included."""

    manifests: tuple[Manifest, ...]

    def of(self, kind: str) -> list[Manifest]:
        return [manifest for manifest in self.manifests if manifest["kind"] == kind]

    def one(self, kind: str, name: str) -> Manifest:
        (found,) = [one for one in self.of(kind) if one["metadata"]["name"] == name]
        return found

    def pod_specs(self) -> Iterator[Manifest]:
        """Yield the spec of each pod that the manifests would start."""
        for manifest in self.manifests:
            if manifest["kind"] == "Pod":
                yield manifest["spec"]
            elif "template" in manifest.get("spec", {}):
                yield manifest["spec"]["template"]["spec"]

    def rules(self) -> Iterator[Manifest]:
        """Yield each rule of each role."""
        for kind in ("Role", "ClusterRole"):
            for role in self.of(kind):
                yield from role["rules"]


class Chart:
    """Renders the chart with one helm; the same values only once."""

    def __init__(self, helm: str) -> None:
        self.helm = helm
        self._known: dict[str, Rendered] = {}

    def render(self, values: Mapping[str, Any] | None = None) -> Rendered:
        """Return what *values* make of the chart; raise RefusedError when helm will not."""
        text = yaml.safe_dump(dict(values or {}))
        if text not in self._known:
            documents = yaml.safe_load_all(self._template(text))
            found = tuple(document for document in documents if document is not None)
            self._known[text] = Rendered(found)
        return self._known[text]

    def notes(self) -> str:
        """Return what helm tells after an installation."""
        done = self._run("install", RELEASE, "--dry-run=client", values="{}")
        return done.partition("NOTES:\n")[2]

    def _template(self, values: str) -> str:
        return self._run("template", RELEASE, values=values)

    def _run(self, *words: str, values: str) -> str:
        command = [self.helm, *words, str(CHART), "--namespace", NAMESPACE]
        done = subprocess.run(
            [*command, "--values", "-"], input=values, capture_output=True, text=True, timeout=60
        )
        if done.returncode != 0:
            raise RefusedError(done.stderr)
        return done.stdout
