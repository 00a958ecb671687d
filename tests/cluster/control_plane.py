"""An API server with its etcd, controllers and scheduler: a cluster without a node."""

import base64
import http.client
import json
import shutil
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.cluster import flags, processes
from tests.cluster.layout import Layout
from tests.cluster.pki import write_pki
from tests.cluster.processes import ClusterError, wait_for

READY_SECONDS = 90.0
#: In the order of their start. The last two are left out where there is no such program, as in
#: KUBEBUILDER_ASSETS.
PARTS: dict[str, Callable[[Layout], list[str]]] = {
    "etcd": flags.etcd,
    "kube-apiserver": flags.kube_apiserver,
    "kube-controller-manager": flags.kube_controller_manager,
    "kube-scheduler": flags.kube_scheduler,
}


class ControlPlane:
    """Starts with ``with``; its parts can be stopped and started again one by one."""

    def __init__(self, cluster: Layout, search: str) -> None:
        self.cluster = cluster
        self._programs = {name: shutil.which(name, path=search) for name in PARTS}
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def kubeconfig(self) -> Path:
        return self.cluster.kubeconfig

    def __enter__(self) -> Self:
        self.cluster.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_pki(self.cluster)
        (self.cluster.state / "audit-policy.json").write_text(flags.audit_policy())
        try:
            for name, program in self._programs.items():
                if program:
                    self.start(name)
            if "kube-controller-manager" in self._running:
                path = "/api/v1/namespaces/default/serviceaccounts/default"
                wait_for("the default account", READY_SECONDS, lambda: self._status(path) == 200)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill every part, the last one first."""
        for name in reversed(list(self._running)):
            self.stop(name)

    def start(self, name: str) -> None:
        """Start part *name* and wait until it works."""
        program = self._programs[name]
        if not program:
            raise ClusterError(f"no {name} on this machine")
        log = self.cluster.log(name)
        process = processes.start([program, *PARTS[name](self.cluster)], log)
        self._running[name] = process
        if name == "kube-apiserver":

            def is_ready() -> bool:
                if process.poll() is not None:
                    raise ClusterError(f"{name} ended:\n{processes.tail(log)}")
                return self._status("/readyz") == 200

            wait_for(name, READY_SECONDS, is_ready)

    def stop(self, name: str) -> None:
        """Kill part *name*; its clients find nobody there."""
        # By force: an API server that is asked waits a minute for its watches to end.
        process = self._running.pop(name)
        process.kill()
        process.wait()

    def pid(self, name: str) -> int:
        """Return the process id of part *name*: to freeze it, for example."""
        return self._running[name].pid

    def compact(self) -> int:
        """Throw away etcd's history up to now, as etcd does by itself every few minutes.

        After this and a restart of the API server a watch from an older version gets 410 Gone.
        """
        key = base64.b64encode(b"any").decode()
        revision = int(self._etcd("range", {"key": key})["header"]["revision"])
        self._etcd("compaction", {"revision": str(revision), "physical": True})
        return revision

    def _etcd(self, call: str, body: dict[str, object]) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.cluster.etcd_port, timeout=10)
        try:
            connection.request("POST", f"/v3/kv/{call}", json.dumps(body))
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if answer.status != 200:
            raise ClusterError(f"etcd {call}: {text}")
        return json.loads(text)

    def _status(self, path: str) -> int | None:
        """Return the API server's answer to a GET, None while nothing answers."""
        pki = self.cluster.pki
        trust = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        trust.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.cluster.api_port, timeout=5, context=trust
        )
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
