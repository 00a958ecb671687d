"""The README's section on Kubernetes, word for word."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import binaries
from tests.cluster.ingress import Ingress
from tests.cluster.kubectl import Kubectl, Tool
from tests.cluster.processes import wait_for
from tests.e2e.conftest import OPERATOR_NAMESPACE, Images

ROOT = Path(__file__).parents[2]
MARK = "<!-- tested: kubernetes -->\n```sh\n"
HOST = "plates.example.org"
SECONDS = 420

#: There is no Docker here. The images are built from the same Dockerfiles by the fixture `images`;
#: what stands in for `docker build` gives them the names that the README asks for.
DOCKER = """\
#!/bin/bash
set -euo pipefail
[[ $1 == build && $2 == -t ]] || { echo "not in the README: docker $*" >&2; exit 2; }
echo "$*" >> "$BUILDS"
"""


@pytest.fixture
def no_operator(helm: Tool, kubectl: Kubectl) -> None:
    """The cluster of somebody who begins: no release, and nothing of an earlier run."""
    kubectl("delete", "srun", "--all", "--ignore-not-found", "--timeout=120s", seconds=130)
    kubectl("delete", "secret", "plates-keys", "--ignore-not-found")
    kubectl("delete", "pvc", "-l", "app.kubernetes.io/instance=plates", "--ignore-not-found")
    wait_for("the ScriptRunners of other tests to go", 120, lambda: not scriptrunners(kubectl))
    helm("uninstall", "script-runner", "-n", OPERATOR_NAMESPACE, "--ignore-not-found", seconds=150)


def scriptrunners(kubectl: Kubectl) -> str:
    return kubectl("get", "scriptrunners", "--all-namespaces", "-o", "name")


def commands() -> list[str]:
    return re.findall(re.escape(MARK) + "(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def repository(folder: Path) -> Path:
    """Return what the commands see as the repository; what they write stays out of ours."""
    folder.mkdir()
    for name in ("Dockerfile", "example", "helm", "manifests"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def environment(folder: Path, kubeconfig: Path, ingress: Ingress) -> dict[str, str]:
    """Return the environment of the commands: the tools on PATH, and the host's name known."""
    tools = folder / "bin"
    tools.mkdir()
    for name in ("kubectl", "helm"):
        (tools / name).symlink_to(binaries.find(name))
    (tools / "script-runner").symlink_to(Path(sys.executable).parent / "script-runner")
    (tools / "docker").write_text(DOCKER)
    (tools / "docker").chmod(0o755)
    (folder / ".curlrc").write_text(f'connect-to = "{HOST}:80:127.0.0.1:{ingress.port}"\n')
    return {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "HOME": str(folder),
        "KUBECONFIG": str(kubeconfig),
        "BUILDS": str(folder / "builds"),
    }


def test_the_commands_end_with_the_results_of_a_task(
    tmp_path: Path,
    kubeconfig: Path,
    kubectl: Kubectl,
    images: Images,
    ingress: Ingress,
    no_operator: None,
) -> None:
    assert shutil.which("curl")
    *before, call = commands()
    where = repository(tmp_path / "repository")
    environ = environment(tmp_path, kubeconfig, ingress)

    def run(script: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=where,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    # One shell for all of them would wait for nothing: the ingress controller sees the Ingress
    # before the last one. The key is what the shell keeps.
    said = run("\n".join([*before, 'echo "key $SCRIPT_RUNNER_KEY"']))
    environ["SCRIPT_RUNNER_KEY"] = said.split()[-1]
    built = (tmp_path / "builds").read_text().splitlines()
    assert [line.split()[2] for line in built] == [images.script_runner, images.plates]
    ingress.reload()
    answer, table = split(run(call))
    assert answer["state"] == "succeeded", answer
    wells, summary = answer["results"]
    assert (summary["plate"], summary["hits"], len(wells)) == ("P002", 3, 3)
    assert re.search(r"^plates +True +1 ", table, re.MULTILINE), table
    kubectl("delete", "srun", "plates", "--timeout=120s", seconds=130)


def split(output: str) -> tuple[dict[str, Any], str]:
    answer, end = json.JSONDecoder().raw_decode(output)
    return answer, output[end:]
