"""The audit log loses nothing, says no secret, and is loud when it cannot be written."""

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from script_runner.api.audit import Audit, AuditFile, open_audit
from script_runner.api.auth import Principal
from script_runner.api.client_address import client_address, parse_networks
from script_runner.core.errors import ConfigError, UnavailableError
from script_runner.core.settings import Settings

ADA = Principal("ada", frozenset({"task:read"}), "apikey:00000000")


def scope(client: str = "192.0.2.7", *forwarded: str) -> dict[str, Any]:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    return {
        "type": "http",
        "method": "POST",
        "path": "/task/geheim",
        "query_string": b"q=geheim",
        "headers": [*headers, (b"authorization", b"Bearer geheim")],
        "client": (client, 4711),
    }


def record(audit: Audit, task_id: str = "", **changes: Any) -> None:
    fields: dict[str, Any] = {"action": "submit", "route": "/task/{path:path}", "status": 202}
    fields |= {"code": "", "principal": ADA, "task_id": task_id, **changes}
    audit.record(scope(), **fields)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_says_who_what_whence_and_how_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    record(Audit(AuditFile(str(path))), "0" * 26)
    (line,) = lines(path)
    assert line.pop("time").endswith("Z")
    assert line == {
        "action": "submit",
        "outcome": "done",
        "status": 202,
        "code": "",
        "owner": "ada",
        "credential": "apikey:00000000",
        "client": "192.0.2.7",
        "method": "POST",
        "route": "/task/{path:path}",
        "task": "0" * 26,
    }
    assert "geheim" not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0


@pytest.mark.parametrize(
    ("status", "code", "outcome"),
    [
        (202, "", "done"),
        (304, "", "done"),
        (401, "unauthenticated", "refused"),
        (403, "insufficient_scope", "refused"),
        (404, "not_found", "failed"),
        (200, "not_found", "failed"),
        (503, "unavailable", "failed"),
    ],
)
def test_an_outcome_is_one_of_three_words(
    tmp_path: Path, status: int, code: str, outcome: str
) -> None:
    path = tmp_path / "audit.jsonl"
    record(Audit(AuditFile(str(path))), status=status, code=code)
    assert lines(path)[0]["outcome"] == outcome


def test_nobody_can_begin_a_line_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    owner = 'x"}\n{"action":"submit","owner":"\u2028\u202e\x1b[2J'
    record(Audit(AuditFile(str(path))), principal=Principal(owner, frozenset()))
    assert path.read_bytes().count(b"\n") == 1
    assert path.read_bytes().isascii()
    assert lines(path)[0]["owner"] == owner


def test_lines_are_added_to_what_is_there_each_with_one_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_text('{"old":1}\n')
    writes, real = [], os.write

    def write(descriptor: int, data: bytes) -> int:
        writes.append(data)
        return real(descriptor, data)

    monkeypatch.setattr("script_runner.api.audit.os.write", write)
    # Two processes with one file.
    audits = [Audit(AuditFile(str(path))) for _ in range(2)]
    for number in range(10):
        record(audits[number % 2], str(number))
    assert [data.count(b"\n") for data in writes] == [1] * 10
    assert [line.get("task") for line in lines(path)] == [None, *map(str, range(10))]


def test_after_rotation_the_new_file_is_written(tmp_path: Path) -> None:
    path, old = tmp_path / "audit.jsonl", tmp_path / "audit.jsonl.1"
    audit = Audit(AuditFile(str(path)))
    before = len(os.listdir("/proc/self/fd"))
    record(audit, "1")
    path.rename(old)
    record(audit, "2")
    record(audit, "3")
    path.unlink()
    record(audit, "4")
    path.rename(tmp_path / "audit.jsonl.2")
    path.write_text("")  # as logrotate with `create` leaves it
    record(audit, "5")
    assert [line["task"] for line in lines(old)] == ["1"]
    assert [line["task"] for line in lines(path)] == ["5"]
    assert len(os.listdir("/proc/self/fd")) == before
    # And `copytruncate`.
    os.truncate(path, 0)
    record(audit, "6")
    assert [line["task"] for line in lines(path)] == ["6"]


def test_what_cannot_be_written_is_kept_and_stops_everything_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "audit.jsonl"
    audit, real = Audit(AuditFile(str(path))), os.write
    room = 40  # bytes on the disk

    def write(descriptor: int, data: bytes) -> int:
        nonlocal room
        if room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = real(descriptor, data[:room])
        room -= taken
        return taken

    monkeypatch.setattr("script_runner.api.audit.os.write", write)
    record(audit, "1")
    for _ in range(3):
        with pytest.raises(UnavailableError, match="audit log"):
            audit.require()
    record(audit, "2")  # it was under way
    room = 10**6
    audit.require()
    record(audit, "3")
    torn, *rest = path.read_text().splitlines()
    assert len(torn) == 40
    assert [json.loads(line)["task"] for line in rest] == ["1", "2", "3"]
    events = [item.getMessage() for item in caplog.records if "audit_log" in item.getMessage()]
    assert events == [
        'event=audit_log_failed reason="No space left on device"',
        "event=audit_log_recovered",
    ]


def test_a_folder_that_is_gone_is_a_failure_and_its_return_the_end_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    audit = Audit(AuditFile(str(folder / "audit.jsonl")))
    (folder / "audit.jsonl").unlink()
    folder.rmdir()
    record(audit, "1")
    with pytest.raises(UnavailableError):
        audit.require()
    folder.mkdir()
    audit.require()
    assert [line["task"] for line in lines(folder / "audit.jsonl")] == ["1"]


def test_stderr_can_be_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    audit = open_audit(Settings(audit_log="-"))
    assert audit is not None
    record(audit, "1")
    audit.file.close()
    assert json.loads(capfd.readouterr().err)["task"] == "1"


def test_a_log_that_cannot_be_opened_is_refused_at_the_start(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path, tmp_path / "missing" / "audit.jsonl", tmp_path / "pipe"):
        with pytest.raises(ConfigError, match="AUDIT_LOG"):
            open_audit(Settings(audit_log=str(place)))
    assert open_audit(Settings()) is None


TRUSTED = parse_networks("10.0.0.0/8, 2001:db8::/32")


@pytest.mark.parametrize(
    ("client", "forwarded", "expected"),
    [
        ("192.0.2.7", ["203.0.113.9"], "192.0.2.7"),  # anybody may claim anything
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1", "203.0.113.9, 10.2.3.4"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9:4711"], "203.0.113.9"),
        ("2001:db8::1", ["[2001:dead::9]:443"], "2001:dead::9"),
        ("::ffff:10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["10.9.9.9"], "10.9.9.9"),
        ("10.0.0.1", ["1.1.1.1, geheim"], "10.0.0.1"),
        ("10.0.0.1", ["geheim, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", [], "10.0.0.1"),
    ],
)
def test_only_what_trusted_proxies_say_of_a_client_counts(
    client: str, forwarded: list[str], expected: str
) -> None:
    assert client_address(scope(client, *forwarded), TRUSTED) == expected


def test_without_trusted_proxies_the_client_is_who_connected() -> None:
    assert client_address(scope("10.0.0.1", "203.0.113.9"), []) == "10.0.0.1"
    assert client_address({"type": "http", "client": None, "headers": []}, TRUSTED) == ""


@pytest.mark.parametrize("text", ["proxy.example", "10.0.0.1/8", "10.0.0.0/33", "*"])
def test_proxies_are_addresses_and_networks(text: str) -> None:
    with pytest.raises(ConfigError, match="TRUSTED_PROXIES"):
        parse_networks(text)
