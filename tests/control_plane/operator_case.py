"""The operator as a process of its own, and one ScriptRunner it serves."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.cluster import processes
from tests.cluster.kubectl import Kubectl
from tests.cluster.processes import ClusterError, wait_for
from tests.control_plane.demand_api import DemandApi, Ledger

#: The controllers come back slowly after a test that took their API server away.
WAIT_SECONDS = 90.0
NAME = "plates"
SPEC: Mapping[str, Any] = {
    "image": "lab/plates:1",
    "config": {"command": ["echo", "hello"]},
    "api": {"auth": {"provider": ["none"]}},
}


class OperatorProcess:
    """``python -m script_runner.operator`` for some namespaces."""

    def __init__(self, kubeconfig: Path, log: Path, namespace: str, demand: DemandApi) -> None:
        self.log = log
        self._environment = {
            "PATH": os.environ["PATH"],
            "KUBECONFIG": str(kubeconfig),
            "NAMESPACES": namespace,
            "API_URL_TEMPLATE": demand.template,
            "RESYNC_SECONDS": "5",
            "LOG_LEVEL": "debug",
            "PROBE_HOST": "127.0.0.1",
            "PROBE_PORT": "0",
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    def start(self) -> None:
        """Start it and wait until it has listed everything once."""
        before = len(self.text())
        self.launch()
        self._wait_for("event=listed", before)

    def launch(self) -> None:
        """Start it and wait until it answers probes."""
        before = len(self.text())
        argv = [sys.executable, "-m", "script_runner.operator"]
        self._process = processes.start(argv, self.log, environment=self._environment)
        self._wait_for("event=started", before)
        self._port = int(re.findall(r"probe_port=(\d+)", self.text()[before:])[-1])

    def _wait_for(self, word: str, before: int) -> None:
        def is_there() -> bool:
            if self._process is None or self._process.poll() is not None:
                raise ClusterError(f"the operator ended:\n{processes.tail(self.log)}")
            return word in self.text()[before:]

        wait_for(f"the operator's {word}", WAIT_SECONDS, is_there)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def text(self) -> str:
        """Return the log so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def terminate(self) -> int:
        """Send SIGTERM; return the exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(WAIT_SECONDS)

    def probe(self, path: str) -> tuple[int, str]:
        """Return status and body of /livez, /readyz or /metrics."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=5) as found:
                return found.status, found.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def requests(self) -> dict[tuple[str, str], int]:
        """Return how many requests the operator has made, by verb and kind."""
        _, text = self.probe("/metrics")
        pattern = r'script_runner_operator_requests_total\{kind="(\w+)",verb="(\w+)"\} ([\d.]+)'
        return {(verb, kind): int(float(count)) for kind, verb, count in re.findall(pattern, text)}


