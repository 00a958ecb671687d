"""Rundirs on a real file system, and what dead workers leave in their folder."""

import hashlib
import logging
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from script_runner.core.artifacts import ArtifactStore
from script_runner.core.command import FileInput
from script_runner.core.config import Config, parse_config
from script_runner.core.errors import AttemptError, ConfigError
from script_runner.core.settings import Settings
from script_runner.worker.folder_tree import copy_tree, remove_tree
from script_runner.worker.orphans import ATTEMPT_MARK
from script_runner.worker.rundir import Rundirs
from tests.integration.processes import is_alive, until

SCRIPTS = Path(__file__).parent.parent / "scripts"
TASK = "01jabcdefghjkmnpqrstvwxyz0"


@dataclass(frozen=True)
class Attempt:
    id: str = TASK
    attempt: int = 1
    lease_owner: str = "a1b2c3d4e5f6.1"


MakeRundirs = Callable[..., Rundirs]


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., Config]:
    def make(more: str = "") -> Config:
        return parse_config('{"command": ["true"]' + more + "}", tmp_path)

    return make


@pytest.fixture
def make_rundirs(tmp_path: Path, make_config: Callable[..., Config]) -> Iterator[MakeRundirs]:
    opened: list[Rundirs] = []

    def make(more: str = "", worker: str = "a1b2c3d4e5f6", base: Path | None = None) -> Rundirs:
        settings = Settings(rundir_base=base or tmp_path / "base")
        rundirs = Rundirs.open(settings, make_config(more), worker)
        opened.append(rundirs)
        return rundirs

    yield make
    for rundirs in opened:
        rundirs.close()


def content(folder: Path | str) -> list[str]:
    return sorted(name for name in os.listdir(folder) if not name.startswith(".worker-"))


def test_a_rundir_is_private_and_holds_an_empty_out(make_rundirs: MakeRundirs) -> None:
    rundirs = make_rundirs()
    with rundirs.make(Attempt()) as rundir:
        path = Path(rundir.path)
        assert path.parent == Path(rundirs.folder)
        assert path.name == f"{TASK}-1-a1b2c3d4e5f6"
        for folder in (path.parent, path, path / "out"):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert content(path) == ["out"]
        assert content(path / "out") == []
    assert not path.exists()
    assert content(rundirs.folder) == []


