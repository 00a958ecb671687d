"""What the operator knows of the cluster: the last seen state of every object it deals with.

Filled by the watches, by LISTs and by the answers to our own requests, in any order: an older
state never replaces a newer one, and an object that was seen to go does not come back. A change
enqueues whoever it concerns: the ScriptRunner that an object belongs to, or those that refer to
it.
"""

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from script_runner.operator.kinds import (
    AUTOSCALER,
    KINDS,
    METADATA_ONLY,
    OPERATOR,
    SCRIPT_RUNNER,
    Object,
    version_of,
)
from script_runner.operator.names import INSTANCE_LABEL, MANAGED_BY_LABEL

#: (kind, namespace, name)
ObjectKey = tuple[str, str, str]
#: (namespace, name) of a ScriptRunner
RunnerKey = tuple[str, str]
#: More deletions than this are not remembered: their late echoes are long past.
MAX_TOMBSTONES = 10_000

POD_METADATA = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "labels",
    "annotations",
    "ownerReferences",
)


class Cache:
    """Objects by kind, namespace and name; *changed* is called with each runner concerned."""

    def __init__(self, changed: Callable[[RunnerKey], None]) -> None:
        self._changed = changed
        self._objects: dict[ObjectKey, Object] = {}
        self._owned: defaultdict[RunnerKey, set[ObjectKey]] = defaultdict(set)
        self._gone: dict[ObjectKey, int] = {}
        self._references: dict[RunnerKey, frozenset[ObjectKey]] = {}
        self._referrers: defaultdict[ObjectKey, set[RunnerKey]] = defaultdict(set)

    def get(self, kind: str, namespace: str, name: str) -> Object | None:
        """Return the object as it was last seen."""
        return self._objects.get((kind, namespace, name))

    def runner(self, key: RunnerKey) -> Object | None:
        """Return a ScriptRunner."""
        return self._objects.get((SCRIPT_RUNNER, *key))

    def runners(self) -> list[RunnerKey]:
        """Return the key of every ScriptRunner."""
        return [key[1:] for key in self._objects if key[0] == SCRIPT_RUNNER]

    def owned(self, runner: RunnerKey) -> list[Object]:
        """Return everything that carries the labels of this ScriptRunner."""
        return [self._objects[key] for key in sorted(self._owned.get(runner, ()))]

    def put(self, kind: str, thing: Mapping[str, Any]) -> bool:
        """Take an object as it is now; whether that was news."""
        key = key_of(kind, thing)
        version = version_of(thing)
        known = self._objects.get(key)
        if version <= max(version_of(known) if known else 0, self._gone.get(key, 0)):
            return False
        before = _owner(key, known) if known else None
        self._objects[key] = kept = essence(kind, thing)
        owner = _owner(key, kept)
        if before is not None and before != owner:
            self._disown(before, key)
        if owner is not None:
            self._owned[owner].add(key)
        self._tell(key, before, owner)
        return True

    def remove(self, kind: str, thing: Mapping[str, Any]) -> None:
        """Forget an object that was deleted."""
        key = key_of(kind, thing)
        known = self._objects.get(key)
        version = version_of(thing)
        self._gone[key] = max(version, self._gone.get(key, 0))
        while len(self._gone) > MAX_TOMBSTONES:
            del self._gone[next(iter(self._gone))]
        # A new object of that name may have been seen already, in a LIST.
        if known is not None and version_of(known) <= version:
            self._forget(key, known)

    def drop(self, kind: str, namespace: str, name: str) -> None:
        """Forget an object that the API says does not exist."""
        known = self._objects.get((kind, namespace, name))
        if known is not None:
            self.remove(kind, known)

    def replace(
        self, kind: str, namespace: str | None, items: Iterable[Mapping[str, Any]], version: int
    ) -> None:
        """Take a whole LIST, made at *version*: what is not in it is gone, unless it is newer."""
        listed = set()
        for item in items:
            listed.add(key_of(kind, item))
            self.put(kind, item)
        for key, known in list(self._objects.items()):
            is_meant = key[0] == kind and namespace in (None, key[1])
            if is_meant and key not in listed and version_of(known) <= version:
                self._forget(key, known)

    def refer(self, runner: RunnerKey, references: frozenset[ObjectKey]) -> None:
        """Remember which Secrets and ConfigMaps a runner refers to, in place of before."""
        before = self._references.get(runner, frozenset())
        if before == references:
            return
        for key in before - references:
            self._referrers[key].discard(runner)
            if not self._referrers[key]:
                del self._referrers[key]
        for key in references:
            self._referrers[key].add(runner)
        if references:
            self._references[runner] = references
        else:
            self._references.pop(runner, None)

    def _forget(self, key: ObjectKey, known: Object) -> None:
        del self._objects[key]
        owner = _owner(key, known)
        if owner is not None:
            self._disown(owner, key)
        self._tell(key, owner, None)

    def _disown(self, owner: RunnerKey, key: ObjectKey) -> None:
        self._owned[owner].discard(key)
        if not self._owned[owner]:
            del self._owned[owner]

    def _tell(self, key: ObjectKey, *owners: RunnerKey | None) -> None:
        concerned = {owner for owner in owners if owner is not None}
        concerned |= self._referrers.get(key, set())
        if key[0] == SCRIPT_RUNNER:
            concerned.add(key[1:])
        for runner in concerned:
            self._changed(runner)


