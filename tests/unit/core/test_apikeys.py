"""The file of API keys: nothing secret in it, changes whole, a doubtful key refused."""

import json
import stat
import threading
from pathlib import Path

import pytest

from script_runner.core.apikeys import KeyFile, create_key, load_keys, revoke_key
from script_runner.core.errors import ConfigError, NotFoundError, UnavailableError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_a_created_key_is_recognised_with_its_owner_and_scopes(path: Path) -> None:
    key, text = create_key(path, "ada@lab", ["task:read", "task:submit"])
    found = KeyFile(path).verify(text)
    assert found == key
    assert (key.owner, key.scopes) == ("ada@lab", ("task:read", "task:submit"))


def test_the_text_has_the_documented_form_and_is_never_stored(path: Path) -> None:
    key, text = create_key(path, "ada", ["task:read"])
    prefix, identity, secret = text.split("_", 2)
    assert (prefix, identity, len(secret)) == ("sr", key.id, 43)
    assert secret not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-1] + ("A" if text[-1] != "A" else "B"),
        lambda text: text + "x",
        lambda text: text[:-1],
        lambda text: "sr_zzzzzzzz" + text[11:],
        lambda text: " " + text,
        lambda text: text + "\n",
        lambda _text: "",
        lambda _text: "sr_00000000_" + "A" * 43,
        lambda _text: "\udcff" * 3,
    ],
)
def test_anything_but_the_exact_text_is_refused(path: Path, change: object) -> None:
    _key, text = create_key(path, "ada", ["task:read"])
    assert callable(change)
    assert KeyFile(path).verify(change(text)) is None


def test_a_revoked_key_is_refused_by_a_file_that_is_already_open(path: Path) -> None:
    first, first_text = create_key(path, "ada", ["task:read"])
    _second, second_text = create_key(path, "bob", ["task:read"])
    keys = KeyFile(path)
    assert keys.verify(first_text) == first
    assert revoke_key(path, first.id) == first
    assert keys.verify(first_text) is None
    assert keys.verify(second_text) is not None
    with pytest.raises(NotFoundError):
        revoke_key(path, first.id)


def test_a_key_made_later_is_accepted_by_a_file_that_is_already_open(path: Path) -> None:
    create_key(path, "ada", ["task:read"])
    keys = KeyFile(path)
    _key, text = create_key(path, "bob", ["task:read"])
    assert keys.verify(text) is not None


@pytest.mark.parametrize("broken", [b"{", None])
def test_a_file_that_becomes_unreadable_lets_nobody_in(path: Path, broken: bytes | None) -> None:
    _key, text = create_key(path, "ada", ["task:read"])
    whole = path.read_bytes()
    keys = KeyFile(path)
    path.unlink()
    if broken is not None:
        path.write_bytes(broken)
    with pytest.raises(UnavailableError):
        keys.verify(text)
    path.write_bytes(whole)
    assert keys.verify(text) is not None


def test_a_file_that_is_not_there_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    path = tmp_path / "no keys.json"
    words = f"{path} does not exist; make it with `script-runner apikey create --file '{path}' "
    with pytest.raises(ConfigError) as caught:
        KeyFile(path)
    assert str(caught.value) == f"AUTH_APIKEYS_FILE: {words}--owner NAME`"
    with pytest.raises(ConfigError) as caught:
        load_keys(path)
    assert str(caught.value) == f"{words}--owner NAME`"


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^AUTH_APIKEYS_FILE: {tmp_path} cannot be used: Is a"):
        KeyFile(tmp_path)
    missing = tmp_path / "none"
    with pytest.raises(ConfigError, match=f"^{missing} cannot be used: No such file"):
        create_key(missing / "keys.json", "ada", ["task:read"])


def test_every_mistake_in_the_file_is_named(path: Path) -> None:
    entry = {"id": "x", "owner": "a b", "scopes": [], "sha256": "0", "created_at": "now"}
    path.write_text(json.dumps({"keys": [entry]}))
    with pytest.raises(ConfigError) as caught:
        load_keys(path)
    places = [problem.where for problem in caught.value.problems]
    assert places == ["keys[0].id", "keys[0].owner", "keys[0].scopes", "keys[0].sha256"]
    with pytest.raises(ConfigError, match=r"^AUTH_APIKEYS_FILE keys\[0\]\.id: "):
        KeyFile(path)


def test_a_bad_owner_is_refused_and_the_file_is_left_as_it_was(path: Path) -> None:
    create_key(path, "ada", ["task:read"])
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="owner"):
        create_key(path, "a b", ["task:read"])
    assert path.read_bytes() == before
    assert [item.name for item in path.parent.iterdir()] == ["keys.json"]


def test_keys_made_at_the_same_time_are_all_kept(path: Path) -> None:
    threads = [
        threading.Thread(target=create_key, args=(path, f"owner{number}", ["task:read"]))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {key.owner for key in load_keys(path)} == {f"owner{number}" for number in range(8)}


def test_a_symbolic_link_stays_a_link(path: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real = tmp_path / "real" / "keys.json"
    path.symlink_to(real)
    create_key(path, "ada", ["task:read"])
    assert path.is_symlink()
    assert len(load_keys(real)) == 1
