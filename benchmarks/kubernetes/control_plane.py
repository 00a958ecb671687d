"""An API server without a node, and the operator on it as a process of its own.

The operator has the service account and the role of manifests/install.yaml, and so is under the
API server's flow control, as it is in a cluster. The audit log tells what it asked for, whatever
it counts itself.
"""

import json
import re
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml

from benchmarks.measure import cpu_seconds, status_bytes
from benchmarks.processes import BenchmarkError, Server, free_port
from script_runner.operator.crd import CRD_NAME, crd_manifest
from tests.cluster import binaries, find, flags, processes
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kubectl import Kubectl
from tests.cluster.layout import layout
from tests.cluster.processes import ClusterError

INSTALL = Path(__file__).parents[2] / "manifests" / "install.yaml"
ACCOUNT = "script-runner-operator"
ACCOUNT_NAMESPACE = "script-runner-system"
PARTS = ("etcd", "kube-apiserver")
#: What makes pods of Deployments, and nothing that would only cost time here.
CONTROLLERS = (
    "deployment-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "replicaset-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "statefulset-controller",
)
#: By default it makes 20 requests in a second: half an hour for the pods of 500 ScriptRunners.
CONTROLLER_QPS = 1000
WRITES = frozenset({"apply", "create", "patch", "delete"})


class Plane:
    """A control plane with the resource and the operator's role in it."""

    def __init__(
        self, running: ControlPlane, folder: Path, controllers: "subprocess.Popen[bytes]"
    ) -> None:
        self._running = running
        self.controllers = controllers
        self.folder = folder
        self.kubeconfig = running.kubeconfig
        self.kubectl = Kubectl(binaries.find("kubectl"), running.kubeconfig)

    @property
    def pids(self) -> list[int]:
        """The processes of the control plane."""
        return [self.controllers.pid, *(self._running.pid(part) for part in PARTS)]

    def install(self) -> None:
        """Make the resource known, and the operator's account; it gets no Deployment."""
        parts = [part for part in yaml.safe_load_all(INSTALL.read_text()) if part]
        unwanted = ("Deployment", "NetworkPolicy", "Service")
        self.kubectl.apply(crd_manifest(), options=["--server-side"])
        self.kubectl.apply(
            *[part for part in parts if part["kind"] == "Namespace"], options=["--server-side"]
        )
        self.kubectl.apply(*[part for part in parts if part["kind"] not in unwanted])
        self.kubectl("wait", "--for=condition=Established", "--timeout=30s", f"crd/{CRD_NAME}")

    def operator_kubeconfig(self) -> Path:
        """Return a kubeconfig with the token of the operator's account."""
        token = self.kubectl(
            "create", "token", ACCOUNT, "-n", ACCOUNT_NAMESPACE, "--duration=6h"
        ).strip()
        admin = self.kubectl("config", "view", "--raw", "-o", "json")
        config = json.loads(admin)
        config["users"] = [
            {"name": user["name"], "user": {"token": token}} for user in config["users"]
        ]
        path = self.folder / "operator.kubeconfig"
        path.touch(mode=0o600)
        path.write_text(json.dumps(config))
        return path

    def audited(self) -> Counter[tuple[str, str]]:
        """Return how often the operator's account asked for what so far, by verb and resource."""
        found: Counter[tuple[str, str]] = Counter()
        seen = set()
        for line in self._running.cluster.audit_log.read_text().splitlines():
            with suppress(ValueError):  # the last line may be half there
                entry = json.loads(line)
                is_operator = entry["user"]["username"].endswith(f":{ACCOUNT}")
                if is_operator and entry["auditID"] not in seen:
                    seen.add(entry["auditID"])
                    resource = entry.get("objectRef", {}).get("resource", entry["requestURI"])
                    found[entry["verb"], resource] += 1
        return found


