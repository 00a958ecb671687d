"""kubectl and helm for tests: called with a cluster's kubeconfig, and loud when they fail."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.cluster.processes import run


class Tool:
    """A command line that takes ``--kubeconfig``; calling it returns its stdout."""

    def __init__(self, program: Path, kubeconfig: Path) -> None:
        self.argv = [str(program), f"--kubeconfig={kubeconfig}"]

    def __call__(self, *words: str | Path, stdin: str | None = None, seconds: float = 60) -> str:
        """Run it with *words*; raise `ClusterError` with its stderr when it fails."""
        return run([*self.argv, *words], stdin=stdin, seconds=seconds)


class Kubectl(Tool):
    """kubectl of one cluster."""

    def json(self, *words: str | Path, seconds: float = 60) -> Any:
        """Return what ``kubectl … -o json`` says."""
        return json.loads(self(*words, "-o", "json", seconds=seconds))

    def apply(self, *manifests: Mapping[str, object], options: Sequence[str] = ()) -> str:
        """Apply manifests that are at hand as values."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
        return self("apply", *options, "-f", "-", stdin=text)
