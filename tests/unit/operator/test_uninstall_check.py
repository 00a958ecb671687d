"""The refusal to uninstall the operator while it is needed."""

import asyncio
from collections.abc import Mapping
from typing import cast

import pytest

from script_runner.operator.cluster import (
    Cluster,
    ClusterError,
    ForbiddenError,
    Listing,
    NotFoundError,
)
from script_runner.operator.uninstall_check import MAX_NAMED, Release, refusal, remaining

RELEASE = Release(name="ours", namespace="operators", revision=3)


class Answers:
    """A cluster that has these names by namespace, or fails with an error."""

    def __init__(self, answers: Mapping[str | None, list[str] | ClusterError]) -> None:
        self._answers = answers

    async def list(
        self, kind: str, namespace: str | None, *, metadata_only: bool = False
    ) -> Listing:
        assert kind == "ScriptRunner"
        assert metadata_only
        answer = self._answers[namespace]
        if isinstance(answer, ClusterError):
            raise answer
        items = [{"metadata": {"namespace": namespace or "lab", "name": name}} for name in answer]
        return Listing(items, "1")


def look(answers: Mapping[str | None, list[str] | ClusterError], *namespaces: str) -> list[str]:
    return asyncio.run(remaining(cast(Cluster, Answers(answers)), namespaces))


def test_without_namespaces_the_whole_cluster_counts() -> None:
    assert look({None: ["plates", "amplicons"]}) == ["lab/amplicons", "lab/plates"]


def test_with_namespaces_only_these_count() -> None:
    assert look({"a": ["one"], "b": [], "c": ["two"]}, "a", "b", "c") == ["a/one", "c/two"]


def test_where_the_kind_is_unknown_nothing_is_left() -> None:
    assert look({None: NotFoundError("the server could not find the requested resource")}) == []


def test_an_answer_that_is_none_is_no_permission_to_go() -> None:
    with pytest.raises(ForbiddenError):
        look({None: ForbiddenError("cannot list")})


def test_the_refusal_names_them_and_every_way_on() -> None:
    text = refusal(["lab/plates"], RELEASE)
    assert "1 ScriptRunner is left:\n  lab/plates\n" in text
    assert "kubectl delete scriptrunners" in text
    assert "helm uninstall ours --namespace operators --no-hooks" in text
    # helm marks a release as going before it asks, and then does not upgrade it
    assert "helm rollback ours 3 --namespace operators" in text


def test_a_long_list_is_cut() -> None:
    names = [f"lab/runner-{number:03}" for number in range(MAX_NAMED + 5)]
    text = refusal(names, RELEASE)
    assert f"{MAX_NAMED + 5} ScriptRunners are left" in text
    assert names[MAX_NAMED - 1] in text
    assert names[MAX_NAMED] not in text
    assert "and 5 more" in text
