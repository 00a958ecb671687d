"""What a machine must have for a node and its images, beside Go: programs of Debian's packages."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.cluster import flags
from tests.cluster.binaries import machine_path
from tests.cluster.processes import ClusterError

#: What is called by name, and the package that has it.
PROGRAMS = {
    "buildah": "buildah",
    "conntrack": "conntrack",
    "debootstrap": "debootstrap",
    "ip": "iproute2",
    "iptables": "iptables",
    "nginx": "nginx-light",
    "runc": "runc",
    "setpriv": "util-linux",
}
CNI_PACKAGE = "containernetworking-plugins"


def missing_packages() -> list[str]:
    """Return the packages that are not there."""
    missing = {
        package
        for program, package in PROGRAMS.items()
        if shutil.which(program, path=machine_path()) is None
    }
    if not any((Path(folder) / "bridge").exists() for folder in flags.CNI_BIN):
        missing.add(CNI_PACKAGE)
    return sorted(missing)


def check() -> None:
    """Raise with what to install when something is not there."""
    if missing := missing_packages():
        raise ClusterError(f"a node needs more: apt-get install {' '.join(missing)}")


def prepare() -> None:
    """Install what is not there, where that can be done: as root, with apt."""
    missing = missing_packages()
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        check()
    print(f"installing {' '.join(missing)}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["install", "-y", "-qq", "--no-install-recommends", *missing]
    for words in (["update", "-qq"], install):
        done = subprocess.run(
            ["apt-get", *words],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ClusterError(f"apt-get {' '.join(words)}:\n{done.stderr}")
    check()
