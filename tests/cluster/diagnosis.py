"""What a cluster says when a test failed: objects, events and logs, written to a folder."""

import re
from pathlib import Path

from tests.cluster.kubectl import Kubectl
from tests.cluster.processes import ClusterError, tail

FOLDER = Path(__file__).parents[2] / "build" / "e2e"
KINDS = "nodes,scriptrunners,deployments,replicasets,statefulsets,pods,services,ingresses,pvc,pv"
PLAIN_KINDS = KINDS.replace("scriptrunners,", "")


def write(kubectl: Kubectl, name: str) -> Path:
    """Write the cluster's state to a folder of this *name*; return it."""
    folder = FOLDER / re.sub(r"[^\w.-]+", "-", name)
    folder.mkdir(parents=True, exist_ok=True)
    everywhere = "--all-namespaces"
    objects = _ask(kubectl, "get", KINDS, everywhere, "-o", "wide")
    if objects.startswith("error"):  # the kind is not installed
        objects += _ask(kubectl, "get", PLAIN_KINDS, everywhere, "-o", "wide")
    (folder / "objects.txt").write_text(objects)
    (folder / "scriptrunners.yaml").write_text(
        _ask(kubectl, "get", "scriptrunners", everywhere, "-o", "yaml")
    )
    events = _ask(kubectl, "get", "events", everywhere, "--sort-by=.lastTimestamp")
    (folder / "events.txt").write_text(events)
    (folder / "pods.txt").write_text(_ask(kubectl, "describe", "pods", everywhere))
    for line in _ask(kubectl, "get", "pods", everywhere, "--no-headers").splitlines():
        namespace, pod = line.split()[:2]
        for suffix, option in (("", []), (".previous", ["--previous"])):
            log = _ask(kubectl, "logs", "-n", namespace, pod, "--all-containers", *option)
            if not log.startswith("error"):
                (folder / f"{namespace}.{pod}{suffix}.log").write_text(log)
    return folder


def last_lines(folder: Path) -> str:
    """Return the end of what a reader would open first."""
    logs = [path for path in sorted(folder.glob("*.log")) if path.stat().st_size]
    names = ["objects.txt", "events.txt", *(path.name for path in logs)]
    return "\n".join(f"--- {name}\n{tail(folder / name)}" for name in names)


def _ask(kubectl: Kubectl, *words: str) -> str:
    try:
        return kubectl(*words)
    except ClusterError as error:
        return f"error: {error}\n"
