"""The CustomResourceDefinition: structural, described, current, and as wide as config.json."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from script_runner.core.config import config_schema
from script_runner.operator.crd import (
    chart_page,
    crd_manifest,
    main,
    resource_schema,
    stale_pages,
    verbatim,
)
from script_runner.operator.structural import structural
from tests.unit.operator.resource_case import CONFIG_0_18, body
from tests.unit.operator.rule_cases import ACCEPTED

REPOSITORY = Path(__file__).parents[3]
SCHEMA = resource_schema()
SPEC = SCHEMA["properties"]["spec"]["properties"]


def nodes(schema: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every schema with its place."""
    yield where, schema
    for name, member in schema.get("properties", {}).items():
        yield from nodes(member, f"{where}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(schema[key], f"{where}[]")


def as_the_api_server_reads(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON Schema for what Kubernetes' own words mean."""
    found = {key: value for key, value in schema.items() if not key.startswith("x-kubernetes")}
    if schema.get("x-kubernetes-int-or-string"):
        found["type"] = ["integer", "string"]
    if "properties" in schema:
        members = {name: as_the_api_server_reads(one) for name, one in schema["properties"].items()}
        found |= {"properties": members, "additionalProperties": False}
    for key in ("items", "additionalProperties"):
        if key in schema:
            found[key] = as_the_api_server_reads(schema[key])
    if found.pop("exclusiveMinimum", False):
        found["exclusiveMinimum"] = found.pop("minimum")
    return found


def without_nulls(value: Any) -> Any:
    """Return *value* as the API server keeps it: an absent field for a null."""
    if isinstance(value, dict):
        return {key: without_nulls(member) for key, member in value.items() if member is not None}
    return [without_nulls(one) for one in value] if isinstance(value, list) else value


def config_faults(config: Mapping[str, Any]) -> list[str]:
    validator = jsonschema.Draft202012Validator(as_the_api_server_reads(SPEC["config"]))
    return [fault.message for fault in validator.iter_errors(without_nulls(dict(config)))]


def test_the_committed_files_are_current() -> None:
    assert stale_pages(REPOSITORY) == []


def test_a_stale_file_is_found_and_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["crd", "--check"])
    assert main() == 1
    assert "manifests/crd.yaml is stale" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["crd"])
    assert main() == 0
    assert stale_pages(tmp_path) == []
    (tmp_path / "manifests/crd.yaml").write_text("kind: CustomResourceDefinition\n")
    assert stale_pages(tmp_path) == ["manifests/crd.yaml"]


def test_every_field_is_described() -> None:
    undescribed = [
        where
        for where, schema in nodes(SCHEMA)
        if "description" not in schema and where not in ("", ".metadata") and where[-2:] != "[]"
    ]
    assert undescribed == []


def test_the_schema_is_structural() -> None:
    forbidden = {"$ref", "anyOf", "oneOf", "allOf", "not", "if", "const", "title", "$defs"}
    for where, schema in nodes(SCHEMA):
        assert not forbidden & schema.keys(), where
        assert not ("properties" in schema and "additionalProperties" in schema), where
        is_open = schema.get("x-kubernetes-preserve-unknown-fields", False)
        is_number_or_text = schema.get("x-kubernetes-int-or-string", False)
        assert ("type" in schema) != (is_open or is_number_or_text), where


def test_only_what_is_free_json_has_no_form() -> None:
    free = {
        where.rpartition(".")[2]
        for where, schema in nodes(SCHEMA)
        if schema.get("x-kubernetes-preserve-unknown-fields")
    }
    assert free == {"default", "enum[]", "examples[]", "results", "query[]", "body"}


def test_every_list_and_map_under_a_rule_is_bounded() -> None:
    # The API server refuses a rule whose cost it cannot bound.
    for where, schema in nodes(SCHEMA):
        if where.startswith(".spec.config") or where.startswith(".spec.settings"):
            continue
        if schema.get("type") == "array":
            assert "maxItems" in schema, where
        if "additionalProperties" in schema:
            assert "maxProperties" in schema, where
        if schema.get("type") == "string" and "enum" not in schema and "format" not in schema:
            assert "maxLength" in schema or where in (".apiVersion", ".kind"), where


