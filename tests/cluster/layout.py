"""Where a cluster of the tests keeps its things: folders, ports, addresses."""

import os
import random
import socket
from dataclasses import dataclass
from pathlib import Path

#: The node's own network. Nothing of it leaves the machine.
BRIDGE = "srun0"
GATEWAY = "10.251.0.1"
POD_CIDR = "10.251.0.0/24"
SERVICE_CIDR = "10.252.0.0/16"
SERVICE_IP = "10.252.0.1"
NODE = "node"

#: The node is one for a machine: so are its folder and its sockets.
NODE_STATE = Path("/var/lib/script-runner-cluster")
RUN = Path("/run/script-runner-cluster")

#: Below the ports that the kernel gives to outgoing connections, and below NodePorts.
PORTS = range(20_000, 30_000)


def cache() -> Path:
    """Return the folder that outlives a cluster: what was compiled, and images."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "script-runner-cluster"


@dataclass(frozen=True)
class Layout:
    """One cluster: its folder and its ports."""

    state: Path
    api_port: int
    etcd_port: int
    etcd_peer_port: int
    #: Write every request with its user agent to ``audit.log``.
    has_audit: bool = False

    @property
    def pki(self) -> Path:
        return self.state / "pki"

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig"

    @property
    def audit_log(self) -> Path:
        return self.state / "audit.log"

    def log(self, part: str) -> Path:
        return self.state / f"{part}.log"


def layout(state: Path, *, api_port: int | None = None, has_audit: bool = False) -> Layout:
    """Return a layout in *state* on free ports, so that several run side by side."""
    ports = free_ports(3)
    return Layout(state, api_port or ports[0], ports[1], ports[2], has_audit)


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback address that nobody listens on."""
    found: list[int] = []
    while len(found) < count:
        port = random.choice(PORTS)  # by chance: two that start at once seldom choose the same
        with socket.socket() as probe:
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found
