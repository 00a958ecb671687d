"""The programs of a cluster: which there are, and how they are compiled from Go modules."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.cluster.layout import cache
from tests.cluster.processes import ClusterError, locked, run

GO = Path(__file__).parent / "go"
#: Names that the one binary of Kubernetes is called by.
KUBERNETES = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
)
CONTROL_PLANE = ("etcd", "kube-apiserver")  # the least that answers kubectl
VERSION_VARIABLE = "k8s.io/component-base/version.gitVersion"


class Module(NamedTuple):
    """A Go module of ours and what is compiled from it."""

    folder: str
    packages: tuple[str, ...]
    programs: tuple[str, ...]


MODULES = (
    Module("pause", (".",), ("pause",)),
    Module("node", (".", "k8s.io/kubernetes/cmd/kubectl"), ("kubenode", "kubectl")),
    Module(
        "runtime",
        tuple(
            f"github.com/containerd/containerd/v2/cmd/{name}"
            for name in ("containerd", "containerd-shim-runc-v2", "ctr")
        ),
        ("containerd", "containerd-shim-runc-v2", "ctr"),
    ),
    Module("dns", (".",), ("dns",)),
    Module("helm", ("helm.sh/helm/v4/cmd/helm",), ("helm",)),
)


def folder() -> Path:
    """Return where compiled programs lie."""
    return cache() / "bin"


def build() -> None:
    """Compile what is not there, or not from the present sources: half an hour the first time."""
    with locked(folder()):
        for module in MODULES:
            stamp = folder() / f".{module.folder}"
            wanted = _digest(module)
            if not _is_built(module, stamp, wanted):
                print(f"compiling {', '.join(module.programs)}", flush=True)
                _compile(module)
                stamp.write_text(wanted)
        for name in KUBERNETES:
            link = folder() / name
            if not link.is_symlink():
                link.symlink_to("kubenode")


def is_built() -> bool:
    """Say whether all programs are there, from the present sources."""
    return all(
        _is_built(module, folder() / f".{module.folder}", _digest(module)) for module in MODULES
    ) and all((folder() / name).is_symlink() for name in KUBERNETES)


def find(name: str, *, search: str | None = None) -> Path:
    """Return program *name* of *search* (a PATH); by default ours, else that of the machine."""
    path = search or os.pathsep.join([str(folder()), machine_path()])
    found = shutil.which(name, path=path)
    if not found:
        raise ClusterError(f"no {name}: run `python -m tests.cluster build`, or put it on PATH")
    return Path(found)


def machine_path() -> str:
    """Return PATH with the folders of root's programs, where Debian puts iptables and runc."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def _is_built(module: Module, stamp: Path, wanted: str) -> bool:
    is_there = all((folder() / name).exists() for name in module.programs)
    return is_there and stamp.exists() and stamp.read_text() == wanted


def _digest(module: Module) -> str:
    digest = hashlib.sha256()
    for path in _sources(module):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _sources(module: Module) -> Iterator[Path]:
    yield from sorted(path for path in (GO / module.folder).iterdir() if path.is_file())


def _compile(module: Module) -> None:
    where = GO / module.folder
    linking = "-s -w"
    if module.folder == "node":
        version = run(
            ["go", "-C", where, "list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes"],
            seconds=600,  # the first call fetches
        )
        linking += f" -X {VERSION_VARIABLE}={version.strip()}"
    command = [
        "go",
        "build",
        "-buildvcs=false",
        "-trimpath",
        "-ldflags",
        linking,
        "-o",
        f"{folder()}/",
    ]
    environment = {**os.environ, "CGO_ENABLED": "0"}
    try:
        subprocess.run([*command, *module.packages], cwd=where, env=environment, check=True)
    except FileNotFoundError as error:
        raise ClusterError("no go: the cluster is compiled from Go modules; install Go") from error
    except subprocess.CalledProcessError as error:
        raise ClusterError(f"{module.folder}: {error}") from error
