"""An API whose callers have tokens, and an identity provider that fails in every way."""

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from script_runner.core.apikeys import create_key
from tests.integration.api_server import ApiServer, running_api, until
from tests.integration.issuer import Issuer, make_certificate, running_issuer
from tests.unit.api.signing import AUDIENCE, claims, ec_key, jwk, jwks, rsa_key, token

EVERYTHING = ("task:submit", "task:read", "task:cancel")
#: Quick, so that a test sees the background at work.
TIMES = {"auth_jwks_refresh_seconds": 0.2, "auth_jwks_refetch_seconds": 0.05}


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with running_issuer() as server:
        yield server


def settings(issuer: Issuer, **changes: Any) -> dict[str, Any]:
    names = {"auth_provider": "oidc", "oidc_issuer": issuer.url, "oidc_audience": AUDIENCE}
    return {**names, **changes}


@pytest.fixture
def api(redis_url: str, tmp_path: Path, issuer: Issuer) -> Iterator[ApiServer]:
    with running_api(redis_url, tmp_path, **settings(issuer, **TIMES)) as server:
        yield server


def status(api: ApiServer, headers: Mapping[str, str], path: str = "/task") -> int:
    return api.client.get(path, headers=headers).status_code


def test_an_owner_sees_a_task_and_another_does_not(api: ApiServer, issuer: Issuer) -> None:
    ada, eve = issuer.headers(sub="ada"), issuer.headers(sub="eve")
    task_id = api.submit(headers=ada)
    task = api.client.get(f"/task/{task_id}", headers=ada).json()
    assert task["owner"] == issuer.url.removeprefix("http://") + "|ada"
    stranger = api.client.get(f"/task/{task_id}", headers=eve)
    unknown = api.client.get(f"/task/{'0' * 26}", headers=eve)
    assert stranger.status_code == 404
    assert stranger.content == unknown.content
    assert api.client.get("/task", headers=eve).json()["tasks"] == []
    admin = issuer.headers(sub="root", scope="admin")
    assert status(api, admin, f"/task/{task_id}") == 200
    listed = api.client.get("/task", params={"owner": task["owner"]}, headers=admin).json()
    assert [one["id"] for one in listed["tasks"]] == [task_id]


def test_each_call_needs_its_scope(api: ApiServer, issuer: Issuer) -> None:
    everything = issuer.headers()
    task_id = api.submit(headers=everything)
    for needed, method, path in (
        ("task:submit", "POST", "/task"),
        ("task:read", "GET", f"/task/{task_id}"),
        ("task:cancel", "DELETE", f"/task/{task_id}"),
    ):
        others = issuer.headers(scope=" ".join(one for one in EVERYTHING if one != needed))
        answer = api.client.request(method, path, headers=others)
        assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope")
        only = issuer.headers(scope=needed)
        assert api.client.request(method, path, headers=only).status_code < 300


def test_every_refusal_is_the_same_answer(api: ApiServer, issuer: Issuer) -> None:
    until(lambda: status(api, issuer.headers()) == 200)
    eve = rsa_key("eve")
    wrong = [
        issuer.token(eve),
        issuer.token(header={"kid": "unknown"}),
        issuer.token(header={"alg": "none"}),
        issuer.token(eve, header={"jwk": jwk(eve, "a")}),
        issuer.token(eve, header={"jku": f"{issuer.url}/eve.json"}),
        issuer.token(header={"crit": ["exp"]}),
        issuer.token(exp=int(time.time()) - 60),
        issuer.token(exp=None),
        issuer.token(aud=None),
        issuer.token(iss="https://evil.example"),
        issuer.token(nbf=int(time.time()) + 120),
        token(b"[" * 4000),
        token(header=b'{"alg":"RS256","kid":"a","x":' + b"[" * 3000 + b"]" * 3000 + b"}"),
        token(claims(iss=issuer.url, pad="x" * 9000)),
        issuer.token() + "=",
        issuer.token().replace(".", "..", 1),
        "x",
    ]
    answers = {
        (answer.status_code, answer.content, answer.headers["www-authenticate"])
        for text in wrong
        for answer in [api.client.get("/task", headers={"authorization": f"Bearer {text}"})]
    }
    assert len(answers) == 1
    code, content, challenge = answers.pop()
    assert code == 401
    assert b"unauthenticated" in content
    assert 'error="invalid_token"' in challenge
    assert "/eve.json" not in issuer.asked