def test_output_files_have_no_name_and_grow_at_their_end(make_rundirs: MakeRundirs) -> None:
    rundirs = make_rundirs()
    with rundirs.make(Attempt()) as rundir:
        fd = rundir.output_fds["stdout"]
        os.write(fd, b"one ")
        os.lseek(fd, 0, os.SEEK_SET)
        os.write(fd, b"two")
        assert Path(rundir.output_paths["stdout"]).read_bytes() == b"one two"
        assert Path(rundir.output_paths["stderr"]).read_bytes() == b""
        assert os.fstat(fd).st_nlink == 0
        assert not os.get_inheritable(fd)
        assert content(rundirs.folder) == [Path(rundir.path).name]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_output_files_work_where_the_file_system_knows_no_nameless_ones(
    make_rundirs: MakeRundirs, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def without_tmpfile(path: str, flags: int, *args: int, **kwargs: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(95, "not supported")
        return real(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", without_tmpfile)
    rundirs = make_rundirs()
    with rundirs.make(Attempt()) as rundir:
        os.write(rundir.output_fds["stderr"], b"text")
        assert Path(rundir.output_paths["stderr"]).read_bytes() == b"text"
        assert content(rundirs.folder) == [Path(rundir.path).name]


def test_two_rundirs_of_the_same_attempt_do_not_meet(make_rundirs: MakeRundirs) -> None:
    rundirs = make_rundirs()
    with rundirs.make(Attempt()) as first, rundirs.make(Attempt()) as second:
        assert first.path != second.path


def test_it_is_removed_whatever_the_script_left(make_rundirs: MakeRundirs) -> None:
    rundirs = make_rundirs()
    with rundirs.make(Attempt()) as rundir:
        environment = {"RUNDIR": rundir.path, "PATH": os.environ["PATH"]}
        subprocess.run([SCRIPTS / "leaves_locked_folders"], env=environment, check=True)
        assert stat.S_IMODE(os.stat(f"{rundir.path}/out").st_mode) == 0
    assert content(rundirs.folder) == []
    assert os.path.exists("/etc")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_locked_folders_are_removed_without_being_root(tmp_path: Path) -> None:
    # Root may read everything, so as root the test above proves little.
    program = """
import os, subprocess, sys
from script_runner.worker.folder_tree import make_as_new, remove_tree
os.setgroups([]), os.setgid(65534), os.setuid(65534)
path = sys.argv[1] + "/rundir"
os.makedirs(path + "/out")
subprocess.run([sys.argv[2]], env={"RUNDIR": path, "PATH": os.environ["PATH"]}, check=True)
try:
    os.listdir(path + "/out")
except PermissionError:
    print("locked")
assert not make_as_new(path, "out")
remove_tree(path)
print(os.listdir(sys.argv[1]))
"""
    # Below /tmp itself: pytest's folders are closed to others.
    folder = Path(f"/tmp/script-runner-test-{os.getpid()}")
    folder.mkdir()
    script = folder / "script"
    try:
        (folder / "work").mkdir()
        os.chown(folder / "work", 65534, 65534)
        script.write_bytes((SCRIPTS / "leaves_locked_folders").read_bytes())
        script.chmod(0o755)
        done = subprocess.run(
            [sys.executable, "-c", program, str(folder / "work"), str(script)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout == "locked\n[]\n", done.stderr
    finally:
        script.unlink(missing_ok=True)
        subprocess.run(["rm", "-r", str(folder)], check=True)


def test_links_are_removed_and_not_what_they_point_to(
    make_rundirs: MakeRundirs, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    (outside / "file").write_text("precious")
    with make_rundirs().make(Attempt()) as rundir:
        os.symlink(outside, f"{rundir.path}/link")
        os.symlink(outside, f"{rundir.path}/out/link")
        os.symlink(outside / "file", f"{rundir.path}/file")
    assert not os.path.lexists(rundir.path)
    assert (outside / "file").read_text() == "precious"
    assert stat.S_IMODE(outside.stat().st_mode) == 0o755


def test_a_rundir_that_became_a_link_is_removed_as_such(
    make_rundirs: MakeRundirs, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("precious")
    rundirs = make_rundirs()
    with rundirs.make(Attempt()) as rundir:
        os.rmdir(f"{rundir.path}/out")
        os.rmdir(rundir.path)
        os.symlink(outside, rundir.path)
    assert content(rundirs.folder) == []
    assert (outside / "file").exists()


def test_a_tree_deeper_than_any_path_is_removed(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    for number in range(3000):
        # Names the flattening uses itself are in the way, too.
        os.mkdir(".1", dir_fd=here)
        Path(f"/proc/self/fd/{here}/file{number % 3}").touch()
        below = os.open(".1", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    remove_tree(str(top))
    assert not top.exists()


def test_100_000_files_are_removed(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    for number in range(10):
        folder = top / f"folder{number}"
        folder.mkdir()
        (folder / "0").touch()
        for name in range(1, 10_000):
            os.link(folder / "0", f"{folder}/{name}")
    began = time.monotonic()
    remove_tree(str(top))
    assert not top.exists()
    assert time.monotonic() - began < 60


def test_a_rundir_that_cannot_be_removed_is_logged(
    make_rundirs: MakeRundirs, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str) -> None:
        raise OSError(16, "Device or resource busy")

    with caplog.at_level(logging.WARNING), monkeypatch.context() as patch:
        with make_rundirs().make(Attempt()) as rundir:
            patch.setattr("script_runner.worker.rundir.remove_tree", fail)
        assert f"event=rundir_stays path={rundir.path}" in caplog.text
    remove_tree(rundir.path)


def test_debug_keeps_the_rundir_and_no_sweep_removes_it(make_rundirs: MakeRundirs) -> None:
    rundirs = make_rundirs(', "debug": true')
    with rundirs.make(Attempt()) as rundir:
        Path(rundir.path, "out", "result").write_text("kept")
    rundirs.close()
    other = make_rundirs(worker="fff")
    other.sweep()
    assert Path(rundir.path, "out", "result").read_text() == "kept"


def test_the_base_is_copied_into_each_rundir(make_rundirs: MakeRundirs, tmp_path: Path) -> None:
    base = tmp_path / "files"
    (base / "sub").mkdir(parents=True)
    (base / "out").mkdir()
    (base / "out" / "given").write_text("1")
    (base / "tool").write_text("#!/bin/sh\n")
    (base / "tool").chmod(0o750)
    (base / "sub").chmod(0o500)
    rundirs = make_rundirs(', "command_rundir_base": "files"')
    for number in (1, 2):
        with rundirs.make(Attempt(attempt=number)) as rundir:
            path = Path(rundir.path)
            assert content(path) == ["out", "sub", "tool"]
            assert (path / "out" / "given").read_text() == "1"
            assert stat.S_IMODE((path / "tool").stat().st_mode) == 0o750
            assert stat.S_IMODE((path / "sub").stat().st_mode) == 0o500
            (path / "tool").write_text("changed")
    assert (base / "tool").read_text() == "#!/bin/sh\n"


def test_nothing_of_an_attempt_is_left_beside_the_base_for_the_next(
    make_rundirs: MakeRundirs, tmp_path: Path
) -> None:
    base = tmp_path / "files"
    (base / "out").mkdir(parents=True)
    (base / "out" / "given").write_text("1")
    (base / "tool").write_text("as it was")
    rundirs = make_rundirs(', "command_rundir_base": "files"')
    for number in (1, 2, 3):
        with rundirs.make(Attempt(attempt=number)) as rundir:
            path = Path(rundir.path)
            assert content(path) == ["out", "tool"]
            assert content(path / "out") == ["given"]
            assert (path / "tool").read_text() == "as it was"
            (path / "tool").write_text("changed")
            (path / "left").write_text("behind")
            (path / "out" / "left").write_text("behind")


def test_links_of_the_base_stay_links_only_inside_it(tmp_path: Path) -> None:
    base, copy, outside = tmp_path / "base", tmp_path / "copy", tmp_path / "outside"
    for folder in (base / "sub", copy, outside / "more"):
        folder.mkdir(parents=True)
    (base / "file").write_text("inside")
    (outside / "file").write_text("outside")
    (outside / "more" / "deep").write_text("deep")
    (base / "sub" / "relative").symlink_to("../file")
    (base / "absolute").symlink_to(base / "file")
    (base / "to_folder").symlink_to("sub")
    (base / "foreign").symlink_to(outside / "file")
    (base / "foreign_folder").symlink_to(outside)
    os.mkfifo(base / "pipe")
    copy_tree(str(base), str(copy))
    assert content(copy) == ["absolute", "file", "foreign", "foreign_folder", "sub", "to_folder"]
    for link in ("sub/relative", "absolute"):
        assert (copy / link).is_symlink()
        assert (copy / link).resolve() == (copy / "file").resolve()
    assert (copy / "to_folder").resolve() == (copy / "sub").resolve()
    assert not (copy / "foreign").is_symlink()
    assert (copy / "foreign").read_text() == "outside"
    assert not (copy / "foreign_folder").is_symlink()
    assert (copy / "foreign_folder" / "more" / "deep").read_text() == "deep"


def test_a_circle_of_links_does_not_fill_the_disk(tmp_path: Path) -> None:
    base, copy, outside = tmp_path / "base", tmp_path / "copy", tmp_path / "outside"
    for folder in (base, copy, outside):
        folder.mkdir()
    (base / "away").symlink_to(outside)
    (outside / "again").symlink_to(outside)
    with pytest.raises(OSError, match="link"):
        copy_tree(str(base), str(copy))


def test_a_base_that_cannot_be_copied_is_our_fault_and_leaves_nothing(
    make_rundirs: MakeRundirs, tmp_path: Path
) -> None:
    base = tmp_path / "files"
    base.mkdir()
    (base / "dangling").symlink_to("/nowhere/at/all")
    rundirs = make_rundirs(', "command_rundir_base": "files"')
    with pytest.raises(AttemptError) as caught:
        rundirs.make(Attempt())
    assert caught.value.task_code == "rundir_failed"
    assert str(tmp_path) not in caught.value.detail
    assert content(rundirs.folder) == []


def test_a_spare_rundir_looks_like_a_new_one(make_rundirs: MakeRundirs) -> None:
    rundirs = make_rundirs()
    rundirs.is_quiet = lambda: True
    with rundirs.make(Attempt(attempt=1)) as first:
        inode = os.stat(first.path).st_ino
        Path(first.path, "secret").write_text("of the first")
        Path(first.path, "out", "secret").write_text("of the first")
        Path(first.path, "empty").mkdir()
        os.write(first.output_fds["stdout"], b"of the first")
        os.set_blocking(first.output_fds["stdout"], False)
    with rundirs.make(Attempt(attempt=2)) as second:
        assert os.stat(second.path).st_ino == inode
        assert Path(second.path).name == f"{TASK}-2-a1b2c3d4e5f6"
        assert not os.path.exists(first.path)
        assert content(second.path) == ["out"]
        assert content(f"{second.path}/out") == []
        for fd in second.output_fds.values():
            assert os.fstat(fd).st_size == 0
            assert os.get_blocking(fd)
        os.write(second.output_fds["stdout"], b"x")
        assert Path(second.output_paths["stdout"]).read_bytes() == b"x"
    rundirs.close()
    assert content(rundirs.folder) == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: os.chmod(path, 0o755),
        lambda path: os.chmod(f"{path}/out", 0o777),
        lambda path: os.rmdir(f"{path}/out"),
        lambda path: os.makedirs(f"{path}/deep/er"),
        lambda path: os.setxattr(path, "user.note", b"1"),
        lambda path: _link(Path(path, "out")),
    ],
)
def test_a_rundir_that_was_changed_is_not_used_again(
    make_rundirs: MakeRundirs, spoil: Callable[[str], None]
) -> None:
    rundirs = make_rundirs()
    rundirs.is_quiet = lambda: True
    with rundirs.make(Attempt(attempt=1)) as first:
        spoil(first.path)
    assert content(rundirs.folder) == []
    with rundirs.make(Attempt(attempt=2)) as second:
        assert content(second.path) == ["out"]
        assert stat.S_IMODE(os.stat(second.path).st_mode) == 0o700
        assert stat.S_IMODE(os.stat(f"{second.path}/out").st_mode) == 0o700
        assert os.listxattr(second.path) == []


def test_nothing_is_used_again_while_a_process_may_be_left(make_rundirs: MakeRundirs) -> None:
    rundirs = make_rundirs()
    rundirs.is_quiet = lambda: False
    with rundirs.make(Attempt()):
        pass
    assert content(rundirs.folder) == []


def test_an_uploaded_file_keeps_its_harmless_name(
    make_rundirs: MakeRundirs, tmp_path: Path
) -> None:
    store = ArtifactStore((tmp_path / "store").as_uri())
    data = b"a,b\n1,2\n"
    store.put(f"{TASK}/inputs/SHEET", data)
    digest = hashlib.sha256(data).hexdigest()

    def upload(name: str, size: int = len(data)) -> FileInput:
        return FileInput(f"{TASK}/inputs/SHEET", size, digest, name)

    names = {
        "plate 7.csv": "plate_7.csv",
        "../../etc/passwd": "passwd",
        "C:\\data\\x.tsv": "x.tsv",
        "-rf": "rf",
        "..": "file",
        "": "file",
    }
    rundirs = make_rundirs()
    for number, (name, kept) in enumerate(names.items()):
        with rundirs.make(Attempt(attempt=number)) as rundir:
            path = Path(rundir.fetch("SHEET", upload(name), store))
            assert path.name == kept
            assert path.read_bytes() == data
            # Beside the rundir: no glob for attachments can meet it.
            assert path.parent.parent == Path(f"{rundir.path}.inputs")
        assert content(rundirs.folder) == []
    with rundirs.make(Attempt()) as rundir, pytest.raises(AttemptError) as caught:
        rundir.fetch("SHEET", upload("x", size=99), store)
    assert caught.value.task_code == "input_damaged"


def test_the_script_starts_beside_its_config_or_in_its_rundir(
    make_rundirs: MakeRundirs, tmp_path: Path
) -> None:
    with make_rundirs().make(Attempt()) as rundir:
        assert rundir.working_directory == str(tmp_path)
    with make_rundirs(', "working_directory": "rundir"', "b").make(Attempt()) as rundir:
        assert rundir.working_directory == rundir.path


def test_command_rundir_comes_first_and_is_relative_to_the_config(
    make_rundirs: MakeRundirs, tmp_path: Path
) -> None:
    assert make_rundirs(', "command_rundir": "runs"').folder == str(tmp_path / "runs")


def test_a_folder_for_everybody_gets_a_private_one_inside(
    make_rundirs: MakeRundirs, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    rundirs = make_rundirs(base=shared)
    assert rundirs.folder == str(shared / f"script-runner-{os.geteuid()}")
    assert stat.S_IMODE(os.stat(rundirs.folder).st_mode) == 0o700
    assert content(shared) == [f"script-runner-{os.geteuid()}"]


def _link(folder: Path) -> None:
    """Put a link to a folder in the place of *folder*."""
    if folder.exists():
        folder.rmdir()
    folder.with_name("real").mkdir()
    folder.symlink_to(folder.with_name("real"))


def _give_away(folder: Path) -> None:
    folder.mkdir()
    os.chown(folder, 65534, -1)


def _loose(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o770)


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (_link, "is a link"),
        (_loose, "chmod go-w"),
        (Path.touch, "is not a folder"),
        (_give_away, "another user"),
    ],
)
def test_a_folder_that_others_rule_is_refused(
    make_rundirs: MakeRundirs, tmp_path: Path, prepare: Callable[[Path], None], words: str
) -> None:
    if words == "another user" and os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    prepare(tmp_path / "base")
    with pytest.raises(ConfigError) as caught:
        make_rundirs()
    assert words in str(caught.value)
    assert str(caught.value).startswith("RUNDIR_BASE: ")


SLEEPER = f"""
import os, sys, time
os.environ.clear()
os.execve("/bin/sleep", ["sleep", "60"], {{"{ATTEMPT_MARK}": sys.argv[1]}})
"""


@pytest.fixture
def leftover() -> Iterator[Callable[[str], int]]:
    """Start a process that belongs to an attempt of the given worker."""
    started: list[subprocess.Popen[bytes]] = []

    def start(worker: str) -> int:
        mark = f"{TASK}/1-{worker}.3"
        process = subprocess.Popen([sys.executable, "-c", SLEEPER, mark], start_new_session=True)
        started.append(process)
        until(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n")
        return process.pid

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_the_leftovers_of_a_dead_worker_are_swept_and_those_of_a_living_one_stay(
    make_rundirs: MakeRundirs, tmp_path: Path, leftover: Callable[[str], int]
) -> None:
    program = """
import sys
from pathlib import Path
from types import SimpleNamespace
from script_runner.core.config import parse_config
from script_runner.core.settings import Settings
from script_runner.worker.rundir import Rundirs
settings = Settings(rundir_base=Path(sys.argv[1]))
config = parse_config('{"command": ["true"]}', Path("/"))
rundirs = Rundirs.open(settings, config, sys.argv[2])
attempt = SimpleNamespace(id=sys.argv[3], attempt=1, lease_owner=f"node-1.lab_{sys.argv[2]}.1")
print(rundirs.make(attempt).path, flush=True)
sys.stdin.read()
"""
    workers = {}
    for name in ("dead1", "living2"):
        workers[name] = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "base"), name, TASK],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    paths = {}
    for name, worker in workers.items():
        assert worker.stdout
        paths[name] = worker.stdout.readline().strip()
    pids = {name: leftover(name) for name in workers}
    pids["dead1 by name"] = leftover("node-1.lab_dead1")
    stranger = leftover("neverseen")
    workers["dead1"].send_signal(signal.SIGKILL)
    workers["dead1"].wait()
    assert os.path.isdir(paths["dead1"])

    make_rundirs(worker="new3").sweep()

    assert not os.path.exists(paths["dead1"])
    assert os.path.isdir(paths["living2"])
    until(lambda: not is_alive(pids["dead1"]) and not is_alive(pids["dead1 by name"]))
    assert is_alive(pids["living2"])
    # Of another folder, perhaps: only who holds its lock can tell that it is dead.
    assert is_alive(stranger)
    locks = sorted(name for name in os.listdir(tmp_path / "base") if name.startswith("."))
    assert locks == [".worker-living2.lock", ".worker-new3.lock"]
    for worker in workers.values():
        worker.kill()
        worker.communicate()


def test_the_name_of_a_worker_makes_no_path_longer(make_rundirs: MakeRundirs) -> None:
    """A socket in a rundir has room for 107 characters of path."""
    with make_rundirs().make(Attempt(lease_owner="node-1.lab_a1b2c3d4e5f6.1")) as rundir:
        assert Path(rundir.path).name == f"{TASK}-1-a1b2c3d4e5f6"


def test_a_sweep_touches_nothing_that_is_not_a_rundir(
    make_rundirs: MakeRundirs, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    base.mkdir(mode=0o700)
    (base / "my notes").mkdir()
    (base / "results-x7").mkdir()
    (base / f"{TASK}-1-gone").mkdir()
    (base / f"{TASK}-2-gone.inputs").mkdir()
    make_rundirs().sweep()
    assert content(base) == ["my notes", "results-x7"]
