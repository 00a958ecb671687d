"""The cache: news in any order, an owner for each change, nothing that comes back."""

import json
from typing import Any

import pytest

from script_runner.operator.cache import Cache, RunnerKey, has_scaled

KEY = ("lab", "plates")


class Seen(list[RunnerKey]):
    """The runners that were told of a change since the last look."""

    def take(self) -> list[RunnerKey]:
        found = list(self)
        self.clear()
        return found


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def cache(seen: Seen) -> Cache:
    return Cache(seen.append)


def thing(version: int, *, name: str = "plates-api", is_ours: bool = True, **content: Any) -> Any:
    labels = {
        "app.kubernetes.io/managed-by": "script-runner-operator",
        "app.kubernetes.io/instance": "plates",
    }
    metadata = {
        "name": name,
        "namespace": "lab",
        "uid": f"uid-{name}",
        "resourceVersion": str(version),
        "managedFields": [{"manager": "script-runner-operator"}],
        **({"labels": labels} if is_ours else {}),
    }
    return {"metadata": metadata, **content}


def test_a_change_concerns_the_runner_of_the_labels(cache: Cache, seen: Seen) -> None:
    assert cache.put("Deployment", thing(5))
    assert seen.take() == [KEY]
    assert [item["metadata"]["name"] for item in cache.owned(KEY)] == ["plates-api"]


def test_what_is_no_news_concerns_nobody(cache: Cache, seen: Seen) -> None:
    cache.put("Deployment", thing(5, spec=1))
    seen.clear()
    assert not cache.put("Deployment", thing(5, spec=1))
    assert not cache.put("Deployment", thing(4, spec=0))
    assert seen.take() == []
    found = cache.get("Deployment", "lab", "plates-api")
    assert found is not None
    assert found["spec"] == 1


def test_an_object_that_went_does_not_come_back_by_a_late_answer(cache: Cache, seen: Seen) -> None:
    cache.put("Service", thing(5))
    cache.remove("Service", thing(7))
    assert seen.take() == [KEY, KEY]
    assert not cache.put("Service", thing(6))
    assert cache.get("Service", "lab", "plates-api") is None
    assert cache.put("Service", thing(8))


def test_a_late_end_of_an_older_object_leaves_the_new_one(cache: Cache) -> None:
    cache.put("Service", thing(9))
    cache.remove("Service", thing(7))
    assert cache.get("Service", "lab", "plates-api") is not None


def test_a_list_removes_what_it_lacks_but_not_what_is_newer(cache: Cache, seen: Seen) -> None:
    cache.put("Service", thing(5, name="old"))
    cache.put("Service", thing(12, name="newer"))
    cache.put("Deployment", thing(5, name="of-another-kind"))
    seen.clear()
    cache.replace("Service", None, [thing(6, name="listed")], version=10)
    names = {item["metadata"]["name"] for item in cache.owned(KEY)}
    assert names == {"newer", "listed", "of-another-kind"}
    assert seen.take() == [KEY, KEY]


def test_a_list_of_one_namespace_says_nothing_of_others(cache: Cache) -> None:
    cache.put("Service", thing(5))
    cache.replace("Service", "elsewhere", [], version=10)
    assert cache.get("Service", "lab", "plates-api") is not None


def test_a_runner_hears_of_the_secrets_it_refers_to(cache: Cache, seen: Seen) -> None:
    key = ("Secret", "lab", "token")
    cache.refer(KEY, frozenset({key}))
    cache.put("Secret", thing(5, name="token", is_ours=False))
    cache.put("Secret", thing(6, name="another", is_ours=False))
    assert seen.take() == [KEY]
    cache.remove("Secret", thing(7, name="token", is_ours=False))
    assert seen.take() == [KEY]
    cache.refer(KEY, frozenset())
    cache.put("Secret", thing(8, name="token", is_ours=False))
    assert seen.take() == []


def test_of_a_secret_nothing_is_kept_but_its_version(cache: Cache) -> None:
    secret = thing(5, name="token", is_ours=False, data={"token": "aGVsbG8="})
    cache.put("Secret", secret)
    found = cache.get("Secret", "lab", "token")
    assert found == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "token",
            "namespace": "lab",
            "uid": "uid-token",
            "resourceVersion": "5",
        },
    }


def test_of_a_pod_only_what_is_looked_at_is_kept(cache: Cache) -> None:
    volumes = [{"name": "config", "configMap": {"name": "c"}}, {"name": "tmp", "emptyDir": {}}]
    spec = {"containers": [{"name": "api", "env": []}], "volumes": volumes}
    cache.put("Pod", thing(5, spec=spec, status={"phase": "Running", "hostIP": "10.0.0.1"}))
    (found,) = cache.owned(KEY)
    assert found["spec"] == {"volumes": [volumes[0]]}
    assert found["status"] == {"phase": "Running"}


def test_who_owns_the_number_of_workers_is_known(cache: Cache) -> None:
    deployment = thing(5, spec={"replicas": 1})
    cache.put("Deployment", deployment)
    assert not has_scaled(cache.owned(KEY)[0])
    fields: dict[str, Any] = {"f:spec": {"f:replicas": {}}}
    entry = {"manager": "script-runner-autoscaler", "fieldsV1": fields}
    scaled = thing(6, spec={"replicas": 1})
    scaled["metadata"]["managedFields"].append(entry)
    cache.put("Deployment", scaled)
    assert has_scaled(cache.owned(KEY)[0])


def test_runners_are_known_by_their_own_kind(cache: Cache, seen: Seen) -> None:
    cache.put("ScriptRunner", thing(5, name="plates", is_ours=False))
    assert cache.runners() == [KEY]
    assert seen.take() == [KEY]
    cache.drop("ScriptRunner", "lab", "plates")
    assert cache.runner(KEY) is None
    assert seen.take() == [KEY]


def test_keys_that_are_alike_are_one_string(cache: Cache) -> None:
    # Each answer of the API comes with strings of its own; kept, they were a quarter of the memory.
    for name in ("one", "two"):
        answer = json.dumps(thing(5, name=name, spec={"selector": [{"matchLabels": {}}]}))
        cache.put("Service", json.loads(answer))
    first, second = (next(iter(item["spec"]["selector"][0])) for item in cache.owned(KEY))
    assert first == "matchLabels"
    assert first is second
