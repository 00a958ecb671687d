"""What travels in the task record, and what in the artifact store."""

from pathlib import Path

import pytest

from script_runner.core.artifacts import ArtifactStore
from script_runner.core.task import Artifact
from script_runner.worker.keeper import INLINE_BYTES, INLINE_BYTES_TOTAL, Keeper


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(f"file://{tmp_path}/artifacts")


def keep(keeper: Keeper, number: int, data: bytes) -> Artifact:
    with keeper.writer(f"attachments/{number}") as out:
        out.write(data)
    return out.artifact(f"file-{number}", "text/plain")


@pytest.mark.parametrize(("size", "is_inline"), [(0, True), (INLINE_BYTES, True), (4097, False)])
def test_only_a_few_bytes_travel_in_the_record(
    store: ArtifactStore, size: int, is_inline: bool
) -> None:
    artifact = keep(Keeper(store, "t/1-w"), 0, b"x" * size)
    assert (artifact.inline is not None) == is_inline
    if not is_inline:
        assert b"".join(store.read("t/1-w/attachments/0")) == b"x" * size


def test_many_small_files_do_not_make_a_large_record(store: ArtifactStore) -> None:
    keeper = Keeper(store, "t/1-w")
    data = b"x" * INLINE_BYTES
    artifacts = [keep(keeper, number, data) for number in range(20)]
    inline = [artifact for artifact in artifacts if artifact.inline is not None]
    assert sum(artifact.size for artifact in inline) == INLINE_BYTES_TOTAL
    assert b"".join(store.read("t/1-w/attachments/19")) == data
    assert len({artifact.digest for artifact in artifacts}) == 1
