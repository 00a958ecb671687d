"""What the chart takes and what it refuses; what is made from values.yaml is fresh."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

import generate_chart
from tests.helm.chart import CHART, Chart, RefusedError, Rendered

EVERY_VALUE = yaml.safe_load((Path(__file__).parent / "every_value.yaml").read_text())
VALUES = generate_chart.read_values((CHART / "values.yaml").read_text(encoding="utf-8"))

#: Kubernetes' own, or names of somebody's choice.
OPEN = {"annotations", "labels", "nodeSelector", "matchLabels", "global"}
OPEN |= {"nodeAffinity", "podAffinity", "podAntiAffinity"}


def _leaves(values: tuple[generate_chart.Value, ...]) -> Iterator[generate_chart.Value]:
    for value in values:
        if value.children:
            yield from _leaves(value.children)
        else:
            yield value


def _set_at(path: str, value: Any) -> dict[str, Any]:
    for name in reversed(path.split(".")):
        value = {name: value}
    return dict(value)


def _get(values: Mapping[str, Any], path: str) -> Any:
    found: Any = values
    for name in path.split("."):
        found = found[name]
    return found


def _objects(schema: Any, name: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield name, schema
        for key, part in schema.items():
            yield from _objects(part, key)
    elif isinstance(schema, list):
        for part in schema:
            yield from _objects(part, name)


def test_the_defaults_render(default: Rendered) -> None:
    assert len(default.of("Deployment")) == 1


def test_the_values_of_every_key_render(chart: Chart) -> None:
    rendered = chart.render(EVERY_VALUE)
    kinds = {manifest["kind"] for manifest in rendered.manifests}
    assert {"ServiceMonitor", "PrometheusRule", "PodDisruptionBudget", "NetworkPolicy"} <= kinds


def test_every_key_is_among_them() -> None:
    missing = []
    for leaf in _leaves(VALUES):
        try:
            _get(EVERY_VALUE, leaf.path)
        except KeyError:
            missing.append(leaf.path)
    assert missing == []


@pytest.mark.parametrize("leaf", list(_leaves(VALUES)), ids=lambda leaf: leaf.path)
def test_every_value_has_an_effect(chart: Chart, leaf: generate_chart.Value) -> None:
    chosen = _get(EVERY_VALUE, leaf.path)
    if chosen == leaf.default:
        chosen = not chosen  # the booleans that have to stay true for the others to show
    # A value within something that is off by default: that is on, both times.
    switches = (
        _set_at("networkPolicy.egress.enabled", True),
        _set_at("metrics.serviceMonitor.enabled", True),
        _set_at("metrics.prometheusRule.enabled", True),
        _set_at("crds.enabled", True),
    )
    base: dict[str, Any] = {}
    for switch in switches:
        if leaf.path not in _paths(switch):
            base = _merged(base, switch)
    assert chart.render(base) != chart.render(_merged(base, _set_at(leaf.path, chosen)))


def _paths(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _paths(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(first)
    for name, value in second.items():
        is_group = isinstance(value, Mapping) and isinstance(found.get(name), Mapping)
        found[name] = _merged(found[name], value) if is_group else value
    return found


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("replicas", 2),
        ("image.registry", "example.org"),
        ("metrics.serviceMonitor.path", "/"),
        ("resources.limits.gpu", 1),
        ("image.tag", "latest"),
        ("image.digest", "0123"),
        ("logLevel", "verbose"),
        ("resyncSeconds", 1),
        ("namespaces", ["Lab"]),
        ("namespaces", "lab"),
        ("tolerations", [{"keys": "a"}]),
        ("networkPolicy.metricsFrom", [{"podSelectors": {}}]),
        ("affinity.nodeAffinities", {}),
    ],
)
def test_what_is_unknown_or_wrong_is_refused(chart: Chart, path: str, value: Any) -> None:
    with pytest.raises(RefusedError, match=path.rpartition(".")[2]):
        chart.render(_set_at(path, value))


def test_the_chart_can_be_a_part_of_another(chart: Chart) -> None:
    # helm hands `global` to every part; a closed schema that forgets it refuses any parent
    assert chart.render({"global": {"region": "eu"}}) == chart.render()


def test_the_schema_is_closed_everywhere() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    open_ones = {
        name for name, part in _objects(schema) if part.get("additionalProperties") is not False
    }
    assert open_ones == OPEN


def test_what_is_generated_from_the_values_is_fresh() -> None:
    assert generate_chart.stale_pages(generate_chart.pages()) == []


@pytest.mark.parametrize(
    ("project", "semver"),
    [("1.0.0a1", "1.0.0-alpha.1"), ("1.2.0rc3", "1.2.0-rc.3"), ("2.0.1", "2.0.1")],
)
def test_the_chart_has_the_version_of_the_project(project: str, semver: str) -> None:
    assert generate_chart.chart_version(project) == semver


def test_a_value_without_a_comment_is_no_value() -> None:
    with pytest.raises(ValueError, match="b: no comment"):
        generate_chart.read_values("# Says what it is.\na: 1\n\nb: 2\n")
