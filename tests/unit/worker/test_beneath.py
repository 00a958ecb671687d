"""Opening and listing below a rundir; no link is followed."""

import errno
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from script_runner.core.errors import AttemptError, ScriptError
from script_runner.worker import beneath as module
from script_runner.worker.beneath import Beneath


def _blocked(relative: str, flags: int) -> int:
    raise OSError(errno.EPERM, "a seccomp filter that does not know the call")


@pytest.fixture
def rundir(tmp_path: Path) -> Path:
    folder = tmp_path / "rundir"
    (folder / "out").mkdir(parents=True)
    (tmp_path / "secret.txt").write_text("secret")
    return folder


@pytest.fixture(params=["openat2", "stepwise"])
def beneath(
    rundir: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Beneath]:
    """Both ways of opening: what holds for one must hold for the other."""
    if request.param == "stepwise":
        monkeypatch.setattr(module, "_openat2_in", lambda fd: _blocked)
    before = set(os.listdir("/proc/self/fd"))
    with Beneath(rundir) as opened:
        yield opened
    assert set(os.listdir("/proc/self/fd")) == before, "a descriptor was left open"


def content(beneath: Beneath, relative: str) -> bytes:
    fd = beneath.open(relative)
    try:
        return os.read(fd, 1000)
    finally:
        os.close(fd)


def fault_of(beneath: Beneath, relative: str) -> str:
    with pytest.raises(ScriptError) as caught:
        os.close(beneath.open(relative))
    return caught.value.task_code


def test_a_file_is_opened_by_any_spelling_of_its_path(beneath: Beneath, rundir: Path) -> None:
    (rundir / "out" / "a.csv").write_text("rows")
    for spelling in ("out/a.csv", "./out/a.csv", "out//a.csv", "out/../out/a.csv"):
        assert content(beneath, spelling) == b"rows"


@pytest.mark.parametrize(
    "path", ["", ".", "..", "../secret.txt", "out/../../secret.txt", "/etc/passwd", "a\0b"]
)
def test_a_path_that_leaves_the_rundir_is_none(beneath: Beneath, path: str) -> None:
    assert fault_of(beneath, path) == "file_missing"


@pytest.mark.parametrize("path", ["no.csv", "no/a.csv", "out/a.csv/b", "n" * 300, "d/" * 3000])
def test_what_is_not_there_is_missing(beneath: Beneath, rundir: Path, path: str) -> None:
    (rundir / "out" / "a.csv").write_text("rows")
    assert fault_of(beneath, path) == "file_missing"


def test_no_link_is_followed_wherever_it_leads(beneath: Beneath, rundir: Path) -> None:
    (rundir / "a.csv").write_text("rows")
    (rundir / "inside").symlink_to("a.csv")
    (rundir / "outside").symlink_to("../secret.txt")
    (rundir / "absolute").symlink_to("/etc/passwd")
    (rundir / "magic").symlink_to("/proc/self/fd/0")
    (rundir / "dangling").symlink_to("nothing")
    for name in ("inside", "outside", "absolute", "magic", "dangling"):
        assert fault_of(beneath, name) == "file_unreadable"


def test_no_folder_that_is_a_link_is_entered(beneath: Beneath, rundir: Path) -> None:
    (rundir / "up").symlink_to("..")
    with pytest.raises(ScriptError):
        beneath.open("up/secret.txt")
    assert list(beneath.glob(["**/secret.txt", "up/*"])) == []


