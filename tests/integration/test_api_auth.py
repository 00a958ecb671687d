"""Who may call what: keys, scopes, owners, and an API that asks for no key."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from script_runner.core.apikeys import create_key, revoke_key
from tests.integration.api_server import ApiServer, running_api

EVERYTHING = ("task:submit", "task:read", "task:cancel")


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    create_key(path, "ada", EVERYTHING)
    return path


@pytest.fixture
def api(redis_url: str, tmp_path: Path, key_file: Path) -> Iterator[ApiServer]:
    with running_api(
        redis_url, tmp_path, auth_provider="apikey", auth_apikeys_file=key_file
    ) as server:
        yield server


def key_of(path: Path, owner: str, scopes: Sequence[str] = EVERYTHING) -> Mapping[str, str]:
    """Make a key; the file is read again by the running API."""
    return {"authorization": f"Bearer {create_key(path, owner, scopes)[1]}"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer sr_00000000_" + "x" * 43},
        {"authorization": "Bearer"},
        {"authorization": "Basic YTpi"},
        {"authorization": "Bearer a b"},
        {"x-api-key": "geheim"},
    ],
)
def test_without_a_valid_key_nothing_is_answered(
    api: ApiServer, headers: Mapping[str, str]
) -> None:
    calls = [("POST", "/task"), ("GET", "/task"), ("GET", "/task/x"), ("POST", "/script/x")]
    for method, path in calls:
        answer = api.client.request(method, path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
        assert answer.headers["www-authenticate"].startswith("Bearer ")
        assert "geheim" not in answer.text


def test_both_headers_carry_a_key(api: ApiServer, key_file: Path) -> None:
    text = create_key(key_file, "bob", EVERYTHING)[1]
    for headers in ({"x-api-key": text}, {"authorization": f"bearer {text}"}):
        task_id = api.submit(headers=headers)
        task = api.client.get(f"/task/{task_id}", headers=headers).json()
        assert task["owner"] == "bob"


def test_a_revoked_key_is_refused_at_once(api: ApiServer, key_file: Path) -> None:
    key, text = create_key(key_file, "bob", EVERYTHING)
    headers = {"x-api-key": text}
    assert api.client.get("/task", headers=headers).status_code == 200
    revoke_key(key_file, key.id)
    assert api.client.get("/task", headers=headers).status_code == 401


def test_a_file_of_keys_that_is_gone_lets_nobody_in(api: ApiServer, key_file: Path) -> None:
    headers = key_of(key_file, "bob")
    key_file.unlink()
    answer = api.client.get("/task", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


def test_each_call_needs_its_scope(api: ApiServer, key_file: Path) -> None:
    everything = key_of(key_file, "ada")
    task_id = api.submit(headers=everything)
    calls = [
        ("task:submit", "POST", "/task"),
        ("task:submit", "POST", "/script/x"),
        ("task:read", "GET", "/task"),
        ("task:read", "GET", f"/task/{task_id}"),
        ("task:read", "GET", f"/task/{task_id}/output/stdout"),
        ("task:read", "GET", f"/script/{task_id}"),
        ("task:cancel", "DELETE", f"/task/{task_id}"),
        ("task:cancel", "POST", f"/task/{task_id}/cancel"),
    ]
    for scope in EVERYTHING:
        others = key_of(key_file, "ada", [one for one in EVERYTHING if one != scope])
        only = key_of(key_file, "ada", [scope])
        for needed, method, path in calls:
            expected = needed == scope
            assert (api.client.request(method, path, headers=only).status_code < 300) is expected
            answer = api.client.request(method, path, headers=others)
            assert (answer.status_code == 403) is expected
            if expected:
                assert answer.json()["code"] == "insufficient_scope"
                assert f'scope="{scope}"' in answer.headers["www-authenticate"]


def test_another_owner_sees_a_task_as_if_it_did_not_exist(api: ApiServer, key_file: Path) -> None:
    ada, bob = key_of(key_file, "ada"), key_of(key_file, "bob")
    task_id, unknown = api.submit(headers=ada), "0" * 26
    for method, path in (
        ("GET", "/task/{}"),
        ("DELETE", "/task/{}"),
        ("POST", "/task/{}/cancel"),
        ("GET", "/task/{}/output/stdout"),
        ("GET", "/task/{}/attachments/x"),
        ("GET", "/task/{}/results/0"),
    ):
        mine = api.client.request(method, path.format(task_id), headers=bob)
        none = api.client.request(method, path.format(unknown), headers=bob)
        assert mine.status_code == none.status_code == 404
        assert mine.content == none.content
    legacy = api.client.get(f"/script/{task_id}", headers=bob)
    assert legacy.json() == {"id": task_id, "status": "not-ready"}
    assert api.client.get("/task", headers=bob).json()["tasks"] == []
    assert api.client.get(f"/task/{task_id}", headers=ada).json()["state"] == "queued"


def test_idempotency_keys_are_those_of_one_owner(api: ApiServer, key_file: Path) -> None:
    ids = {
        api.submit(headers={**key_of(key_file, owner), "idempotency-key": "same"})
        for owner in ("ada", "bob")
    }
    assert len(ids) == 2


def test_an_admin_sees_and_cancels_everybodys_tasks(api: ApiServer, key_file: Path) -> None:
    ada, admin = key_of(key_file, "ada"), key_of(key_file, "root", ["admin"])
    task_id = api.submit(headers=ada)
    assert api.client.get(f"/task/{task_id}", headers=admin).json()["owner"] == "ada"
    assert api.client.get("/task", headers=admin).json()["tasks"] == []
    listed = api.client.get("/task?owner=ada", headers=admin).json()["tasks"]
    assert [task["id"] for task in listed] == [task_id]
    assert api.client.get("/task?owner=root", headers=ada).status_code == 403
    assert api.client.delete(f"/task/{task_id}", headers=admin).json()["state"] == "canceled"


def test_probes_and_descriptions_need_no_key(api: ApiServer) -> None:
    for path in ("/livez", "/readyz", "/metrics", "/openapi.json", "/docs", "/health"):
        assert api.client.get(path).status_code == 200
    document = api.client.get("/openapi.json").json()
    assert document["security"] == [{"bearer": []}, {"apiKey": []}]


def test_an_api_with_keys_may_be_called_under_any_name_and_from_any_site(
    api: ApiServer, key_file: Path
) -> None:
    foreign = {"host": "lab.example", "origin": "https://elsewhere.example"}
    api.submit(headers={**key_of(key_file, "ada"), **foreign})


@pytest.fixture
def open_api(redis_url: str, tmp_path: Path) -> Iterator[ApiServer]:
    with running_api(redis_url, tmp_path) as server:
        yield server


@pytest.mark.parametrize(
    ("host", "is_served"),
    [
        ("localhost:8000", True),
        ("LOCALHOST.", True),
        ("127.0.0.1", True),
        ("127.8.9.1:99", True),
        ("[::1]:8000", True),
        ("sub.localhost", True),
        ("rebound.example", False),
        ("127.0.0.1.rebound.example", False),
        ("192.168.0.7", False),
        ("", False),
    ],
)
def test_without_a_login_only_loopback_names_are_served(
    open_api: ApiServer, host: str, is_served: bool
) -> None:
    for method, path in (("GET", "/task"), ("POST", "/task"), ("GET", "/metrics")):
        answer = open_api.client.request(method, path, headers={"host": host})
        assert (answer.status_code < 300) is is_served
        if not is_served:
            assert (answer.status_code, answer.json()["code"]) == (403, "host_refused")


@pytest.mark.parametrize(
    ("headers", "is_allowed"),
    [
        ({}, True),
        ({"sec-fetch-site": "same-origin", "origin": "http://localhost"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"origin": "http://localhost:8000"}, True),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site"}, False),
        ({"origin": "https://elsewhere.example"}, False),
        ({"origin": "http://localhost:9999"}, False),
        ({"origin": "null"}, False),
    ],
)
def test_without_a_login_another_site_changes_nothing(
    open_api: ApiServer, headers: Mapping[str, str], is_allowed: bool
) -> None:
    task_id = open_api.submit()
    sent = {"host": "localhost:8000" if "8000" in str(headers) else "localhost", **headers}
    for method, path in (
        ("POST", "/task"),
        ("POST", "/script/x"),
        ("POST", f"/task/{task_id}/cancel"),
        ("DELETE", f"/task/{task_id}"),
    ):
        answer = open_api.client.request(method, path, headers=sent)
        assert (answer.status_code < 300) is is_allowed
        if not is_allowed:
            assert (answer.status_code, answer.json()["code"]) == (403, "cross_site_refused")
    assert open_api.client.get("/task", headers=sent).status_code == 200


def test_on_another_address_any_name_is_served_without_a_login(
    redis_url: str, tmp_path: Path
) -> None:
    with running_api(redis_url, tmp_path, host="0.0.0.0") as api:
        assert api.client.get("/task", headers={"host": "lab.example"}).status_code == 200
        foreign = {"host": "lab.example", "origin": "https://elsewhere.example"}
        assert api.client.post("/task", headers=foreign).status_code == 403
