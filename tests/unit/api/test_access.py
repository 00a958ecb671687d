"""Providers, root paths and the guard of an API without login."""

import asyncio
from pathlib import Path

import pytest

from script_runner.api.auth import ApiKeyAuth, NoAuth, Principal, make_provider, provider_names
from script_runner.api.errors import ApiError
from script_runner.api.guard import check_host, check_site, host_name, is_loopback
from script_runner.api.service import check_root_path
from script_runner.core.apikeys import create_key
from script_runner.core.errors import ConfigError
from script_runner.core.settings import Settings


def test_the_provider_is_the_one_that_is_named(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    create_key(path, "ada", ["task:read"])
    assert isinstance(make_provider(Settings(auth_provider="none")), NoAuth)
    keys = make_provider(Settings(auth_provider="apikey", auth_apikeys_file=path))
    assert isinstance(keys, ApiKeyAuth)
    assert {"none", "apikey"} <= set(provider_names())


@pytest.mark.parametrize("name", [None, "jwt", "None", "auth.NoAuth"])
def test_an_unknown_provider_is_refused_and_the_known_are_listed(name: str | None) -> None:
    with pytest.raises(ConfigError, match="there are: apikey, auth0, none, oidc"):
        make_provider(Settings(auth_provider=name))


def test_keys_need_their_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="AUTH_APIKEYS_FILE"):
        make_provider(Settings(auth_provider="apikey"))
    missing = tmp_path / "missing.json"
    with pytest.raises(ConfigError):
        make_provider(Settings(auth_provider="apikey", auth_apikeys_file=missing))


def test_a_key_gives_its_owner_and_scopes(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    _, text = create_key(path, "ada", ["task:read"])
    provider = make_provider(Settings(auth_provider="apikey", auth_apikeys_file=path))
    principal = asyncio.run(provider.authenticate({"x-api-key": text}))
    assert principal == Principal("ada", frozenset({"task:read"}))
    assert principal.has("task:read")
    assert not principal.has("task:submit")


def test_admin_has_every_scope() -> None:
    admin = Principal("root", frozenset({"admin"}))
    assert admin.is_admin
    assert admin.has("task:cancel")


@pytest.mark.parametrize(
    ("text", "base"), [("", ""), ("/", ""), ("/lab/", "/lab"), ("/a/b", "/a/b")]
)
def test_a_root_path_has_no_slash_at_its_end(text: str, base: str) -> None:
    assert check_root_path(text) == base


@pytest.mark.parametrize("text", ["lab", "/lab//x", "/l b", "/task", "/docs/x", "/ä", "//lab"])
def test_a_root_path_that_cannot_work_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="ROOT_PATH"):
        check_root_path(text)


@pytest.mark.parametrize(
    ("host", "name"),
    [("A.b:80", "a.b"), ("[::1]:80", "::1"), ("[::1]", "::1"), ("localhost.", "localhost")],
)
def test_a_host_is_a_name_and_perhaps_a_port(host: str, name: str) -> None:
    assert host_name(host) == name


def test_only_loopback_is_loopback() -> None:
    assert all(is_loopback(name) for name in ("localhost", "a.localhost", "127.9.9.9", "::1"))
    names = ("localhost.example", "0.0.0.0", "10.0.0.1", "::", "2130706433", "127.1", "", "x")
    assert not any(is_loopback(name) for name in names)


def test_reading_may_come_from_anywhere_changing_may_not() -> None:
    foreign = {"host": "localhost", "sec-fetch-site": "cross-site"}
    check_host(foreign)
    check_site("GET", foreign)
    with pytest.raises(ApiError):
        check_site("POST", foreign)