def test_two_authorization_headers_are_refused(api: ApiServer, issuer: Issuer) -> None:
    # A proxy may have looked at the one, and the API at the other.
    good = issuer.headers()["authorization"]
    until(lambda: status(api, issuer.headers()) == 200)
    for pair in ((good, "Bearer x"), ("Bearer x", good), (good, good)):
        answer = api.client.get("/task", headers=[("authorization", text) for text in pair])
        assert answer.status_code == 401


def test_keys_are_fetched_in_the_background_and_not_for_requests(
    redis_url: str, tmp_path: Path, issuer: Issuer
) -> None:
    with running_api(redis_url, tmp_path, **settings(issuer)) as api:
        for number in range(50):
            assert status(api, issuer.headers(sub=str(number))) == 200
        assert issuer.times_asked() == 1
        # However many come: the first may bring a fetch forward, the rest may not.
        headers = [issuer.headers(header={"kid": f"made-up-{n}"}) for n in range(200)]
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda one: status(api, one), headers))
        assert answers == [401] * 200
        assert issuer.times_asked() <= 2


def test_a_new_key_counts_at_once_and_a_withdrawn_one_no_longer(
    api: ApiServer, issuer: Issuer
) -> None:
    old = issuer.headers()
    until(lambda: status(api, old) == 200)
    new = {"authorization": "Bearer " + issuer.token(rsa_key("new"), header={"kid": "new"})}
    assert status(api, new) == 401
    issuer.publish("/jwks.json", jwks(jwk(rsa_key("new"), "new")))
    until(lambda: status(api, new) == 200, 2)
    until(lambda: status(api, old) == 401, 2)


@pytest.mark.parametrize("how", ["500", "garbage", "empty", "secrets", "slow", "flood", "away"])
def test_an_outage_of_the_provider_is_survived(
    redis_url: str, tmp_path: Path, issuer: Issuer, how: str
) -> None:
    times = {**TIMES, "auth_jwks_max_age_seconds": 2.0}
    with running_api(redis_url, tmp_path, **settings(issuer, **times)) as api:
        headers = issuer.headers()
        until(lambda: status(api, headers) == 200)
        good, asked = issuer.answers["/jwks.json"], issuer.times_asked()
        fail = {
            "500": lambda: issuer.publish("/jwks.json", b"", 500),
            "garbage": lambda: issuer.publish("/jwks.json", b"<html>"),
            "empty": lambda: issuer.publish("/jwks.json", b'{"keys":[]}'),
            "secrets": lambda: issuer.publish("/jwks.json", jwks({"kty": "oct", "k": "AAAA"})),
            "slow": lambda: issuer.drip("/jwks.json", b"HTTP/1.1 200 OK\r\n\r\n"),
            "flood": lambda: issuer.flood("/jwks.json"),
            "away": lambda: issuer.publish(
                "/jwks.json", b"", 302, location="https://evil.example/jwks.json"
            ),
        }
        failed_at = time.monotonic()
        fail[how]()
        until(lambda: issuer.times_asked() > asked)
        # Callers with a known token, and with one never seen, are served all the same and at once.
        started = time.monotonic()
        assert status(api, headers) == status(api, issuer.headers(sub="bob")) == 200
        assert time.monotonic() - started < 0.5
        # After the documented time nobody is let in on keys that old, and it is said why.
        until(lambda: status(api, headers) == 503)
        assert time.monotonic() - failed_at > 1
        assert api.client.get("/readyz").json()["auth"] == "unavailable"
        assert api.client.get("/livez").status_code == 200
        issuer.answers["/jwks.json"] = good
        until(lambda: status(api, headers) == 200)
        assert api.client.get("/readyz").status_code == 200


def test_a_provider_that_comes_later_is_found(redis_url: str, tmp_path: Path) -> None:
    with running_issuer() as first:
        port = int(first.url.rpartition(":")[2])
    with running_api(redis_url, tmp_path, **settings(first, **TIMES)) as api:
        assert status(api, first.headers()) == 503
        assert api.client.get("/readyz").status_code == 503
        with running_issuer(port=port) as issuer:
            until(lambda: status(api, issuer.headers()) == 200)
            assert api.client.get("/readyz").status_code == 200


