"""A node for a control plane: network, container runtime, kubelet, proxy, names and volumes."""

import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.cluster import archive, binaries, flags, leftovers, machine, processes
from tests.cluster.kubectl import Kubectl
from tests.cluster.layout import BRIDGE, GATEWAY, NODE, RUN, Layout
from tests.cluster.processes import ClusterError, run, wait_for

READY_SECONDS = 90.0
VOLUMES = 100
VOLUME_SIZE = "10Gi"
STORAGE_CLASS = "local"
CTR = ("--address", str(flags.CONTAINERD_SOCKET), "--namespace", "k8s.io")


class Node:
    """Starts with ``with``, beside a control plane that runs; one for a machine."""

    def __init__(self, cluster: Layout) -> None:
        self.cluster = cluster
        self._kubectl = Kubectl(binaries.find("kubectl"), cluster.kubeconfig)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._environment = {"PATH": f"{binaries.folder()}:{binaries.machine_path()}"}

    def __enter__(self) -> Self:
        machine.check()
        try:
            self._network()
            self._runtime()
            self._kubelet()
            self._start("dns", "-conf", self._write("Corefile", flags.corefile(self.cluster)))
            self._volumes()
            wait_for("the node", READY_SECONDS, self._is_ready)
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
        """Stop everything and remove what it made of the machine."""
        # The kubelet first, else it starts again what we end; the runtime last.
        for name in ("kubelet", "kube-proxy", "dns"):
            if name in self._running:
                processes.stop(self._running.pop(name))
        leftovers.end_containers()
        if "containerd" in self._running:
            processes.stop(self._running.pop("containerd"))
        leftovers.clean(self.cluster.state)

    def _start(self, name: str, *words: str | Path) -> None:
        program = binaries.find(name)
        log = self.cluster.log(name)
        self._running[name] = processes.start([program, *words], log, environment=self._environment)

    def _write(self, name: str, text: str) -> Path:
        path = self.cluster.state / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    def _network(self) -> None:
        run(["ip", "link", "add", BRIDGE, "type", "bridge"])
        run(["ip", "address", "add", f"{GATEWAY}/24", "dev", BRIDGE])
        run(["ip", "link", "set", BRIDGE, "up"])
        self._write("ip_forward", leftovers.FORWARDING.read_text())  # to be put back
        leftovers.FORWARDING.write_text("1")
        self._write("cni/10-bridge.conflist", flags.cni_config(self.cluster.state / "ipam"))

    def _runtime(self) -> None:
        RUN.mkdir(exist_ok=True, mode=0o711)
        config = self._write("containerd.toml", flags.containerd_config(self.cluster))
        self._start("containerd", "--config", config)
        log = self.cluster.log("containerd")

        def answers() -> bool:
            if self._running["containerd"].poll() is not None:
                raise ClusterError(f"containerd ended:\n{processes.tail(log)}")
            return _answers(binaries.find("ctr"), *CTR, "version")

        wait_for("containerd", READY_SECONDS, answers)
        image = self.cluster.state / "pause.tar"
        archive.write(image, flags.PAUSE_IMAGE, binaries.find("pause"))
        load(image)

    def _kubelet(self) -> None:
        self._write("kubelet.json", flags.kubelet_config(self.cluster))
        self._start("kubelet", *flags.kubelet(self.cluster))
        self._write("kube-proxy.json", flags.kube_proxy_config(self.cluster))
        self._start("kube-proxy", *flags.kube_proxy(self.cluster))

    def _volumes(self) -> None:
        for number in range(VOLUMES):
            folder = self.cluster.state / "volumes" / f"{number:03}"
            folder.mkdir(parents=True)
            folder.chmod(0o777)  # fsGroup does nothing for a folder of the host
        self._kubectl.apply(*volume_manifests(self.cluster.state / "volumes"))

    def _is_ready(self) -> bool:
        for name, process in self._running.items():
            if process.poll() is not None:
                log = processes.tail(self.cluster.log(name))
                raise ClusterError(f"{name} ended with {process.returncode}:\n{log}")
        nodes = self._kubectl.json("get", "nodes")["items"]
        return any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for node in nodes
            for condition in node["status"]["conditions"]
        )


def load(image: Path) -> None:
    """Put the image archive into the node, for good."""
    pinned = ["--label", "io.cri-containerd.pinned=pinned"]
    run([binaries.find("ctr"), *CTR, "images", "import", *pinned, image], seconds=300)


def volume_manifests(folder: Path) -> list[dict[str, object]]:
    """Return a default StorageClass and the volumes that stand ready for it."""
    storage_class: dict[str, object] = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": STORAGE_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    return [storage_class, *(_volume(path) for path in sorted(folder.iterdir()))]


def _volume(folder: Path) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{NODE}-{folder.name}"},
        "spec": {
            "capacity": {"storage": VOLUME_SIZE},
            "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
            "storageClassName": STORAGE_CLASS,
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": str(folder)},
        },
    }


def _answers(*argv: str | Path) -> bool:
    try:
        run(argv)
    except ClusterError:
        return False
    return True