def key_of(kind: str, thing: Mapping[str, Any]) -> ObjectKey:
    """Return the key of an object."""
    metadata = thing["metadata"]
    return (kind, metadata.get("namespace", ""), metadata["name"])


def essence(kind: str, thing: Mapping[str, Any]) -> Object:
    """Return what of an object is worth keeping: a thousand of them are held at once."""
    kept: Object = _with_shared_keys(_worth_keeping(kind, thing))
    return kept


def _worth_keeping(kind: str, thing: Mapping[str, Any]) -> dict[str, Any]:
    head = {"apiVersion": KINDS[kind].api_version, "kind": kind}
    metadata = {name: part for name, part in thing["metadata"].items() if name != "managedFields"}
    if kind in METADATA_ONLY:
        if metadata.get("labels", {}).get(MANAGED_BY_LABEL) != OPERATOR:
            names = ("name", "namespace", "uid", "resourceVersion")
            metadata = {name: metadata[name] for name in names if name in metadata}
        return {**head, "metadata": metadata}
    if kind == "Pod":
        return {**head, **_pod_essence(thing)}
    if kind == "Deployment" and _autoscaler_owns_replicas(thing):
        metadata["managedFields"] = [{"manager": AUTOSCALER}]
    return {**thing, **head, "metadata": metadata}


def _with_shared_keys(part: Any) -> Any:
    """Return *part* with one string for all keys that are alike: each answer brings its own.

    A quarter of the memory of all objects.
    """
    if isinstance(part, dict):
        return {sys.intern(key): _with_shared_keys(value) for key, value in part.items()}
    if isinstance(part, list):
        return [_with_shared_keys(item) for item in part]
    return part


def has_scaled(deployment: Object) -> bool:
    """Whether the number of replicas is the autoscaler's: then no other apply resets it."""
    return bool(deployment["metadata"].get("managedFields"))


def _autoscaler_owns_replicas(thing: Mapping[str, Any]) -> bool:
    return any(
        entry.get("manager") == AUTOSCALER
        and "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {})
        for entry in thing["metadata"].get("managedFields", ())
    )


def _pod_essence(pod: Mapping[str, Any]) -> dict[str, Any]:
    metadata, spec, status = pod["metadata"], pod.get("spec", {}), pod.get("status", {})
    return {
        "metadata": {name: metadata[name] for name in POD_METADATA if name in metadata},
        "spec": {"volumes": [item for item in spec.get("volumes", ()) if "configMap" in item]},
        "status": {
            name: status[name]
            for name in ("phase", "podIP", "conditions", "containerStatuses")
            if name in status
        },
    }


def _owner(key: ObjectKey, thing: Object) -> RunnerKey | None:
    labels = thing["metadata"].get("labels") or {}
    if (
        key[0] == SCRIPT_RUNNER
        or labels.get(MANAGED_BY_LABEL) != OPERATOR
        or INSTANCE_LABEL not in labels
    ):
        return None
    return (key[1], labels[INSTANCE_LABEL])
