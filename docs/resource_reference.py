"""The page docs/reference/scriptrunner.md: every field of the resource, from its schema.

Made of the same structural schema as the CustomResourceDefinition, so the page, ``kubectl
explain`` and what the API server checks cannot differ. ``generate_reference`` writes it.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter

from script_runner.operator import names
from script_runner.operator.crd import crd_manifest
from script_runner.operator.deletion import DRAIN_FINALIZER
from script_runner.operator.desired import desired, internal_secret
from script_runner.operator.facts import Facts
from script_runner.operator.resource import API_VERSION, parse_resource
from script_runner.operator.resource_types import ObjectKey, ObjectName, Quantity, Size
from script_runner.operator.status import TYPES
from script_runner.operator.structural import Schema

HEAD = f"""\
# The resource ScriptRunner

<!-- Generated from the models in operator/script_runner/operator by `make docs`; do not edit. -->

`apiVersion: {API_VERSION}`, `kind: ScriptRunner`, short name `srun`, in a namespace.
This is all that may stand in it: an unknown field is refused, or left out by clients that do not
ask for that. `kubectl explain scriptrunner.spec` says the same. How to use it:
[run on Kubernetes](../how-to/run-on-kubernetes.md); one with everything:
[everything.yaml](../../manifests/samples/everything.yaml).
"""

CONFIG = "spec.config"
#: What the schema has no place for.
NOTES: Mapping[str, str] = {
    "spec.settings": "What each means is in [settings](settings.md). Those that are missing here "
    "the operator sets itself.",
    "status": "Written by the operator alone. What the conditions mean: "
    "[operate on Kubernetes](../how-to/operate-on-kubernetes.md#what-is-wrong).",
}


@dataclass(frozen=True)
class _Word:
    """A type that many fields have: its schema has this pattern and length."""

    word: str
    meaning: str
    kind: Any

    @property
    def pattern(self) -> str:
        return str(self._schema["pattern"])

    @property
    def length(self) -> int:
        return int(self._schema["maxLength"])

    @property
    def _schema(self) -> Schema:
        return TypeAdapter(self.kind).json_schema()

    def fits(self, schema: Schema) -> bool:
        """Tell if a field is of this type."""
        return (schema.get("pattern"), schema.get("maxLength")) == (self.pattern, self.length)


WORDS = (
    _Word("DNS name", "the name of an object of Kubernetes, or of a host", ObjectName),
    _Word("key", "a key of a Secret or ConfigMap", ObjectKey),
    _Word("quantity", "an amount as Kubernetes writes it: `500m`, `2`, `1Gi`", Quantity),
    _Word("size", "the same, in bytes and more than 0", Size),
)


@dataclass
class _Section:
    """A part of the resource, and every place where it stands."""

    schema: Schema
    paths: list[str] = field(default_factory=list)

    @property
    def heading(self) -> str:
        return ", ".join(f"`{path}`" for path in self.paths)

    @property
    def anchor(self) -> str:
        return re.sub(r"[^\w\- ]", "", self.heading).lower().replace(" ", "-")


def resource_page() -> str:
    """Return docs/reference/scriptrunner.md."""
    version = crd_manifest()["spec"]["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]
    sections: list[_Section] = []
    for name in ("spec", "status"):
        _collect(schema["properties"][name], name, sections)
    parts = [HEAD, "\n## `metadata`\n\n", *_rules(schema), "\n## Types\n\n", *_words()]
    for section in sections:
        parts += _render(section, sections)
    parts += [*_printed(version), *_named()]
    return "".join(parts)


def _collect(schema: Schema, path: str, sections: list[_Section]) -> None:
    """Add the part at *path* and those in it; one that was met before only gets a further path."""
    known = next((item for item in sections if _form(item.schema) == _form(schema)), None)
    if known is not None:
        known.paths.append(path)
        return
    sections.append(_Section(schema, [path]))
    for name, member in schema["properties"].items():
        inner, place = _part(member, f"{path}.{name}")
        if inner is not None:
            _collect(inner, place, sections)


def _form(schema: Schema) -> Any:
    return {key: schema.get(key) for key in ("properties", "required", "x-kubernetes-validations")}


def _part(schema: Schema, path: str) -> tuple[Schema | None, str]:
    """Return the part that a field holds, itself or in a list, and its path."""
    if path == CONFIG:
        return None, path
    if "items" in schema:
        return _part(schema["items"], f"{path}[]")
    return (schema if "properties" in schema else None), path


def _render(section: _Section, sections: Sequence[_Section]) -> Iterator[str]:
    path = section.paths[0]
    yield f"\n## {section.heading}\n\n"
    description = section.schema.get("description", "")
    if description and len(section.paths) == 1:
        yield f"{description}\n\n"
    if path in NOTES:
        yield f"{NOTES[path]}\n\n"
    yield "| field | type | default | bounds | meaning |\n|---|---|---|---|---|\n"
    required = section.schema.get("required", ())
    for name, member in section.schema["properties"].items():
        meaning, default = _meaning(member)
        cells = (
            f"`{name}`",
            _kind(member, f"{path}.{name}", sections),
            "required" if name in required else default,
            _bounds(member),
            meaning,
        )
        yield _row(*cells)
    rules = list(_rules(section.schema))
    if rules:
        yield from ("\nRefused with these words:\n\n", *rules)


def _rules(schema: Schema) -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations", ()):
        where = rule.get("fieldPath", "").lstrip(".")
        change = " (when it is changed)" if "oldSelf" in rule["rule"] else ""
        yield f"- {f'`{where}`{change}: ' if where else ''}{rule['message']}\n"


def _meaning(schema: Schema) -> tuple[str, str]:
    """Return what is said of a field, and its default: some are in the description alone."""
    description = " ".join(schema.get("description", "").split())
    if "default" in schema:
        return description, _value(schema["default"])
    said = re.fullmatch(r"(.*?\.) Default:? `?(.+?)`?\.( [A-Z].*)?", description)
    return (said[1] + (said[3] or ""), f"`{said[2]}`") if said else (description, "")


def _value(default: Any) -> str:
    if default in ("", {}):
        return ""
    return f"`{default}`" if isinstance(default, str) else f"`{json.dumps(default)}`"


def _kind(schema: Schema, path: str, sections: Sequence[_Section]) -> str:
    if path == CONFIG:
        return "[config.json](config.md)"
    if "items" in schema:
        return f"list of {_kind(schema['items'], f'{path}[]', sections)}"
    if "properties" in schema:
        found = next(item for item in sections if _form(item.schema) == _form(schema))
        return f"[object](#{found.anchor})"
    if "additionalProperties" in schema:
        return f"object of {_kind(schema['additionalProperties'], path, sections)}"
    if "enum" in schema:
        return ", ".join(f"`{word}`" for word in schema["enum"])
    known = _word_of(schema)
    if known is not None:
        return known.word
    if "x-kubernetes-int-or-string" in schema:  # a setting
        return "number" if "." in schema["pattern"] else "whole number"
    kinds = {"string": "text", "integer": "whole number", "boolean": "true or false"}
    if schema.get("format") == "date-time":
        return "moment"
    return kinds[schema["type"]]


def _word_of(schema: Schema) -> _Word | None:
    return next((word for word in WORDS if word.fits(schema)), None)


def _bounds(schema: Schema) -> str:
    is_said = "enum" in schema or "x-kubernetes-int-or-string" in schema
    if is_said or _word_of(schema) is not None:
        return ""
    found = [
        f"{unit}{_range(schema.get(low), schema.get(high))}"
        for low, high, unit in (
            ("minimum", "maximum", ""),
            ("minItems", "maxItems", "entries: "),
            ("minProperties", "maxProperties", "entries: "),
            ("minLength", "maxLength", "characters: "),
        )
        if low in schema or high in schema
    ]
    if "pattern" in schema:
        found.append(f"`{schema['pattern']}`")
    keys = schema.get("x-kubernetes-list-map-keys", ())
    if keys or schema.get("x-kubernetes-list-type") == "set":
        found.append(f"no {' and '.join(f'`{key}`' for key in keys) or 'entry'} twice")
    return "; ".join(found)


def _range(least: int | None, most: int | None) -> str:
    if most is None:
        return f"{least} or more"
    if least is None:
        return f"at most {most}"
    return f"{least}" if least == most else f"{least} to {most}"


def _row(*cells: str) -> str:
    # Also in code a table's cell ends at a bar.
    escaped = [cell.replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(escaped)} |\n"


def _words() -> Iterator[str]:
    yield "| type | meaning | pattern | at most |\n|---|---|---|---|\n"
    for word in WORDS:
        yield _row(word.word, word.meaning, f"`{word.pattern}`", f"{word.length} characters")


def _printed(version: Mapping[str, Any]) -> Iterator[str]:
    yield "\n## Columns of `kubectl get`\n\n| column | from | meaning |\n|---|---|---|\n"
    for column in version["additionalPrinterColumns"]:
        yield f"| {column['name']} | `{column['jsonPath']}` | {column['description']} |\n"
    scale = version["subresources"]["scale"]
    yield (
        "\n## Subresources\n\n"
        "| subresource | what it is |\n|---|---|\n"
        "| `/status` | `status`; a change of the resource itself leaves it alone |\n"
        f"| `/scale` | sets `{scale['specReplicasPath']}`, shows `{scale['statusReplicasPath']}`; "
        f"the pods by `{scale['labelSelectorPath']}`: for `kubectl scale` and autoscalers |\n"
    )
    yield "\n## Conditions\n\n"
    yield f"{', '.join(f'`{name}`' for name in TYPES)}. What they mean, and each reason: "
    yield "[operate on Kubernetes](../how-to/operate-on-kubernetes.md#what-is-wrong).\n"


def _named() -> Iterator[str]:
    """Say what the operator makes of a resource, and how to find it."""
    yield (
        "\n## What is made of it\n\n"
        "NAME is the name of the resource. What is not asked for is not made: no Ingress without "
        "`spec.ingress`, no Redis of its own with\n`redis.existingSecret`, no volume with "
        "`artifacts.s3`, no disruption budget for one pod of the API.\n\n"
        "| kind | name | component | removed with the resource |\n|---|---|---|---|\n"
    )
    for thing in _objects():
        metadata = thing["metadata"]
        name = metadata["name"].replace(SAMPLE, "NAME").replace("0" * names.HASH_CHARACTERS, "HASH")
        component = metadata["labels"][names.COMPONENT_LABEL]
        is_removed = "yes" if "ownerReferences" in metadata else "no: data stays"
        yield f"| {thing['kind']} | `{name}` | `{component}` | {is_removed} |\n"
    yield "\n| label, annotation, finalizer | value | on |\n|---|---|---|\n"
    on_pods = "all of these, and their pods"
    for label, value in names.labels("NAME", "COMPONENT").items():
        yield f"| `{label}` | `{value}` | {on_pods} |\n"
    yield f"| `{names.MANIFEST_HASH}` | digest of what was wanted | all of these but the Secret |\n"
    yield (
        f"| `{names.SECRETS_HASH}` | changes with each Secret and ConfigMap that pods read when "
        "they start | pods of API and workers |\n"
        f"| `{DRAIN_FINALIZER}` | | the ScriptRunner, with `deletionPolicy: Drain` |\n"
    )


SAMPLE = "sample"


def _objects() -> list[dict[str, Any]]:
    runner = parse_resource(
        {
            "apiVersion": API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": SAMPLE, "namespace": "lab", "uid": "0"},
            "spec": {
                "image": "sample:1",
                "config": {"command": ["true"]},
                "api": {"replicas": 2, "auth": {"provider": ["none"]}},
                "ingress": {"host": "sample.example.org"},
            },
        }
    )
    facts = Facts(
        config_text="{}",
        config_hash="0" * 64,
        config_timeout=None,
        secrets_hash="",
        redis_image="redis",
        password_hash="",
        is_accepting=True,
    )
    return [internal_secret(runner, lambda: ""), *desired(runner, facts)]