@contextmanager
def control_plane(folder: Path) -> Iterator[Plane]:
    """Run a control plane in *folder*; BenchmarkError when this machine has none."""
    search = find.control_plane_path()
    if search is None:
        raise BenchmarkError(find.CONTROL_PLANE_HINT)
    cluster = layout(folder, has_audit=True)
    try:
        with ControlPlane(cluster, search) as running:
            # Nothing is to be scheduled; and this one would keep the operator waiting for pods.
            for part in ("kube-scheduler", "kube-controller-manager"):
                running.stop(part)
            program = binaries.find("kube-controller-manager")
            argv: list[str | Path] = [
                program,
                *flags.kube_controller_manager(cluster),
                f"--controllers={','.join(CONTROLLERS)}",
                f"--kube-api-qps={CONTROLLER_QPS}",
                f"--kube-api-burst={CONTROLLER_QPS}",
            ]
            log = folder / "controllers.log"
            controllers = processes.start(argv, log)
            try:
                plane = Plane(running, folder, controllers)
                plane.install()
                yield plane
            finally:
                processes.stop(controllers)
    except ClusterError as error:
        raise BenchmarkError(str(error)) from error


class Operator:
    """``python -m script_runner.operator`` for all namespaces of a control plane."""

    def __init__(self, plane: Plane, url_template: str, resync_seconds: int) -> None:
        self._plane = plane
        self._template = url_template
        self._kubeconfig = plane.operator_kubeconfig()
        self.resync_seconds = resync_seconds
        self._port = 0
        self._server: Server | None = None
        self._starts = 0

    @property
    def pid(self) -> int:
        assert self._server is not None
        return self._server.pid

    def start(self) -> None:
        """Start it; :attr:`has_listed` says when it works."""
        self._port = free_port()
        self._starts += 1
        environment = {
            "KUBECONFIG": str(self._kubeconfig),
            "OPERATOR_NAMESPACE": ACCOUNT_NAMESPACE,
            "API_URL_TEMPLATE": self._template,
            "RESYNC_SECONDS": str(self.resync_seconds),
            "PROBE_HOST": "127.0.0.1",
            "PROBE_PORT": str(self._port),
        }
        argv = [sys.executable, "-m", "script_runner.operator"]
        self._server = Server(
            f"operator-{self._starts}", argv, folder=self._plane.folder, env=environment
        )
        self._server.start()

    @property
    def has_listed(self) -> bool:
        """Whether it has listed everything once, and begins to work; BenchmarkError: it ended."""
        assert self._server is not None
        self._server.check()
        return "event=listed" in self.log()

    def stop(self) -> None:
        """SIGTERM, and wait for its end."""
        if self._server is not None:
            self._server.stop()

    def log(self) -> str:
        assert self._server is not None
        return self._server.log.read_text() if self._server.log.exists() else ""

    def rss(self) -> int:
        return status_bytes(self.pid, "VmRSS")

    def peak(self) -> int:
        return status_bytes(self.pid, "VmHWM")

    def cpu(self) -> float:
        return cpu_seconds([self.pid])

    def requests(self) -> Counter[tuple[str, str]]:
        """Return how many requests it counted, by verb and kind."""
        pattern = r'script_runner_operator_requests_total\{kind="(\w+)",verb="(\w+)"\} ([\d.e+]+)'
        found = re.findall(pattern, self._metrics())
        return Counter({(verb, kind): int(float(count)) for kind, verb, count in found})

    def passes(self) -> int:
        """Return how many passes it has done."""
        pattern = r"script_runner_operator_reconciles_total\{[^}]*\} ([\d.e+]+)"
        return sum(int(float(count)) for count in re.findall(pattern, self._metrics()))

    def _metrics(self) -> str:
        url = f"http://127.0.0.1:{self._port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            text: str = answer.read().decode()
            return text


def writes(requests: Mapping[tuple[str, str], int]) -> int:
    """Return how many of *requests* change something."""
    return sum(count for (verb, _), count in requests.items() if verb in WRITES)
