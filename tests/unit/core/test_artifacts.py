"""The artifact store in a directory."""

import hashlib
import os
import resource
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from script_runner.core.artifacts import BLOCK_BYTES, ArtifactStore
from script_runner.core.errors import ConfigError, NotFoundError, UnavailableError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> ArtifactStore:
    return ArtifactStore(root.as_uri())


@pytest.fixture
def full_disk() -> Iterator[None]:
    """A write beyond 64 KiB fails, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def files_below(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_what_was_put_is_read_again(store: ArtifactStore) -> None:
    store.put("task/1-own/results/0", b"rows")
    assert b"".join(store.read("task/1-own/results/0")) == b"rows"
    assert store.size("task/1-own/results/0") == 4


def test_an_object_appears_only_when_it_is_whole(store: ArtifactStore) -> None:
    with store.writer("task/a") as writer:
        writer.write(b"first")
        with pytest.raises(NotFoundError):
            store.read("task/a")
        writer.write(b" second")
    assert b"".join(store.read("task/a")) == b"first second"
    assert writer.size == 12
    assert writer.digest == hashlib.sha256(b"first second").hexdigest()


def test_nothing_stays_of_an_object_whose_writing_failed(store: ArtifactStore, root: Path) -> None:
    def fail_half_way() -> None:
        with store.writer("task/a") as writer:
            writer.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert files_below(root) == []


def test_a_second_writer_replaces_the_object(store: ArtifactStore) -> None:
    store.put("task/a", b"old and long")
    store.put("task/a", b"new")
    assert b"".join(store.read("task/a")) == b"new"


def test_only_the_owner_may_read_files_and_folders(store: ArtifactStore, root: Path) -> None:
    old_mask = os.umask(0)
    try:
        store.put("task/1-own/results/0", b"secret")
    finally:
        os.umask(old_mask)
    modes = {
        str(path.relative_to(root.parent)): stat.S_IMODE(path.stat().st_mode)
        for path in (root, *root.rglob("*"))
    }
    assert modes == {
        "store": 0o700,
        "store/task": 0o700,
        "store/task/1-own": 0o700,
        "store/task/1-own/results": 0o700,
        "store/task/1-own/results/0": 0o600,
    }


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(0, None, b"0123456789"), (3, 5, b"34"), (8, 99, b"89"), (10, None, b""), (5, 5, b"")],
)
def test_a_part_is_read(store: ArtifactStore, start: int, end: int | None, expected: bytes) -> None:
    store.put("task/a", b"0123456789")
    assert b"".join(store.read("task/a", start, end)) == expected


def test_a_large_object_is_read_in_blocks(store: ArtifactStore) -> None:
    data = bytes(range(256)) * (3 * BLOCK_BYTES // 256) + b"end"
    store.put("task/a", data)
    blocks = list(store.read("task/a"))
    assert b"".join(blocks) == data
    assert max(map(len, blocks)) == BLOCK_BYTES


def test_an_empty_object_is_an_object(store: ArtifactStore) -> None:
    store.put("task/a", b"")
    assert list(store.read("task/a")) == []
    assert store.size("task/a") == 0


def test_an_unknown_key_is_not_found_before_the_first_block(store: ArtifactStore) -> None:
    with pytest.raises(NotFoundError):
        store.read("task/a")
    store.put("task/a", b"x")
    with pytest.raises(NotFoundError):
        store.read("task/a/b")


def test_a_task_is_removed_with_all_it_has_and_no_other(store: ArtifactStore, root: Path) -> None:
    store.put("task/inputs/FILE", b"x")
    store.put("task/1-own/stdout/0", b"x")
    store.put("task2/a", b"x")
    store.delete_prefix("task")
    store.delete_prefix("task")
    assert files_below(root) == ["task2/a"]


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "/etc/passwd",
        "a/../b",
        "..",
        "a//b",
        "a/",
        "./a",
        "a/.b",
        "a\nb",
        "a b",
        "ä",
        "a\0",
    ],
)
def test_a_key_that_is_none_of_ours_is_refused(store: ArtifactStore, key: str) -> None:
    with pytest.raises(ValueError, match="not a key"):
        store.put(key, b"x")
    with pytest.raises(ValueError, match="not a key"):
        store.read(key)
    with pytest.raises(ValueError, match="not a key"):
        store.delete_prefix(key)


def test_a_full_disk_is_unavailable_and_leaves_nothing(
    store: ArtifactStore, root: Path, full_disk: None
) -> None:
    with pytest.raises(UnavailableError) as caught:
        store.put("task/a", b"x" * 1_000_000)
    assert str(root) not in str(caught.value)
    assert files_below(root) == []


def test_a_store_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    store = ArtifactStore((tmp_path / "file" / "store").as_uri())
    with pytest.raises(UnavailableError) as caught:
        store.check()
    assert str(tmp_path) not in str(caught.value)
    with pytest.raises(UnavailableError):
        store.put("task/a", b"x")


def test_a_check_leaves_no_file(store: ArtifactStore, root: Path) -> None:
    store.check()
    assert root.is_dir()
    assert files_below(root) == []


def test_nothing_is_made_before_the_first_use(root: Path) -> None:
    ArtifactStore(root.as_uri())
    assert not root.exists()


def test_a_folder_with_a_space_is_named_by_its_url(tmp_path: Path) -> None:
    store = ArtifactStore((tmp_path / "two words").as_uri())
    store.put("a", b"x")
    assert (tmp_path / "two words" / "a").exists()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/var/lib/store",
        "file://relative/dir",
        "file:///",
        "gs://bucket/prefix",
        "s3://",
        "s3://Bucket_Name/x",
        "s3://bucket/a/../b",
        "s3://key:hunter2@bucket/prefix",
    ],
)
def test_an_unusable_url_is_told_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ArtifactStore(url)
    assert caught.value.problems[0].where == "ARTIFACTS_URL"
    assert "hunter2" not in str(caught.value)


def test_s3_without_s3fs_tells_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ConfigError, match=r"pip install 'script-runner\[s3\]'"):
        ArtifactStore("s3://bucket/prefix")


def test_a_link_to_nowhere_in_the_way_is_an_error_and_no_endless_loop(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    store = ArtifactStore(f"file://{tmp_path}/link/artifacts")
    with pytest.raises(UnavailableError):
        store.put("t/x", b"1")
    with pytest.raises(UnavailableError):
        store.check()
