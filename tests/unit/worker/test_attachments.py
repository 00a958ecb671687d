"""Attachments: which files are kept, under which names, and what is refused."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from script_runner.core.config_models import Outputs
from script_runner.core.errors import ScriptError
from script_runner.core.settings import Settings
from script_runner.core.task import Artifact
from script_runner.worker.attachments import collect_attachments
from script_runner.worker.beneath import Beneath
from script_runner.worker.keeper import INLINE_BYTES, Keeper
from script_runner.worker.media_types import media_type_of

Collect = Callable[..., tuple[Artifact, ...]]


@pytest.fixture
def collect(beneath_rundir: Beneath, keep: Keeper) -> Collect:
    def run(*globs: str, limits: Settings | None = None) -> tuple[Artifact, ...]:
        outputs = Outputs.model_validate({"attachments": list(globs)})
        return collect_attachments(outputs, beneath_rundir, keep, limits or Settings())

    return run


@pytest.fixture
def out(collected_rundir: Path) -> Path:
    return collected_rundir / "out"


def test_attachments_are_sorted_and_kept_once(
    collect: Collect, out: Path, kept: Callable[[Artifact], bytes]
) -> None:
    (out / "b.png").write_bytes(b"\x89PNG")
    (out / "a.bin").write_bytes(b"x" * 10_000)
    (out / "deep").mkdir()
    (out / "deep" / "b.png").write_bytes(b"other")
    found = collect("out/*", "**/*.png")
    assert [(artifact.name, artifact.key) for artifact in found] == [
        ("out/a.bin", "attachments/0"),
        ("out/b.png", "attachments/1"),
        ("out/deep/b.png", "attachments/2"),
    ]
    assert [kept(artifact) for artifact in found] == [b"x" * 10_000, b"\x89PNG", b"other"]
    assert found[0].digest == hashlib.sha256(b"x" * 10_000).hexdigest()
    assert found[0].media_type == "application/octet-stream"
    assert found[1].media_type == "image/png"


@pytest.mark.parametrize("size", [0, 1, INLINE_BYTES, INLINE_BYTES + 1, 3_000_000])
def test_every_size_is_kept_whole(
    collect: Collect, out: Path, kept: Callable[[Artifact], bytes], size: int
) -> None:
    data = os.urandom(size)
    (out / "a").write_bytes(data)
    (artifact,) = collect("out/*")
    assert kept(artifact) == data
    assert (artifact.size, artifact.digest) == (size, hashlib.sha256(data).hexdigest())
    assert (artifact.inline is None) == (size > INLINE_BYTES)


def test_no_match_is_no_attachment(collect: Collect) -> None:
    assert collect("out/*.pdf", "gone/**", "out/a.txt") == ()
    assert collect() == ()


@pytest.mark.parametrize("name", ['a "quoted".txt', "line\nend", "\u202egpj.exe", "ä\u0308", "%2e"])
def test_a_name_is_kept_as_the_script_chose_it(collect: Collect, out: Path, name: str) -> None:
    (out / name).write_text("x")
    (artifact,) = collect("out/*")
    assert artifact.name == f"out/{name}"
    assert artifact.key == "attachments/0"


def test_names_that_are_not_utf_8_become_different_json_text(collect: Collect, out: Path) -> None:
    for name in (b"a\xe4", b"a\xf6", "a\ufffd".encode(), "a\ufffd~2".encode()):
        Path(os.fsdecode(os.fsencode(out) + b"/" + name)).write_bytes(name)
    found = collect("out/*")
    names = [artifact.name for artifact in found]
    assert len(set(names)) == 4
    assert json.loads(json.dumps(names, ensure_ascii=False).encode()) == names
    assert {artifact.inline for artifact in found} == {
        b"a\xe4",
        b"a\xf6",
        "a\ufffd".encode(),
        "a\ufffd~2".encode(),
    }


def test_links_folders_and_fifos_are_passed_over(collect: Collect, out: Path) -> None:
    (out / "file").write_text("x")
    (out / "link").symlink_to("file")
    (out / "passwd").symlink_to("/etc/passwd")
    (out / "folder").mkdir()
    (out / "loop").symlink_to(".")
    os.mkfifo(out / "fifo")
    assert [artifact.name for artifact in collect("**", "out/passwd")] == ["out/file"]


def test_a_sparse_file_beyond_the_limit_is_refused_unread(collect: Collect, out: Path) -> None:
    with (out / "sample-7.bin").open("wb") as sparse:
        sparse.truncate(10 * 2**40)
    with pytest.raises(ScriptError) as caught:
        collect("out/*.bin")
    assert caught.value.task_code == "attachment_too_large"
    assert "`out/*.bin`" in caught.value.detail
    assert "sample-7" not in caught.value.detail


def test_a_file_that_grows_while_it_is_read_is_limited(
    collect: Collect, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (out / "a").write_bytes(b"x" * 1000)
    monkeypatch.setattr("script_runner.worker.attachments.read_block", lambda fd, size: b"y" * 1000)
    with pytest.raises(ScriptError) as caught:
        collect("out/*", limits=Settings(max_attachment_bytes=100_000))
    assert caught.value.task_code == "attachment_too_large"


def test_too_many_files_are_refused_and_the_limit_named(collect: Collect, out: Path) -> None:
    for number in range(11):
        (out / str(number)).touch()
    assert len(collect("out/*", limits=Settings(max_attachments=11))) == 11
    with pytest.raises(ScriptError) as caught:
        collect("out/*", limits=Settings(max_attachments=10))
    assert caught.value.task_code == "too_many_attachments"
    assert "MAX_ATTACHMENTS" in caught.value.detail


def test_a_file_that_vanishes_before_it_is_opened_is_left_out(
    collect: Collect, out: Path, beneath_rundir: Beneath, monkeypatch: pytest.MonkeyPatch
) -> None:
    (out / "a").write_text("x")
    (out / "b").write_text("x")
    whole = list(beneath_rundir.glob(["out/*"]))
    (out / "a").unlink()
    monkeypatch.setattr(Beneath, "glob", lambda self, patterns: iter(whole))
    assert [artifact.name for artifact in collect("out/*")] == ["out/b"]


def test_a_file_that_becomes_a_link_before_it_is_opened_is_refused(
    collect: Collect, out: Path, beneath_rundir: Beneath, monkeypatch: pytest.MonkeyPatch
) -> None:
    (out / "a").write_text("x")
    whole = list(beneath_rundir.glob(["out/*"]))
    (out / "a").unlink()
    (out / "a").symlink_to("/etc/passwd")
    monkeypatch.setattr(Beneath, "glob", lambda self, patterns: iter(whole))
    with pytest.raises(ScriptError) as caught:
        collect("out/*")
    assert caught.value.task_code == "attachment_unreadable"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("out/plot.PNG", "image/png"),
        ("a.tar.gz", "application/gzip"),
        ("report.html", "text/html"),
        ("data.csv", "text/csv"),
        ("README", "application/octet-stream"),
        ("x.y/README", "application/octet-stream"),
        ("a.unknown", "application/octet-stream"),
        ("csv", "application/octet-stream"),
    ],
)
def test_the_media_type_follows_the_last_suffix(name: str, expected: str) -> None:
    assert media_type_of(name) == expected
