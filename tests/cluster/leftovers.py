"""What a node leaves on a machine when its processes are gone, and how it is removed.

Every step may find nothing: the same code ends a node that runs, and the rest of one whose
supervisor was killed.
"""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tests.cluster import flags
from tests.cluster.binaries import machine_path
from tests.cluster.layout import BRIDGE, RUN

BUNDLES = RUN / "containerd" / "io.containerd.runtime.v2.task" / "k8s.io"
RUNC_ROOT = Path("/run/containerd/runc/k8s.io")
CNI_RESULTS = Path("/var/lib/cni/results")
KUBELET_LOG_LINKS = Path("/var/log/containers")
#: Folders that the programs make wherever they are told to work; the inner ones first.
FIXED_FOLDERS = (
    RUNC_ROOT,
    RUNC_ROOT.parent,
    Path("/run/containerd/s"),
    Path("/run/containerd"),
    Path("/run/netns"),
    KUBELET_LOG_LINKS,
    CNI_RESULTS,
    CNI_RESULTS.parent,
)
KUBELET = Path("/var/lib/kubelet")
CGROUPS = Path("/sys/fs/cgroup")
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")


def end_containers() -> None:
    """Kill every container of the node, its shims, and its pods' network namespaces."""
    spaces = set(_network_namespaces())
    if BUNDLES.is_dir():
        for bundle in BUNDLES.iterdir():
            _end_container(bundle)
    for pid in _shims():
        os.kill(pid, signal.SIGKILL)
    for space in spaces:
        _try("umount", "--lazy", space)
        space.unlink(missing_ok=True)


def clean(state: Path) -> None:
    """Remove mounts, bridge, firewall chains, cgroups and folders of the node in *state*."""
    for point in _mounts(state):
        _try("umount", "--lazy", point)
    _try("ip", "link", "delete", BRIDGE)
    for program in ("iptables", "ip6tables"):
        for table in ("filter", "nat", "mangle"):
            _remove_chains(program, table)
    saved = state / "ip_forward"
    if saved.exists():
        FORWARDING.write_text(saved.read_text())
    if KUBELET_LOG_LINKS.is_dir():
        for link in KUBELET_LOG_LINKS.iterdir():
            if link.is_symlink() and link.readlink().is_relative_to(state):
                link.unlink()
    for group in (*CGROUPS.glob("kubepods"), *CGROUPS.glob("*/kubepods")):
        _remove_cgroup(group)
    _remove_folders(state)


def _end_container(bundle: Path) -> None:
    _try("runc", "--root", RUNC_ROOT, "delete", "--force", bundle.name)
    for result in CNI_RESULTS.glob(f"*-{bundle.name}-*"):
        result.unlink()
    shim = bundle / "bootstrap.json"
    if shim.exists():
        Path(json.loads(shim.read_text())["address"].removeprefix("unix://")).unlink(
            missing_ok=True
        )


def _network_namespaces() -> Iterator[Path]:
    """Yield the files that hold the pods' network namespaces."""
    for config in BUNDLES.glob("*/config.json"):
        spaces = json.loads(config.read_text())["linux"]["namespaces"]
        for space in spaces:
            if space["type"] == "network" and space.get("path", "").startswith("/var/run/netns/"):
                yield Path(space["path"]).resolve()


def _shims() -> Iterator[int]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue  # ended meanwhile
            is_shim = Path(words[0]).name.startswith("containerd-shim")
            if is_shim and str(flags.CONTAINERD_SOCKET) in words:
                yield int(folder.name)


def _mounts(state: Path) -> list[str]:
    points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    ours = [point for point in points if Path(point).is_relative_to(state)]
    ours += [point for point in points if Path(point).is_relative_to(RUN)]
    return sorted(ours, reverse=True)  # the inner ones first


def _remove_chains(program: str, table: str) -> None:
    """Remove the chains of kube-proxy and of the kubelet, and the rules that lead there."""
    rules = _try(program, "-w", "-t", table, "-S").splitlines()
    ours = [rule.split()[1] for rule in rules if rule.startswith("-N KUBE-")]
    for rule in rules:
        words = rule.split()
        if words[0] == "-A" and words[1] not in ours and words[-1] in ours:
            _try("sh", "-c", f"{program} -w -t {table} -D {rule.removeprefix('-A ')}")
    for chain in ours:
        _try(program, "-w", "-t", table, "-F", chain)
    for chain in ours:
        _try(program, "-w", "-t", table, "-X", chain)


def _remove_folders(state: Path) -> None:
    shutil.rmtree(state, ignore_errors=True)
    shutil.rmtree(RUN, ignore_errors=True)
    if KUBELET.is_dir() and [path.name for path in KUBELET.iterdir()] == ["device-plugins"]:
        shutil.rmtree(KUBELET)  # all that a kubelet with another folder keeps there
    for folder in FIXED_FOLDERS:
        with suppress(OSError):  # not there, or in use by another runtime
            folder.rmdir()


def _remove_cgroup(group: Path) -> None:
    for folder, _, _ in os.walk(group, topdown=False):
        try:
            Path(folder).rmdir()
        except OSError:
            return  # something of another runtime lives in it


def _try(*argv: str | Path) -> str:
    done = subprocess.run(
        [str(word) for word in argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
        env={**os.environ, "PATH": machine_path()},
        timeout=30,
    )
    return done.stdout
