"""Whether a live object still is what we want: no false alarm, and nothing missed."""

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from script_runner.operator.desired import desired
from script_runner.operator.drift import ABSENT, differs
from tests.unit.operator.sample import FULL, make_facts, make_runner

Manifest = dict[str, Any]
Place = tuple[str | int, ...]

MANIFESTS = desired(make_runner(FULL), make_facts())
#: Below these, a thing more says something else.
EXACT = {"ingress", "labelSelector", "podSelector", "selector"}
#: Lists that others may add entries to.
MERGED = ("containers", "env", "volumes", "volumeMounts", "ownerReferences")


def leaves(value: Any, place: Place = ()) -> Iterator[Place]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, (*place, key))
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from leaves(item, (*place, index))
    else:
        yield place


def change(manifest: Manifest, place: Place, to: Callable[[Any], Any]) -> Manifest:
    changed = copy.deepcopy(manifest)
    item: Any = changed
    for step in place[:-1]:
        item = item[step]
    item[place[-1]] = to(item[place[-1]])
    return changed


def other(value: Any) -> Any:
    """Return another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return [{}] if isinstance(value, list) else f"1{value}"


PLACES = [(manifest, place) for manifest in MANIFESTS for place in leaves(manifest)]


def with_defaults(value: Any, add: Callable[[], bool], place: tuple[str, ...] = ()) -> Any:
    """Return *value* as an API server, or a side-car's author, may have added to it."""
    if isinstance(value, Mapping):
        full = {key: with_defaults(item, add, (*place, key)) for key, item in value.items()}
        return {**full, "aDefault": {"of": "theirs"}} if add() and not EXACT & {*place} else full
    if isinstance(value, list):
        entries = [with_defaults(item, add, place) for item in value]
        if place and place[-1] in MERGED and add():
            strange = {"name": "theirs", "mountPath": "/theirs", "uid": "theirs"}
            entries.insert(0 if add() else len(entries), strange)
        return entries
    return value


@given(manifest=st.sampled_from(MANIFESTS), data=st.data())
def test_what_others_added_is_no_difference(manifest: Manifest, data: st.DataObject) -> None:
    live = with_defaults(manifest, lambda: data.draw(st.booleans()))
    assert differs(manifest, live) is None


@given(case=st.sampled_from(PLACES), data=st.data())
def test_any_changed_value_is_found(case: tuple[Manifest, Place], data: st.DataObject) -> None:
    manifest, place = case
    live = with_defaults(change(manifest, place, other), lambda: data.draw(st.booleans()))
    assert differs(manifest, live) is not None


@given(case=st.sampled_from(PLACES))
def test_any_missing_value_is_found(case: tuple[Manifest, Place]) -> None:
    manifest, place = case
    value: Any = manifest
    for step in place:
        value = value[step]
    found = differs(manifest, change(manifest, place, lambda _: None))
    assert (found is None) == (value in ("", [], {}))


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda item: item["kind"])
def test_an_object_is_not_unlike_itself(manifest: Manifest) -> None:
    assert differs(manifest, copy.deepcopy(manifest)) is None
    assert differs(manifest, None) == ABSENT


@pytest.mark.parametrize(
    ("place", "wanted", "live"),
    [
        ("resources.requests.cpu", "1000m", "1"),
        ("resources.requests.cpu", "0.5", "500m"),
        ("resources.limits.memory", "1Gi", "1073741824"),
        ("resources.limits.memory", "1e3", "1k"),
        ("emptyDir.sizeLimit", "1024Mi", "1Gi"),
        ("capacity.storage", "0.5Gi", "512Mi"),
        ("emptyDir", {}, None),
        ("annotations", None, {}),
        ("annotations", {}, {"theirs": "x"}),
        ("env.value", "", None),
        ("ingress", [], None),
        ("security.options", {"windows": {}}, None),
    ],
)
def test_the_same_in_another_spelling_is_no_difference(place: str, wanted: Any, live: Any) -> None:
    assert differs(_nested(place, wanted), _nested(place, live)) is None


@pytest.mark.parametrize(
    ("place", "wanted", "live"),
    [
        ("resources.requests.cpu", "1000m", "2"),
        ("resources.requests.cpu", "1", None),
        ("resources.limits.memory", "1Gi", "1G"),
        ("data.size", "1Gi", "1073741824"),
        ("annotations.cpu", "1000m", "1"),
        ("port", 80, "80"),
        ("port", "80", 80),
        ("flag", True, 1),
        ("flag", 0, False),
        ("flag", False, None),
        ("count", 0, None),
        ("ingress", [], [{}]),
        ("policyTypes", ["Ingress"], ["Ingress", "Egress"]),
        ("args[0]", ["a", "b"], ["b", "a"]),
        ("selector.more", {"app": "a"}, {"app": "a", "more": "b"}),
        ("name", {"a": 1}, "a"),
        ("name", None, "a"),
    ],
)
def test_what_looks_alike_is_told_apart(place: str, wanted: Any, live: Any) -> None:
    field = place.removesuffix("[0]").removesuffix(".more")
    assert differs(_nested(field, wanted), _nested(field, live)) == place


def _nested(place: str, value: Any) -> Manifest:
    first, _, rest = place.partition(".")
    return {first: _nested(rest, value) if rest else value}


def test_entries_of_a_merged_list_are_found_by_their_key() -> None:
    wanted = {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}
    live = {"env": [{"name": "B", "value": "2"}, {"name": "X"}, {"name": "A", "value": "1"}]}
    assert differs(wanted, live) is None
    live["env"][0]["value"] = "3"
    assert differs(wanted, live) == "env[B].value"
    del live["env"][0]
    assert differs(wanted, live) == "env[B]"


def test_one_volume_mounted_twice_is_compared_by_where() -> None:
    wanted = {
        "volumeMounts": [{"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/b"}],
    }
    assert differs(wanted, {"volumeMounts": wanted["volumeMounts"][::-1]}) is None
    live = {"volumeMounts": [{"name": "v", "mountPath": "/a"}, {"name": "w", "mountPath": "/b"}]}
    assert differs(wanted, live) == "volumeMounts[/b].name"


def test_a_peer_that_somebody_added_to_a_policy_is_found() -> None:
    (policy,) = (
        item
        for item in MANIFESTS
        if item["kind"] == "NetworkPolicy" and item["metadata"]["name"] == "plates-redis"
    )
    for place in ("from", "ports"):
        live = copy.deepcopy(policy)
        live["spec"]["ingress"][0][place].append({"port": 1, "podSelector": {}})
        assert differs(policy, live) == f"spec.ingress[0].{place}"
    live = copy.deepcopy(policy)
    live["spec"]["ingress"][0]["from"][0]["namespaceSelector"] = {"matchLabels": {"a": "b"}}
    assert differs(policy, live) == "spec.ingress[0].from[0].namespaceSelector"


def test_a_port_that_somebody_added_to_the_service_is_theirs() -> None:
    (service,) = (
        item for item in MANIFESTS if item["kind"] == "Service" if "redis" not in str(item)
    )
    live = copy.deepcopy(service)
    live["spec"]["ports"].insert(0, {"name": "theirs", "port": 81})
    assert differs(service, live) is None


def test_a_value_is_never_told() -> None:
    found = differs({"data": {"token": "hunter2"}}, {"data": {"token": "hunter3"}})
    assert found == "data.token"
