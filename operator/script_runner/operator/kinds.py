"""The kinds of Kubernetes object the operator deals with, and where the API has them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from script_runner.operator import names

#: An object as the API gives it. Never changed in place: caches and callers share it.
Object = Mapping[str, Any]

SCRIPT_RUNNER = names.KIND
#: The two field managers: all but what the next owns,
OPERATOR = names.MANAGED_BY
#: and the number of workers, so that an apply of the other never resets it.
AUTOSCALER = "script-runner-autoscaler"
#: What the watches select: objects of ours, pods included.
OURS = f"{names.MANAGED_BY_LABEL}={names.MANAGED_BY}"


@dataclass(frozen=True)
class Kind:
    """One kind: its API version and the name of its collection in URLs."""

    api_version: str
    plural: str

    @property
    def root(self) -> str:
        """The start of the URL's path."""
        is_core = "/" not in self.api_version
        return f"/{'api' if is_core else 'apis'}/{self.api_version}"


KINDS: Mapping[str, Kind] = {
    SCRIPT_RUNNER: Kind(names.API_VERSION, "scriptrunners"),
    "ConfigMap": Kind("v1", "configmaps"),
    "Deployment": Kind("apps/v1", "deployments"),
    "Event": Kind("events.k8s.io/v1", "events"),
    "Ingress": Kind("networking.k8s.io/v1", "ingresses"),
    "NetworkPolicy": Kind("networking.k8s.io/v1", "networkpolicies"),
    "PersistentVolumeClaim": Kind("v1", "persistentvolumeclaims"),
    "Pod": Kind("v1", "pods"),
    "PodDisruptionBudget": Kind("policy/v1", "poddisruptionbudgets"),
    "Secret": Kind("v1", "secrets"),
    "Service": Kind("v1", "services"),
    "StatefulSet": Kind("apps/v1", "statefulsets"),
}

#: Of these only the metadata is read, of all objects and not only ours: a change of one that a
#: ScriptRunner refers to must be seen, and no content that is not needed leaves the API.
METADATA_ONLY = frozenset({"ConfigMap", "Secret"})


def uid_of(thing: Object) -> str:
    """Return the uid of an object."""
    return str(thing["metadata"].get("uid", ""))


def owner_uid(thing: Object) -> str | None:
    """Return the uid of the object's controller, None when it has none."""
    for reference in thing["metadata"].get("ownerReferences", ()):
        if reference.get("controller"):
            return str(reference["uid"])
    return None


def version_of(thing: Object) -> int:
    """Return the resource version as a number, 0 when there is none: they only ever grow."""
    text = str(thing["metadata"].get("resourceVersion", ""))
    return int(text) if text.isdigit() else 0


def is_deleting(thing: Object) -> bool:
    """Whether the object is on its way out."""
    return thing["metadata"].get("deletionTimestamp") is not None