def test_a_slow_provider_holds_nobody_up(redis_url: str, tmp_path: Path, issuer: Issuer) -> None:
    issuer.drip("/jwks.json", b"HTTP/1.1 200 OK\r\n\r\n")
    with (
        running_api(redis_url, tmp_path, **settings(issuer, **TIMES)) as api,
        ThreadPoolExecutor(4) as pool,
    ):
        until(lambda: issuer.times_asked() > 0)
        waiting = [pool.submit(status, api, issuer.headers(sub=str(n))) for n in range(3)]
        longest = 0.0
        for _ in range(50):
            started = time.monotonic()
            assert api.client.get("/livez").status_code == 200
            longest = max(longest, time.monotonic() - started)
        assert longest < 1
        assert not any(one.done() for one in waiting)
        assert [one.result() for one in waiting] == [503] * 3


def test_other_algorithms_are_allowed_by_configuration(
    redis_url: str, tmp_path: Path, issuer: Issuer
) -> None:
    issuer.publish("/jwks.json", jwks(jwk(rsa_key(), "a"), jwk(ec_key("a", "P-384"), "e")))
    changes = {"auth_algorithms": "PS256,ES384"}
    with running_api(redis_url, tmp_path, **settings(issuer, **changes)) as api:
        for key, algorithm, kid, expected in (
            (rsa_key(), "PS256", "a", 200),
            (ec_key("a", "P-384"), "ES384", "e", 200),
            (rsa_key(), "RS256", "a", 401),
        ):
            header = {"algorithm": algorithm, "kid": kid}
            text = issuer.token(key, header=header)
            assert status(api, {"authorization": f"Bearer {text}"}) == expected


def test_scopes_and_owner_come_from_the_claims_that_are_configured(
    redis_url: str, tmp_path: Path, issuer: Issuer
) -> None:
    changes = {
        "auth_owner_claim": "preferred_username",
        "auth_scope_claim": "/realm_access/roles",
        "auth_scope_map": '{"lab-users": "task:submit task:read", "lab-admins": "admin"}',
        "auth_token_type": "at+jwt",
    }
    with running_api(redis_url, tmp_path, **settings(issuer, **changes)) as api:

        def headers(role: str, typ: str = "at+jwt") -> dict[str, str]:
            roles = {"realm_access": {"roles": [role]}, "preferred_username": "ada"}
            return issuer.headers(**roles, header={"typ": typ})

        task_id = api.submit(headers=headers("lab-users"))
        task = api.client.get(f"/task/{task_id}", headers=headers("lab-admins")).json()
        assert task["owner"].endswith("|ada")
        assert status(api, headers("admin")) == 403
        assert status(api, headers("lab-users", "JWT")) == 401


def test_people_by_tokens_and_machines_by_keys(
    redis_url: str, tmp_path: Path, issuer: Issuer
) -> None:
    path = tmp_path / "keys.json"
    _, key = create_key(path, "ada", EVERYTHING)
    changes = {"auth_provider": "apikey,oidc", "auth_apikeys_file": path}
    with running_api(redis_url, tmp_path, **settings(issuer, **changes)) as api:
        machine, person = {"x-api-key": key}, issuer.headers(sub="ada")
        ids = {name: api.submit(headers=one) for name, one in (("m", machine), ("p", person))}
        # Two with the same name are two owners.
        assert status(api, machine, f"/task/{ids['p']}") == 404
        assert status(api, person, f"/task/{ids['m']}") == 404
        # What the one refuses the other does not take, and two credentials are none.
        assert status(api, {"authorization": f"Bearer {key[:-1]}!"}) == 401
        assert status(api, {**person, **machine}) == 401
        document = api.client.get("/openapi.json").json()
        assert document["security"] == [{"bearer": []}, {"apiKey": []}, {"oidc": []}]
        # Machines go on while the people's provider is away.
        assert api.client.get("/readyz").status_code == 200


def test_auth0_works_with_the_variables_of_0_18(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with running_issuer(certificate) as issuer:
        issuer.answers["/.well-known/jwks.json"] = issuer.answers["/jwks.json"]
        changes: dict[str, Any] = {
            "auth_provider": "auth0",
            "auth0_domain": issuer.url.removeprefix("https://"),
            "auth0_api_audience": AUDIENCE,
        }
        with running_api(redis_url, tmp_path, **changes) as api:
            headers = issuer.headers(
                iss=issuer.url + "/", sub="auth0|5f7c", permissions=["task:read", "task:submit"]
            )
            task_id = api.submit(headers=headers)
            owner = api.client.get(f"/task/{task_id}", headers=headers).json()["owner"]
            assert owner == f"{changes['auth0_domain']}|auth0|5f7c"
            # The text in `scope` is what was asked for, not what was granted.
            asked = issuer.headers(iss=issuer.url + "/", scope="admin", permissions=[])
            assert status(api, asked) == 403