class Runner:
    """One ScriptRunner in a namespace, and what became of it."""

    def __init__(self, kubectl: Kubectl, namespace: str, demand: DemandApi) -> None:
        self.kubectl = kubectl
        self.namespace = namespace
        self._demand = demand

    @property
    def ledger(self) -> Ledger:
        return self._demand.ledger(self.namespace, NAME)

    def apply(self, **spec: Any) -> None:
        """Make or change it: *spec* comes on top of the least one there is."""
        merged = {key: value for key, value in {**SPEC, **spec}.items() if value is not None}
        self.kubectl.apply(
            {
                "apiVersion": "script-runner.io/v1alpha1",
                "kind": "ScriptRunner",
                "metadata": {"name": NAME, "namespace": self.namespace},
                "spec": merged,
            },
            options=["--server-side", "--force-conflicts"],
        )

    def make(self, kind: str, name: str, **content: Any) -> None:
        """Make or change another object beside it."""
        metadata = {"name": name, "namespace": self.namespace}
        self.kubectl.apply({"apiVersion": "v1", "kind": kind, "metadata": metadata, **content})

    def delete(self) -> None:
        self("delete", "scriptrunner", NAME, "--wait=false", "--ignore-not-found")

    def free(self) -> None:
        """Let it go, whatever the operator waits for; ClusterError when it is gone."""
        patch = json.dumps({"metadata": {"finalizers": None}})
        self("patch", "scriptrunner", NAME, "--type=merge", "-p", patch)

    def __call__(self, *words: str) -> str:
        """Call kubectl in the namespace."""
        return self.kubectl("-n", self.namespace, *words)

    def get(self, kind: str, name: str = NAME) -> Any:
        """Return an object, None when there is none."""
        text = self("get", kind, name, "--ignore-not-found", "-o", "json")
        return json.loads(text) if text else None

    def names(self, kind: str) -> list[str]:
        """Return the names of all objects of *kind*."""
        words = self("get", kind, "-o", "name").split()
        return sorted(word.partition("/")[2] for word in words)

    def condition(self, name: str) -> dict[str, Any]:
        """Return a condition; {} when there is none yet."""
        found = (self.get("scriptrunner") or {}).get("status", {}).get("conditions", [])
        return next((item for item in found if item["type"] == name), {})

    def wait_for(self, what: str, is_so: Callable[[], object]) -> None:
        """Return when *is_so*; fail with what the resource says when it takes too long."""
        try:
            wait_for(what, WAIT_SECONDS, is_so)
        except ClusterError as error:
            status = (self.get("scriptrunner") or {}).get("status")
            raise ClusterError(f"{error}\n{json.dumps(status, indent=1)}") from error

    def wait_condition(self, name: str, status: str, reason: str) -> dict[str, Any]:
        """Wait until the condition has that status and reason; return it."""
        found: dict[str, Any] = {}

        def is_so() -> bool:
            found.clear()
            found.update(self.condition(name))
            return found.get("status") == status and found.get("reason") == reason

        self.wait_for(f"{name}={status} {reason}", is_so)
        return found

    def replicas(self) -> int | None:
        """Return how many workers the Deployment has; None while there is none."""
        found = self.get("deployment", f"{NAME}-worker")
        return None if found is None else int(found["spec"]["replicas"])

    def pods(self, component: str) -> list[str]:
        """Return the names of the pods of a component that are not on their way out."""
        return sorted(self._pods(component))

    def run_pods(self, component: str, count: int = 1) -> list[str]:
        """Do what a kubelet would: say that *count* pods of a component run and are ready."""
        self.wait_for(f"{component} pods", lambda: len(self.pods(component)) == count)
        found = self._pods(component)
        # The others run already, and may be replaced in this moment.
        new = [name for name, pod in found.items() if pod["status"]["phase"] != "Running"]
        self.set_pods(new, _running_status())
        return sorted(found)

    def _pods(self, component: str) -> dict[str, Any]:
        label = f"app.kubernetes.io/component={component}"
        found = json.loads(self("get", "pod", "-l", label, "-o", "json"))["items"]
        alive = [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]
        return {pod["metadata"]["name"]: pod for pod in alive}

    def set_pods(self, pods: Sequence[str], status: Mapping[str, Any]) -> None:
        """Write the status of pods; one that a rollout has replaced meanwhile has none."""
        patch = json.dumps({"status": status})
        for pod in pods:
            try:
                self("patch", "pod", pod, "--subresource=status", "--type=merge", "-p", patch)
            except ClusterError as error:
                if "NotFound" not in str(error):
                    raise

    def serve(self, **spec: Any) -> None:
        """Make it, and have all its first pods run: it is ready."""
        self.apply(**spec)
        self.run_pods("redis")
        self.run_pods("api")
        workers = self.replicas()
        assert workers is not None
        self.ledger.workers = self.run_pods("worker", workers)
        self.wait_condition("Ready", "True", "Ready")


def _running_status() -> dict[str, Any]:
    # Long ago: a pod that is new is not available yet.
    since = "2020-01-01T00:00:00Z"
    ready = [
        {"type": name, "status": "True", "lastTransitionTime": since}
        for name in ("PodScheduled", "ContainersReady", "Ready")
    ]
    return {"phase": "Running", "conditions": ready, "startTime": since}


def seconds_until(is_so: Callable[[], object]) -> float:
    """Return how long it took, looked at often."""
    started = time.monotonic()
    while not is_so():
        assert time.monotonic() - started < WAIT_SECONDS
        time.sleep(0.01)
    return time.monotonic() - started
