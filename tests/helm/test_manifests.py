"""manifests/: what helm would install, and samples that are what they say."""

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import generate_chart
from script_runner.core.config import parse_config
from script_runner.operator.crd import resource_schema
from script_runner.operator.resource import parse_resource
from tests.helm.chart import ROOT, Chart, Manifest

SAMPLES = sorted((ROOT / "manifests" / "samples").glob("*.yaml"))

#: Fields that exclude others which everything.yaml has.
EXCLUDED = {
    "spec.configFrom",
    "spec.redis.existingSecret",
    "spec.artifacts.s3",
    "spec.artifacts.volume.existingClaim",
}
#: Their names are the writer's.
MAPS = {"spec.config", "spec.api.auth.scopeMap", "spec.ingress.annotations", "spec.settings"}


def _documents(path: Path) -> list[Manifest]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def _runners() -> Iterator[Any]:
    for path in SAMPLES:
        for document in _documents(path):
            if document["kind"] == "ScriptRunner":
                yield pytest.param(document, id=path.stem)


def _strict(schema: Any) -> Any:
    """Return the CRD's schema for jsonschema: nothing unknown, a quantity is text or a number."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _strict(part) for key, part in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        found["type"] = ["integer", "string"]
    is_object = schema.get("type") == "object" and "properties" in schema
    if is_object and not schema.get("x-kubernetes-preserve-unknown-fields"):
        found.setdefault("additionalProperties", False)
    return found


def _fields(schema: Mapping[str, Any], path: str) -> Iterator[str]:
    for name, part in schema.get("properties", {}).items():
        here = f"{path}.{name}"
        yield here
        if here not in MAPS | EXCLUDED:
            yield from _fields(part.get("items", part), here)


def _given(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, Mapping) and path not in MAPS:
        for name, part in value.items():
            yield f"{path}.{name}"
            yield from _given(part, f"{path}.{name}")
    elif isinstance(value, list):
        for part in value:
            yield from _given(part, path)


def test_the_installation_without_helm_is_fresh(helm: str) -> None:
    wanted = {generate_chart.INSTALL: generate_chart.install_text(helm)}
    assert generate_chart.stale_pages(wanted) == [], "run `make docs`"


def test_the_installation_without_helm_has_all_it_needs_and_nothing_of_helm() -> None:
    documents = _documents(generate_chart.INSTALL)
    kinds = [document["kind"] for document in documents]
    assert kinds[0] == "Namespace"  # the first to be applied
    assert {"Deployment", "ServiceAccount", "ClusterRole", "ClusterRoleBinding"} <= set(kinds)
    # removing the operator must not remove the definition, and so every ScriptRunner
    assert "CustomResourceDefinition" not in kinds
    assert "helm" not in json.dumps(documents).lower()


@pytest.mark.parametrize("runner", list(_runners()))
def test_a_sample_fits_the_definition(runner: Manifest) -> None:
    schema = _strict(resource_schema())
    schema["properties"]["metadata"] = {"type": "object"}
    jsonschema.Draft7Validator(schema).validate(runner)


@pytest.mark.parametrize("runner", list(_runners()))
def test_a_sample_is_understood_by_the_operator(runner: Manifest) -> None:
    metadata = {"namespace": "lab", "uid": "1", **runner["metadata"]}
    spec = parse_resource({**runner, "metadata": metadata}).spec
    if spec.config is not None:
        parse_config(json.dumps(spec.config), Path())


def test_no_sample_runs_whatever_is_the_latest() -> None:
    version = generate_chart.project_version()
    for path in SAMPLES:
        for document in _documents(path):
            if image := document["spec"].get("image"):
                name, _, tag = image.partition(":")
                assert tag not in {"", "latest"}, path
                assert name != "script-runner" or tag == version, path


def test_the_sample_of_everything_has_every_field() -> None:
    (runner,) = _documents(ROOT / "manifests" / "samples" / "everything.yaml")
    wanted = set(_fields(resource_schema()["properties"]["spec"], "spec"))
    assert wanted - set(_given(runner["spec"], "spec")) == EXCLUDED


def test_the_excluded_fields_are_in_other_samples() -> None:
    given = {
        field
        for path in SAMPLES
        for document in _documents(path)
        for field in _given(document.get("spec", {}), "spec")
    }
    assert EXCLUDED - given == {"spec.artifacts.volume.existingClaim"}


def test_the_example_is_the_example() -> None:
    (runner,) = _documents(ROOT / "manifests" / "samples" / "plates.yaml")
    example = json.loads((ROOT / "config.json").read_text(encoding="utf-8"))
    assert runner["spec"]["config"] == example


@pytest.mark.parametrize("name", ["hpa", "keda"])
def test_an_external_scaler_finds_its_scriptrunner(name: str) -> None:
    runner, scaler = _documents(ROOT / "manifests" / "samples" / f"{name}.yaml")
    target = scaler["spec"]["scaleTargetRef"]
    assert target == {
        "apiVersion": runner["apiVersion"],
        "kind": runner["kind"],
        "name": runner["metadata"]["name"],
    }
    assert scaler["metadata"].get("namespace") == runner["metadata"].get("namespace")
    assert runner["spec"]["workers"]["autoscaling"]["mode"] == "External"


def test_the_versions_agree() -> None:
    chart = yaml.safe_load((generate_chart.CHART / "Chart.yaml").read_text(encoding="utf-8"))
    with (ROOT / "pyproject.toml").open("rb") as file:
        version = tomllib.load(file)["project"]["version"]
    assert chart["appVersion"] == version
    assert chart["version"] == generate_chart.chart_version(version)


def test_the_notes_end_with_a_resource_that_can_be_applied(chart: Chart) -> None:
    notes = chart.notes()
    assert "helm test lab" in notes
    _, _, rest = notes.partition("<<'EOF'\n")
    text, end, _ = rest.partition("\nEOF\n")
    assert end
    runner = yaml.safe_load(text)
    (sample,) = _documents(ROOT / "manifests" / "samples" / "greeting.yaml")
    assert runner == sample