def test_what_is_no_regular_file_does_not_hang_and_is_refused(
    beneath: Beneath, rundir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(rundir / "fifo")
    (rundir / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(rundir)  # a socket's path may have 108 bytes only
        server.bind("socket")
    for name in ("fifo", "folder", "socket"):
        assert fault_of(beneath, name) == "file_unreadable"


def test_a_hard_link_is_a_file(beneath: Beneath, rundir: Path) -> None:
    (rundir / "a").write_text("rows")
    os.link(rundir / "a", rundir / "b")
    assert content(beneath, "b") == b"rows"


def test_a_rundir_that_was_renamed_is_still_the_same(beneath: Beneath, rundir: Path) -> None:
    (rundir / "a").write_text("rows")
    rundir.rename(rundir.parent / "elsewhere")
    rundir.mkdir()
    (rundir / "a").write_text("other")
    assert content(beneath, "a") == b"rows"


def test_a_rundir_that_became_a_link_is_lost(rundir: Path) -> None:
    rundir.rename(rundir.parent / "elsewhere")
    rundir.symlink_to("elsewhere")
    with pytest.raises(AttemptError):
        Beneath(rundir)


def test_too_many_open_files_is_our_fault(rundir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(relative: str, flags: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(module, "_openat2_in", lambda fd: full)
    with Beneath(rundir) as opened, pytest.raises(AttemptError):
        opened.open("out/a.csv")


@pytest.fixture
def make_tree(rundir: Path) -> Callable[..., None]:
    def make(*paths: str) -> None:
        for path in paths:
            (rundir / path).parent.mkdir(parents=True, exist_ok=True)
            (rundir / path).write_text("x")

    return make


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["out/*.csv"], ["out/a.csv", "out/b.csv"]),
        (["out/a.csv"], ["out/a.csv"]),
        (["/out/a.csv", "./out//b.csv"], ["out/a.csv", "out/b.csv"]),
        (["*/*"], ["out/a.csv", "out/b.csv", "out/c.txt"]),
        (["**/*.csv"], ["out/a.csv", "out/b.csv", "out/deep/er/a.csv", "top.csv"]),
        (["**/deep/**/*.csv"], ["out/deep/er/a.csv"]),
        (["out/**"], ["out/a.csv", "out/b.csv", "out/c.txt", "out/deep/er/a.csv"]),
        (["out/[ab].csv", "out/?.txt"], ["out/a.csv", "out/b.csv", "out/c.txt"]),
        (["out/.*"], ["out/.hidden"]),
        ([".d/*"], [".d/x"]),
        (["out", "nothing", "nothing/*", ""], []),
        (["*.CSV"], []),
    ],
)
def test_a_glob_matches_as_a_shell_does(
    beneath: Beneath,
    make_tree: Callable[..., None],
    patterns: list[str],
    expected: list[str],
) -> None:
    make_tree("top.csv", "out/a.csv", "out/b.csv", "out/c.txt", "out/deep/er/a.csv")
    make_tree("out/.hidden", ".d/x")
    assert sorted(path for path, _ in beneath.glob(patterns)) == expected


def test_a_file_is_found_once_with_the_first_glob_that_matches(
    beneath: Beneath, make_tree: Callable[..., None]
) -> None:
    make_tree("out/a.csv")
    globs = ["no/*", "**/**/*", "out/*", "**"]
    assert list(beneath.glob(globs)) == [("out/a.csv", "**/**/*")]


def test_a_glob_with_many_stars_takes_one_walk(
    beneath: Beneath, make_tree: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tree("a/" * 60 + "x")
    monkeypatch.setattr(module, "MAX_ENTRIES", 100)
    assert [path for path, _ in beneath.glob(["**/" * 20 + "x"])] == ["a/" * 60 + "x"]


def test_a_glob_that_leaves_the_rundir_is_refused(beneath: Beneath) -> None:
    with pytest.raises(ScriptError):
        list(beneath.glob(["../*"]))


def test_a_glob_yields_regular_files_only(beneath: Beneath, rundir: Path) -> None:
    os.mkfifo(rundir / "fifo")
    (rundir / "link").symlink_to("../secret.txt")
    (rundir / "file").write_text("x")
    assert [path for path, _ in beneath.glob(["*", "link", "fifo"])] == ["file"]


def test_a_search_without_end_is_given_up(
    beneath: Beneath, make_tree: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tree(*(f"out/{number}" for number in range(30)))
    monkeypatch.setattr(module, "MAX_ENTRIES", 20)
    with pytest.raises(ScriptError) as caught:
        list(beneath.glob(["**/*.csv"]))
    assert caught.value.task_code == "too_many_attachments"


def test_folders_too_deep_to_be_named_are_passed_over(
    beneath: Beneath, rundir: Path, make_tree: Callable[..., None]
) -> None:
    make_tree("out/a")
    at = os.open(rundir, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=at)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    assert [path for path, _ in beneath.glob(["**"])] == ["out/a"]
