"""The models of the ScriptRunner resource: what they take, what they refuse, in which words."""

from decimal import Decimal
from typing import Any

import pytest

from script_runner.core.errors import ConfigError, Problem
from script_runner.core.settings import Settings
from script_runner.operator.resource import parse_resource
from script_runner.operator.resource_settings import CHOOSABLE, OPERATOR_SETS, RESERVED_VARIABLES
from script_runner.operator.resource_types import Part, quantity_value
from tests.unit.operator.resource_case import FULL_SPEC, body
from tests.unit.operator.rule_cases import ACCEPTED, CHANGES, REFUSED


def problems_of(resource: dict[str, Any]) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        parse_resource(resource)
    return list(caught.value.problems)


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_right_resource_is_read(name: str) -> None:
    parse_resource(body(ACCEPTED[name]))


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_resource_is_refused_at_its_place(name: str) -> None:
    case = REFUSED[name]
    (problem,) = problems_of(body(case.changes))
    assert problem.where == case.where
    assert case.message in problem.message


def test_every_rule_is_broken_by_a_case() -> None:
    rules = {rule.message: rule for part in Part.__subclasses__() for rule in part.RULES}
    judged_here = {message for message, rule in rules.items() if rule.holds is not None}
    cases = [case.message for case in REFUSED.values() if case.message]
    assert {rule for rule in judged_here if not any(case in rule for case in cases)} == set()
    changes = [case.message for case in CHANGES.values() if case.message]
    others = rules.keys() - judged_here
    assert {rule for rule in others if not any(case in rule for case in changes)} == set()


def test_the_smallest_resource_has_the_documented_defaults() -> None:
    runner = parse_resource(body())
    spec = runner.spec
    assert (spec.api.replicas, spec.workers.replicas, spec.workers.concurrency) == (1, 1, 4)
    assert spec.workers.scaling_mode == "None"
    assert spec.redis.managed is not None
    assert spec.redis.managed.size == "1Gi"
    assert spec.artifacts.volume is not None
    assert spec.artifacts.volume.size == "10Gi"
    assert spec.artifacts.volume.access_modes == ("ReadWriteMany",)
    assert not runner.metadata.is_being_deleted


def test_every_field_keeps_its_value() -> None:
    dumped = parse_resource(body({"spec": FULL_SPEC})).spec.model_dump(
        mode="json", by_alias=True, exclude_unset=True
    )
    api = dumped["api"]["resources"]["limits"]
    assert api["cpu"] == "2"  # a quantity is text for everybody who reads it
    api["cpu"] = 2
    assert dumped["settings"]["MAX_QUEUED"] == "100"
    dumped["settings"]["MAX_QUEUED"] = 100
    assert dumped == FULL_SPEC


def test_every_problem_is_reported_at_once() -> None:
    found = problems_of(
        body(
            {
                "metadata.name": "Plates",
                "spec.image": "",
                "spec.workers.concurrency": 1000,
                "spec.redis": {},
                "spec.artifacts": {},
            }
        )
    )
    assert [problem.where for problem in found] == [
        "metadata.name",
        "spec.image",
        "spec.workers.concurrency",
        "spec.redis",
        "spec.artifacts",
    ]


def test_several_broken_rules_of_one_part_are_reported_at_their_fields() -> None:
    found = problems_of(body({"spec.api.auth.provider": ["oidc", "auth0"]}))
    assert [problem.where for problem in found] == ["spec.api.auth.oidc", "spec.api.auth.auth0"]


@pytest.mark.parametrize("name", ["a.b", "1plates", "plates-", "p" * 41, "Plates"])
def test_a_name_must_fit_a_service(name: str) -> None:
    (problem,) = problems_of(body(name=name))
    assert problem.where == "metadata.name"


def test_a_slip_of_a_field_is_corrected() -> None:
    (problem,) = problems_of(body({"spec.workers.replica": 1}))
    assert problem == Problem("spec.workers.replica", "is unknown; did you mean replicas?")


@pytest.mark.parametrize(
    "field", ["podTemplate", "serviceAccountName", "securityContext", "volumes", "hostPath"]
)
def test_what_would_give_rights_is_unknown(field: str) -> None:
    (problem,) = problems_of(body({f"spec.workers.{field}": {}}))
    assert problem == Problem(f"spec.workers.{field}", "is unknown; remove it")


def test_a_variable_that_is_set_twice_is_refused() -> None:
    twice = [{"name": "TOKEN", "value": "1"}, {"name": "TOKEN", "value": "2"}]
    (problem,) = problems_of(body({"spec.env": twice}))
    assert problem == Problem("spec.env", "has a name twice: TOKEN")


def test_a_setting_of_the_operator_cannot_be_chosen() -> None:
    (problem,) = problems_of(body({"spec.settings": {"REDIS_URL": "redis://elsewhere"}}))
    assert problem.where == "spec.settings.REDIS_URL"
    assert "not a setting that a resource can choose" in problem.message


def test_a_slip_of_a_setting_is_corrected() -> None:
    (problem,) = problems_of(body({"spec.settings": {"MAX_QUEUD": 5}}))
    assert problem.message.endswith("did you mean MAX_QUEUED?")


def test_a_setting_out_of_its_bounds_is_refused_before_a_pod_fails_on_it() -> None:
    (problem,) = problems_of(body({"spec.settings": {"MAX_QUEUED": 0}}))
    assert problem.where == "spec.settings.MAX_QUEUED"


def test_every_setting_is_chosen_here_or_set_by_the_operator_and_no_variable() -> None:
    names = {field.upper() for field in Settings.model_fields}
    of_the_operator = {field.upper() for field in OPERATOR_SETS}
    assert of_the_operator <= names
    assert set(CHOOSABLE) == names - of_the_operator
    assert names <= set(RESERVED_VARIABLES)


@pytest.mark.parametrize(
    ("quantity", "value"),
    [
        ("1", "1"),
        (5, "5"),
        ("500m", "0.5"),
        ("0.5", "0.5"),
        (".5", "0.5"),
        ("5.", "5"),
        ("1Ki", "1024"),
        ("1.5Gi", "1610612736"),
        ("1k", "1000"),
        ("2G", "2000000000"),
        ("1E", "1000000000000000000"),
        ("1Ei", "1152921504606846976"),
        ("1e3", "1000"),
        ("1E3", "1000"),
        ("1e-3", "0.001"),
        ("100n", "0.0000001"),
        ("100u", "0.0001"),
    ],
)
def test_a_quantity_is_read_as_kubernetes_reads_it(quantity: str | int, value: str) -> None:
    assert quantity_value(quantity) == Decimal(value)
