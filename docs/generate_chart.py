"""Writes what the chart says twice: its schema, the table of its README, its versions, manifests/.

The comments of helm/script-runner/values.yaml are the source of the first two, pyproject.toml of
the third. ``python docs/generate_chart.py`` writes them; ``--check`` only tells which are stale.
manifests/install.yaml is the chart as helm renders it, so it is left alone where there is no helm.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from packaging.version import Version

ROOT = Path(__file__).parents[1]
CHART = ROOT / "helm" / "script-runner"
INSTALL = ROOT / "manifests" / "install.yaml"
NAMESPACE = "script-runner-system"
#: The oldest Kubernetes of the chart, so that a newer helm renders the same.
KUBE_VERSION = "1.30.0"

TABLE_START = "<!-- values: made by `make docs` from values.yaml; do not edit -->\n"
TABLE_END = "<!-- end of values -->\n"
SCHEMA_MARK = "@schema "
TYPES = {"str": "string", "int": "integer", "bool": "boolean", "map": "object", "seq": "array"}
PRE_RELEASES = {"a": "alpha", "b": "beta", "rc": "rc"}

_NAME = {"type": "string", "minLength": 1}
#: Parts of Kubernetes' own types that values.yaml names by ``$ref``.
DEFINITIONS: Mapping[str, Any] = {
    "quantities": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            name: {"type": ["string", "number"]} for name in ("cpu", "memory", "ephemeral-storage")
        },
    },
    "toleration": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "key": _NAME,
            "operator": {"enum": ["Exists", "Equal"]},
            "value": {"type": "string"},
            "effect": {"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
            "tolerationSeconds": {"type": "integer"},
        },
    },
    "selector": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "matchLabels": {"type": "object", "additionalProperties": {"type": "string"}},
            "matchExpressions": {
                "type": "array",
                "items": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["key", "operator"],
                    "properties": {
                        "key": _NAME,
                        "operator": {"enum": ["In", "NotIn", "Exists", "DoesNotExist"]},
                        "values": {"type": "array", "items": {"type": "string"}},
                    },
                },
            },
        },
    },
    "peer": {
        "type": "object",
        "additionalProperties": False,
        "minProperties": 1,
        "properties": {
            "podSelector": {"$ref": "#/definitions/selector"},
            "namespaceSelector": {"$ref": "#/definitions/selector"},
            "ipBlock": {
                "type": "object",
                "additionalProperties": False,
                "required": ["cidr"],
                "properties": {
                    "cidr": _NAME,
                    "except": {"type": "array", "items": _NAME},
                },
            },
        },
    },
}


@dataclass(frozen=True)
class Value:
    """One key of values.yaml; *children* when it is a group of further ones."""

    path: str
    default: Any
    description: str
    schema: Mapping[str, Any]
    children: "tuple[Value, ...]"

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]


def read_values(text: str) -> tuple[Value, ...]:
    """Return the keys of a values.yaml with what its comments say about them."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(node, yaml.MappingNode):
        raise ValueError("values.yaml is not a mapping")
    return tuple(_read(node, text.splitlines(), ""))


def _read(node: yaml.MappingNode, lines: list[str], prefix: str) -> Iterator[Value]:
    for key, value in node.value:
        path = f"{prefix}{key.value}"
        description, schema = _comment(lines, key.start_mark.line, path)
        children: tuple[Value, ...] = ()
        # a map in braces is one value: `{cpu: 50m}`
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            children = tuple(_read(value, lines, f"{path}."))
        elif isinstance(value, yaml.CollectionNode) and not schema:
            raise ValueError(f"{path}: say with {SCHEMA_MARK}what it may hold")
        default = yaml.SafeLoader("").construct_document(value)
        if "$ref" not in schema:
            schema = {"type": TYPES[value.tag.rpartition(":")[2]], **schema}
        yield Value(path, default, description, schema, children)


def _comment(lines: list[str], line: int, path: str) -> tuple[str, dict[str, Any]]:
    """Return what stands right above the line: prose, and JSON Schema."""
    start = line
    while start > 0 and lines[start - 1].lstrip().startswith("#"):
        start -= 1
    prose, schema = [], {}
    for text in (comment.strip().removeprefix("#").strip() for comment in lines[start:line]):
        if text.startswith(SCHEMA_MARK):
            schema.update(json.loads(text.removeprefix(SCHEMA_MARK)))
        else:
            prose.append(text)
    if not prose:
        raise ValueError(f"{path}: no comment says what it is")
    return " ".join(prose), schema


def schema_text(values: tuple[Value, ...]) -> str:
    """Return values.schema.json."""
    properties = _properties(values)
    # helm hands this to every chart that is a part of another one
    properties["global"] = {"type": "object", "description": "Not used."}
    document = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart script-runner",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "definitions": DEFINITIONS,
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _properties(values: tuple[Value, ...]) -> dict[str, Any]:
    return {value.name: _property(value) for value in values}


