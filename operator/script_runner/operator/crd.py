"""The CustomResourceDefinition, made from the models.

``python -m script_runner.operator.crd`` writes it to manifests/ and to the chart;
``--check`` writes nothing and fails when one of the two is stale, as does a test.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from script_runner.core.config import config_schema
from script_runner.operator.resource import (
    GROUP,
    KIND,
    MAX_NAME_CHARACTERS,
    NAME_PATTERN,
    PLURAL,
    VERSION,
    Spec,
)
from script_runner.operator.resource_status import Status
from script_runner.operator.structural import Schema, number_or_text, structural

CRD_NAME = f"{PLURAL}.{GROUP}"
COMMAND = "python -m script_runner.operator.crd"
LINE_CHARACTERS = 110

_NAME_RULE = {
    "rule": f"size(self.metadata.name) <= {MAX_NAME_CHARACTERS} && "
    f"self.metadata.name.matches('{NAME_PATTERN}')",
    "message": f"metadata.name must have at most {MAX_NAME_CHARACTERS} characters of a-z, 0-9 and "
    "-, begin with a letter and not end with -: Services are named after it",
}

_COLUMNS = (
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', "Whether tasks run."),
    ("Workers", "integer", ".status.readyReplicas", "Workers that are ready."),
    ("Busy", "integer", ".status.running", "Tasks that run."),
    ("Queued", "integer", ".status.queued", "Tasks that wait."),
    ("Age", "date", ".metadata.creationTimestamp", "How long it has been there."),
    ("URL", "string", ".status.url", "Where the API is."),
)
#: Shown with ``-o wide`` only.
_WIDE_COLUMNS = (
    (
        "Reason",
        "string",
        '.status.conditions[?(@.type=="Ready")].reason',
        "With -o wide: why it is ready or not, in a word.",
    ),
    (
        "Message",
        "string",
        '.status.conditions[?(@.type=="Ready")].message',
        "With -o wide: the same, and what to do.",
    ),
)


class _ModelSchema(GenerateJsonSchema):
    """Writes a part that is a default as a person would: without what is absent."""

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, BaseModel):
            return dft.model_dump(mode="json", by_alias=True, exclude_unset=True)
        return super().encode_default(dft)


def crd_manifest() -> dict[str, Any]:
    """Return the CustomResourceDefinition."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": CRD_NAME},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "plural": PLURAL,
                "singular": KIND.lower(),
                "kind": KIND,
                "listKind": f"{KIND}List",
                "shortNames": ["srun"],
                "categories": ["script-runner"],
            },
            "versions": [_version()],
        },
    }


def _version() -> dict[str, Any]:
    return {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [
            *(_column(*column) for column in _COLUMNS),
            *({**_column(*column), "priority": 1} for column in _WIDE_COLUMNS),
        ],
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.workers.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "schema": {"openAPIV3Schema": resource_schema()},
    }


def _column(name: str, kind: str, path: str, description: str) -> dict[str, Any]:
    return {"name": name, "type": kind, "jsonPath": path, "description": description}


def resource_schema() -> Schema:
    """Return the structural schema of the whole resource."""
    spec = _model_schema(Spec)
    spec["properties"]["config"] = {
        **_config_schema(),
        "description": Spec.model_fields["config"].description,
    }
    status = _model_schema(Status)
    return {
        "type": "object",
        "description": "A command-line script with a typed, durable HTTP API in front of it.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": "The group and version of the API."},
            "kind": {"type": "string", "description": f"Always {KIND}."},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
        "x-kubernetes-validations": [_NAME_RULE],
    }


def _model_schema(model: type[BaseModel]) -> Schema:
    schema = model.model_json_schema(by_alias=True, schema_generator=_ModelSchema)
    return structural(schema, schema.get("$defs", {}))


def _config_schema() -> Schema:
    """Return the schema of ``spec.config``: what an editor is told of config.json.

    Without defaults: the API server would write them into the config, whose digest would then
    be another one than that of the same file elsewhere.
    """
    schema = config_schema()
    found = _without_defaults(structural(schema, schema["$defs"]))
    # Argument lists and environments of 0.18 may hold numbers; they become text.
    properties = found["properties"]
    properties["command"]["items"] = number_or_text(properties["command"]["items"])
    env = properties["env"]
    env["additionalProperties"] = number_or_text(env["additionalProperties"])
    return found


def _without_defaults(schema: Schema) -> Schema:
    """Say every default in the description, and nowhere else."""
    found = {key: value for key, value in schema.items() if key != "default"}
    default = schema.get("default")
    if default not in (None, "") and not isinstance(default, dict):
        description = found.get("description", "")
        if "Default" not in description:
            found["description"] = f"{description} Default: {json.dumps(default)}."
    for key in ("items", "additionalProperties"):
        if key in found:
            found[key] = _without_defaults(found[key])
    if "properties" in found:
        found["properties"] = {
            name: _without_defaults(member) for name, member in found["properties"].items()
        }
    return found


def manifest_page() -> str:
    """Return manifests/crd.yaml."""
    return _yaml(crd_manifest())


def chart_page() -> str:
    """Return the template of the chart: the same, when it is wanted, and kept when that is."""
    head, metadata, rest = _yaml(crd_manifest()).partition(f"  name: {CRD_NAME}\n")
    return (
        "{{- if .Values.crds.enabled }}\n"
        + verbatim(head + metadata)
        + "  {{- if .Values.crds.keep }}\n"
        "  annotations:\n"
        "    helm.sh/resource-policy: keep\n"
        "  {{- end }}\n" + verbatim(rest) + "{{- end }}\n"
    )


def _yaml(manifest: Mapping[str, Any]) -> str:
    text: str = yaml.dump(
        manifest, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=LINE_CHARACTERS
    )
    return f"# Made by `{COMMAND}`; do not edit.\n{text}"


class _Dumper(yaml.SafeDumper):
    """Writes what is used in several places anew each time: Helm and people read no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def verbatim(text: str) -> str:
    """Return *text* so that Helm renders exactly it."""
    return text.replace("{{", '{{ "{{" }}')


#: Path below the repository -> what belongs there.
PAGES: Mapping[str, Callable[[], str]] = {
    "manifests/crd.yaml": manifest_page,
    "helm/script-runner/templates/crds.yaml": chart_page,
}


def stale_pages(repository: Path) -> list[str]:
    """Return the pages in *repository* that are not what the models say now."""
    return [
        name
        for name, page in PAGES.items()
        if not (path := repository / name).is_file() or path.read_text(encoding="utf-8") != page()
    ]


def main() -> int:
    """Write the pages below the current folder, or check them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; 1 when stale")
    repository = Path()
    if parser.parse_args().check:
        stale = stale_pages(repository)
        sys.stderr.writelines(f"{name} is stale: run `{COMMAND}`\n" for name in stale)
        return 1 if stale else 0
    for name, page in PAGES.items():
        path = repository / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