def test_a_default_is_never_written_into_the_config() -> None:
    # It would change the digest of the config, and outlive the version that had it.
    assert [where for where, schema in nodes(SPEC["config"]) if "default" in schema] == []
    retry = SPEC["config"]["properties"]["retry"]["properties"]
    assert retry["max_attempts"]["description"].endswith("Default: 3.")


def test_the_config_knows_every_key_of_config_json() -> None:
    assert set(SPEC["config"]["properties"]) == set(config_schema()["properties"])


def test_a_config_of_0_18_fits() -> None:
    assert config_faults(CONFIG_0_18) == []
    results = CONFIG_0_18["outputs"]["results"]
    assert config_faults({**CONFIG_0_18, "outputs": {"results": [results]}}) == []


def test_the_example_fits() -> None:
    assert config_faults(json.loads((REPOSITORY / "config.json").read_text())) == []


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"command": []},
        {"command": "true"},
        {"command": ["true"], "comand": ["true"]},
        {"command": ["true"], "timeout_seconds": 0},
        {"command": ["true"], "retry": {"on": ["lst"]}},
    ],
)
def test_a_config_that_is_plainly_wrong_does_not_fit(config: dict[str, Any]) -> None:
    assert config_faults(config)


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_right_resource_fits(name: str) -> None:
    spec = without_nulls(body(ACCEPTED[name])["spec"])
    jsonschema.validate(spec, as_the_api_server_reads(SCHEMA["properties"]["spec"]))


def test_defaults_are_those_of_the_models() -> None:
    found = {where: schema["default"] for where, schema in nodes(SCHEMA) if "default" in schema}
    assert found[".spec.workers.concurrency"] == 4
    assert found[".spec.redis"] == {"managed": {"size": "1Gi"}}
    assert found[".spec.artifacts"] == {"volume": {}}
    # Beside existingClaim it would look like something a person chose.
    assert ".spec.artifacts.volume.size" not in found


def test_settings_are_listed_one_by_one() -> None:
    settings = SPEC["settings"]["properties"]
    assert settings["MAX_QUEUED"]["x-kubernetes-int-or-string"] is True
    assert settings["LOG_LEVEL"]["enum"] == ["debug", "info", "warning", "error"]
    assert "REDIS_URL" not in settings


def test_the_chart_has_the_same_definition() -> None:
    lines = chart_page().splitlines()
    rendered = [line.replace('{{ "{{" }}', "{{") for line in lines if "{{- " not in line]
    manifest = yaml.safe_load("\n".join(rendered))
    assert manifest["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert manifest == crd_manifest()


def test_helm_sees_no_template_in_a_description() -> None:
    assert verbatim("a {{ b }}") == 'a {{ "{{" }} b }}'


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, {"type": "string"}),
        ({"anyOf": [{"type": "integer"}, {"type": "number"}]}, {"type": "number"}),
        (
            {"anyOf": [{"type": "string"}, {"type": "integer"}], "description": "a"},
            {
                "description": "a",
                "nullable": True,
                "x-kubernetes-preserve-unknown-fields": True,
            },
        ),
        ({"const": "a", "type": "string"}, {"enum": ["a"], "type": "string"}),
        (
            {"type": "number", "exclusiveMinimum": 0},
            {"type": "number", "minimum": 0, "exclusiveMinimum": True},
        ),
        ({"type": "object"}, {"type": "object", "x-kubernetes-preserve-unknown-fields": True}),
        (
            {"$ref": "#/$defs/Name", "description": "ours"},
            {"type": "string", "description": "ours"},
        ),
    ],
)
def test_what_kubernetes_cannot_say_becomes_wider(
    schema: dict[str, Any], expected: dict[str, Any]
) -> None:
    definitions = {"Name": {"type": "string", "title": "Name", "description": "theirs"}}
    assert structural(schema, definitions) == expected
