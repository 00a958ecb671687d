"""What the tests of collecting share: a rundir with files, and a keeper to read from."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from script_runner.core.artifacts import ArtifactStore
from script_runner.core.task import Artifact
from script_runner.worker.beneath import Beneath
from script_runner.worker.keeper import Keeper
from tests.unit.worker.result_case import Case

PREFIX = "task/1-owner"


@pytest.fixture
def collected_rundir(tmp_path: Path) -> Path:
    folder = tmp_path / "rundir"
    (folder / "out").mkdir(parents=True)
    return folder


@pytest.fixture
def beneath_rundir(collected_rundir: Path) -> Iterator[Beneath]:
    with Beneath(collected_rundir) as opened:
        yield opened


@pytest.fixture
def artifact_store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore((tmp_path / "store").as_uri())


@pytest.fixture
def keep(artifact_store: ArtifactStore) -> Keeper:
    return Keeper(artifact_store, PREFIX)


@pytest.fixture
def kept(artifact_store: ArtifactStore) -> Callable[[Artifact], bytes]:
    """Read the bytes of an artifact, wherever they lie."""

    def read(artifact: Artifact) -> bytes:
        if artifact.inline is not None:
            return artifact.inline
        return b"".join(artifact_store.read(f"{PREFIX}/{artifact.key}"))

    return read


@pytest.fixture
def case(
    collected_rundir: Path,
    beneath_rundir: Beneath,
    keep: Keeper,
    kept: Callable[[Artifact], bytes],
) -> Case:
    return Case(collected_rundir, beneath_rundir, keep, kept)
