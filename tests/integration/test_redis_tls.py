"""All of it against a Redis that wants a password and speaks TLS alone."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.integration.api_client import poll
from tests.integration.issuer import make_certificate

PASSWORD = "s3cret"
START_SECONDS = 30.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def tls_url(tmp_path: Path) -> Iterator[str]:
    server = shutil.which("redis-server")
    if server is None:
        pytest.skip("the wheel's Redis has no TLS; a redis-server on PATH is needed")
    certificate = make_certificate(tmp_path)
    port = free_port()
    process = subprocess.Popen(
        [
            *(server, "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1"),
            *("--tls-cert-file", certificate, "--tls-key-file", certificate),
            *("--tls-ca-cert-file", certificate, "--tls-auth-clients", "no"),
            *("--requirepass", PASSWORD, "--appendonly", "yes"),
        ],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
    )
    yield f"rediss://:{PASSWORD}@127.0.0.1:{port}/0?ssl_ca_certs={certificate}"
    process.terminate()
    process.wait(10)


def test_a_task_runs_over_tls(tls_url: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"command": ["echo", "over tls"]}')
    port = free_port()
    environment = {
        **os.environ,
        "CONFIG": str(tmp_path / "config.json"),
        "REDIS_URL": tls_url,
        "ARTIFACTS_URL": f"file://{tmp_path}/artifacts",
        "RUNDIR_BASE": str(tmp_path / "rundirs"),
        "AUTH_PROVIDER": "none",
        "PORT": str(port),
    }
    parts = [
        subprocess.Popen([sys.executable, "-m", f"script_runner.{part}"], env=environment)
        for part in ("api", "worker")
    ]
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            poll(lambda: _is_ready(client), START_SECONDS, "an API that is ready")
            answer = client.post("/task", headers={"Prefer": "wait=30"})
            assert answer.json()["state"] == "succeeded"
            output = client.get(f"/task/{answer.json()['id']}/output/stdout")
            assert output.content == b"over tls\n"
    finally:
        for part in parts:
            part.terminate()
        assert [part.wait(20) for part in parts] == [0, 0]


def _is_ready(client: httpx2.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx2.TransportError:
        return False
