"""From pydantic's JSON Schema to the *structural* schema of a CustomResourceDefinition.

Kubernetes takes no ``$ref``, no choice between types and no ``additionalProperties: false``.
What it cannot say becomes a value of any form (``x-kubernetes-preserve-unknown-fields``), never a
narrower one. ``null`` needs no word: the API server drops it where it is not allowed, which is
what it means in config.json too.
"""

from collections.abc import Mapping, Sequence
from typing import Any

Schema = dict[str, Any]

#: Kept as they are. The rest is said otherwise, or belongs to other tools (``title``).
_KEPT = (
    "description",
    "type",
    "format",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "minimum",
    "maximum",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-validations",
)
_NUMBERS = {"integer", "number"}


def structural(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    """Return *schema* in structural form; ``$ref`` is looked up in *definitions*."""
    source = _resolved(schema, definitions)
    found = {key: source[key] for key in _KEPT if key in source}
    for bound, exclusive in (
        ("minimum", "exclusiveMinimum"),
        ("maximum", "exclusiveMaximum"),
    ):
        if exclusive in source:  # a number since draft 6, true or false before
            found[bound], found[exclusive] = source[exclusive], True
    if "items" in source:
        found["items"] = structural(source["items"], definitions)
    if source.get("properties"):
        found["properties"] = {
            name: structural(member, definitions) for name, member in source["properties"].items()
        }
        if source.get("required"):
            found["required"] = list(source["required"])
    elif isinstance(source.get("additionalProperties"), dict):
        found["additionalProperties"] = structural(source["additionalProperties"], definitions)
    if _fills_in(source, found):
        found["default"] = source["default"]
    return _any_value(found) if _has_no_form(found) else found


def number_or_text(schema: Schema) -> Schema:
    """Return the schema of text that may also be written as a whole number."""
    kept = {key: value for key, value in schema.items() if key != "type"}
    return {**kept, "x-kubernetes-int-or-string": True}


def _fills_in(source: Mapping[str, Any], found: Schema) -> bool:
    """Tell if the API server is to write the default into the object."""
    default = source.get("default")
    if default is None or "x-not-filled-in" in source:
        return False
    # An empty part is worth writing when the API server then fills in defaults inside.
    members = found.get("properties", {}).values()
    return default not in ([], {}) or any("default" in member for member in members)


def _has_no_form(found: Mapping[str, Any]) -> bool:
    kind = found.get("type")
    if kind == "object":
        return "properties" not in found and "additionalProperties" not in found
    return kind is None and "x-kubernetes-int-or-string" not in found


def _any_value(found: Schema) -> Schema:
    is_object = found.get("type") == "object"
    kept: Schema = {key: found[key] for key in ("description", "type") if key in found}
    if not is_object:
        kept["nullable"] = True  # null is a value here, not an absent one
    return {**kept, "x-kubernetes-preserve-unknown-fields": True}


def _resolved(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow ``$ref`` and reduce choices; what stands beside them goes before."""
    merged = dict(schema)
    while "$ref" in merged or "anyOf" in merged:
        if "$ref" in merged:
            name = merged.pop("$ref").rpartition("/")[2]
            merged = {**definitions[name], **merged}
        else:
            merged = {**_chosen(merged.pop("anyOf")), **merged}
    if "const" in merged:
        merged["enum"] = [merged.pop("const")]
    return merged


def _chosen(choices: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the one choice besides null; nothing (any value) when there are several."""
    real = [choice for choice in choices if choice.get("type") != "null"]
    if len(real) == 1:
        return real[0]
    if all(set(choice) == {"type"} and choice["type"] in _NUMBERS for choice in real):
        return {"type": "number"}
    return {}
