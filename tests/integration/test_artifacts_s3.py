"""The artifact store in a bucket, against a server that speaks S3."""

import hashlib
import socket
import tracemalloc
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from script_runner.core import artifacts_s3
from script_runner.core.artifacts import BLOCK_BYTES, ArtifactStore
from script_runner.core.artifacts_s3 import PART_BYTES
from script_runner.core.errors import NotFoundError, UnavailableError

BUCKET = "lab-artifacts"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of the server, which the environment names; the bucket is empty."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    yield client
    for key in keys(client):
        client.delete_object(Bucket=BUCKET, Key=key)
    client.delete_bucket(Bucket=BUCKET)
    client.close()


@pytest.fixture
def store(s3: Any) -> ArtifactStore:
    return ArtifactStore(f"s3://{BUCKET}/runner")


def keys(client: Any) -> list[str]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    return [item["Key"] for page in pages for item in page.get("Contents", ())]


def uploads(client: Any) -> list[Any]:
    return client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])  # type: ignore[no-any-return]


def test_a_small_object_is_stored_under_the_prefix(store: ArtifactStore, s3: Any) -> None:
    store.put("task/1-own/results/0", b"rows")
    assert keys(s3) == ["runner/task/1-own/results/0"]
    assert b"".join(store.read("task/1-own/results/0")) == b"rows"
    assert b"".join(store.read("task/1-own/results/0", 1, 3)) == b"ow"
    assert store.size("task/1-own/results/0") == 4


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES + 12345])
def test_every_size_is_stored_whole(store: ArtifactStore, s3: Any, size: int) -> None:
    data = hashlib.shake_128(b"seed").digest(size)
    with store.writer("task/a") as writer:
        for at in range(0, size, 1_000_003):
            writer.write(data[at : at + 1_000_003])
    blocks = list(store.read("task/a"))
    assert b"".join(blocks) == data
    assert max(map(len, blocks), default=0) <= BLOCK_BYTES
    assert (writer.size, writer.digest) == (size, hashlib.sha256(data).hexdigest())
    assert uploads(s3) == []


def test_nothing_stays_of_an_object_whose_writing_failed(store: ArtifactStore, s3: Any) -> None:
    def fail_half_way() -> None:
        with store.writer("task/a") as writer:
            writer.write(bytes(PART_BYTES + 1))
            assert len(uploads(s3)) == 1
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert keys(s3) == []
    assert uploads(s3) == []


def test_memory_does_not_grow_with_the_object(store: ArtifactStore, s3: Any) -> None:
    """The client's memory: parts are read by the client, so the server is asked only after."""
    block = bytes(1024 * 1024)
    store.put("task/warm-up", block)
    with store.writer("task/a") as writer:
        writer._sink._s3 = _Sinkhole()  # type: ignore[attr-defined]
        tracemalloc.start()
        try:
            for _ in range(100):
                writer.write(block)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 3 * PART_BYTES


class _Sinkhole:
    """Takes parts as S3 does, and keeps none."""

    def call(self, verb: str, method: str, **arguments: Any) -> dict[str, str]:
        return {"UploadId": "1", "ETag": "x"}


def test_an_unknown_key_is_not_found_before_the_first_block(store: ArtifactStore) -> None:
    with pytest.raises(NotFoundError):
        store.read("task/a")
    with pytest.raises(NotFoundError):
        store.size("task/a")


def test_a_task_is_removed_with_all_it_has_and_no_other(store: ArtifactStore, s3: Any) -> None:
    store.put("task/inputs/FILE", b"x")
    store.put("task/1-own/stdout/0", b"x")
    store.put("task2/a", b"x")
    store.delete_prefix("task")
    store.delete_prefix("task")
    assert keys(s3) == ["runner/task2/a"]


def test_more_objects_than_one_page_lists_are_removed(
    store: ArtifactStore, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts_s3, "PAGE_KEYS", 10)
    for number in range(25):
        s3.put_object(Bucket=BUCKET, Key=f"runner/task/{number}", Body=b"")
    store.delete_prefix("task")
    assert keys(s3) == []


def test_a_bucket_needs_no_prefix(s3: Any) -> None:
    ArtifactStore(f"s3://{BUCKET}").put("task/a", b"x")
    assert keys(s3) == ["task/a"]


def test_a_check_tells_whether_the_bucket_is_there(store: ArtifactStore) -> None:
    store.check()
    with pytest.raises(UnavailableError):
        ArtifactStore("s3://no-such-bucket/x").check()
    with pytest.raises(UnavailableError):
        ArtifactStore("s3://no-such-bucket/x").put("a", b"x")


def test_a_server_that_is_gone_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    store = ArtifactStore("s3://other-bucket/x")
    with pytest.raises(UnavailableError) as caught:
        store.check()
    assert "hunter2" not in str(caught.value)
    assert str(port) not in str(caught.value)


def test_no_credentials_are_unavailable(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    with pytest.raises(UnavailableError, match="NoCredentialsError"):
        ArtifactStore(f"s3://{BUCKET}/x").check()
