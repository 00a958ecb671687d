"""The name of whoever holds a lease, put together and taken apart."""

import re
from pathlib import Path

import pytest

from script_runner.core.artifacts import ArtifactStore
from script_runner.core.lease_owner import instance_of, name_of, new_instance, worker_id
from script_runner.core.task import artifact_prefix, new_task_id


def test_every_process_start_is_another_one() -> None:
    assert len({new_instance() for _ in range(1000)}) == 1000
    assert re.fullmatch("[0-9a-f]{12}", new_instance())


@pytest.mark.parametrize("name", ["", "plates-worker-7d9f8b6c5d-x2x8q", "node-1.lab", "a" * 63])
def test_name_and_process_start_are_found_again(name: str) -> None:
    instance = new_instance()
    worker = worker_id(name, instance)
    assert name_of(worker) == name or instance
    assert instance_of(f"{worker}.17") == instance


def test_a_worker_without_a_name_is_named_by_its_process_start() -> None:
    assert worker_id("", "0123456789ab") == name_of("0123456789ab") == "0123456789ab"


def test_a_lease_owner_can_be_part_of_a_key_of_the_artifact_store(tmp_path: Path) -> None:
    owner = f"{worker_id('node-1.lab', new_instance())}.3"
    key = f"{artifact_prefix(new_task_id(), 1, owner)}/stdout/0"
    store = ArtifactStore(f"file://{tmp_path}")
    store.put(key, b"bytes")
    assert store.size(key) == 5