def _property(value: Value) -> dict[str, Any]:
    described = {"description": value.description}
    if "$ref" in value.schema:  # draft 7 ignores what stands beside a reference
        return {**described, "allOf": [value.schema]}
    found = {**described, **value.schema}
    if value.children:
        found["properties"] = _properties(value.children)
    if found["type"] == "object":
        found.setdefault("additionalProperties", False)
    return found


def table(values: tuple[Value, ...]) -> str:
    """Return the values as rows in Markdown."""
    rows = ["| value | default | meaning |", "|---|---|---|"]
    for value in _flat(values):
        default = "" if value.children else f"`{json.dumps(value.default, ensure_ascii=False)}`"
        description = value.description.replace("|", "\\|")
        rows.append(f"| `{value.path}` | {default} | {description} |")
    return "\n".join(rows) + "\n"


def _flat(values: tuple[Value, ...]) -> Iterator[Value]:
    for value in values:
        yield value
        yield from _flat(value.children)


def readme_text(present: str, values: tuple[Value, ...]) -> str:
    """Return the README with its table replaced."""
    before, start, rest = present.partition(TABLE_START)
    _, end, after = rest.partition(TABLE_END)
    if not (start and end):
        raise ValueError("README.md lacks the marks between which the table goes")
    return f"{before}{start}{table(values)}{end}{after}"


def chart_version(project: str) -> str:
    """Return the SemVer form of the project's version: 1.0.0a1 is 1.0.0-alpha.1."""
    version = Version(project)
    if version.pre is None:
        return version.base_version
    kind, number = version.pre
    return f"{version.base_version}-{PRE_RELEASES[kind]}.{number}"


def chart_text(present: str, project: str) -> str:
    """Return Chart.yaml with the versions of the project."""
    text = re.sub(r"(?m)^version: .*$", f"version: {chart_version(project)}", present)
    return re.sub(r"(?m)^appVersion: .*$", f'appVersion: "{project}"', text)


def project_version() -> str:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])


def find_helm() -> str | None:
    """Return the helm to use: ``HELM``, or the one on PATH."""
    return os.environ.get("HELM") or shutil.which("helm")


def install_text(helm: str) -> str:
    """Return the chart as manifests, without what only means something to helm."""
    command = [helm, "template", "script-runner", str(CHART), "--namespace", NAMESPACE]
    # The definition of the resource is in crd.yaml: removing the operator must not remove every
    # ScriptRunner. The namespace of the operator is not one that helm makes.
    command += ["--no-hooks", "--set", "crds.enabled=false", "--kube-version", KUBE_VERSION]
    rendered = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    unwanted = re.compile(
        r"# Source: |\s*helm\.sh/chart: |\s*app\.kubernetes\.io/managed-by: Helm$|\s*$"
    )
    lines = [line for line in rendered.stdout.splitlines() if not unwanted.match(line)]
    return _INSTALL_HEAD + "\n".join(lines) + "\n"


_INSTALL_HEAD = f"""\
# The operator, for `kubectl apply --server-side -f manifests/crd.yaml -f manifests/install.yaml`.
# Made by `make docs` from helm/script-runner with its default values; do not edit.
# The image is the one you built: see docs/how-to/run-on-kubernetes.md.
apiVersion: v1
kind: Namespace
metadata:
  name: {NAMESPACE}
  labels:
    pod-security.kubernetes.io/enforce: restricted
"""


def pages() -> dict[Path, str]:
    """Return every generated file that needs no helm, as it should be."""
    values = read_values((CHART / "values.yaml").read_text(encoding="utf-8"))
    readme, chart = CHART / "README.md", CHART / "Chart.yaml"
    return {
        CHART / "values.schema.json": schema_text(values),
        readme: readme_text(readme.read_text(encoding="utf-8"), values),
        chart: chart_text(chart.read_text(encoding="utf-8"), project_version()),
    }


def stale_pages(found: Mapping[Path, str]) -> list[Path]:
    """Return the files that are not what they should be."""
    return [
        path
        for path, text in found.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; 1 when stale")
    arguments = parser.parse_args()
    stale = stale_pages(pages())
    if not arguments.check:
        for path, text in pages().items():
            path.write_text(text, encoding="utf-8")
    helm = find_helm()
    if helm is None:
        print("manifests/install.yaml is left alone: no helm on PATH, nor in HELM", file=sys.stderr)
    elif not arguments.check:
        INSTALL.write_text(install_text(helm), encoding="utf-8")
    else:
        stale += stale_pages({INSTALL: install_text(helm)})
    if not arguments.check:
        return 0
    for path in stale:
        print(f"{path.relative_to(ROOT)} is stale: run `make docs`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
