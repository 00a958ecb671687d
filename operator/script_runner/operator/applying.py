"""Makes the cluster have what a plan says: applies what differs, removes what is not wanted.

Only objects that are ours are touched. One of the same name that somebody else made is left
alone, and the resource says so: whoever may create a ScriptRunner must not be able to change
objects of others through the operator.
"""

import base64
import logging
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from script_runner.operator import names
from script_runner.operator.cache import Cache, RunnerKey, has_scaled
from script_runner.operator.cluster import (
    Cluster,
    ClusterError,
    ForbiddenError,
    NotFoundError,
    RefusedError,
)
from script_runner.operator.desired import internal_secret, with_replicas
from script_runner.operator.drift import differs
from script_runner.operator.kinds import OPERATOR, Object, is_deleting, owner_uid, uid_of
from script_runner.operator.planning import PlanError
from script_runner.operator.resource import ScriptRunner
from script_runner.operator.status import Fault
from script_runner.operator.workloads import rollout_of

#: Kinds of which an object is removed when the resource no longer asks for it. Never claims.
REMOVED = frozenset(
    {
        "ConfigMap",
        "Deployment",
        "Ingress",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
        "StatefulSet",
    }
)
TOKEN_BYTES = 24

logger = logging.getLogger("script_runner.operator.applying")


class BusyError(Exception):
    """An object of an earlier resource of this name is still being deleted: come again."""


@dataclass
class Applied:
    """What came of one round: how many requests changed something, and what was refused."""

    changes: int = 0
    faults: list[Fault] = field(default_factory=list)


class Applier:
    """Applies and removes objects of ScriptRunners."""

    def __init__(self, cluster: Cluster, cache: Cache) -> None:
        self._cluster = cluster
        self._cache = cache
        self._tokens: dict[RunnerKey, tuple[str, str]] = {}

    async def apply(
        self, runner: ScriptRunner, manifests: Iterable[Mapping[str, Any]], first_workers: int
    ) -> Applied:
        """Apply what differs; *first_workers* is how many a new Deployment of workers gets."""
        applied = Applied()
        for manifest in manifests:
            try:
                applied.changes += await self._apply_one(runner, manifest, first_workers)
            except (RefusedError, ForbiddenError) as error:
                applied.faults.append(_refused(manifest, error))
            except PlanError as error:
                applied.faults.append(error.fault)
        return applied

    async def remove_unwanted(
        self, key: RunnerKey, runner: ScriptRunner, manifests: Iterable[Mapping[str, Any]]
    ) -> None:
        """Delete what belongs to *runner* and is not among *manifests*."""
        wanted = {(item["kind"], item["metadata"]["name"]) for item in manifests}
        owned = self._cache.owned(key)
        in_use = _config_maps_in_use(owned)
        for thing in owned:
            kind, metadata = thing["kind"], thing["metadata"]
            is_ours = owner_uid(thing) == runner.metadata.uid and not is_deleting(thing)
            if kind not in REMOVED or not is_ours or (kind, metadata["name"]) in wanted:
                continue
            if kind == "ConfigMap" and (in_use is None or metadata["name"] in in_use):
                continue
            logger.info("event=removed kind=%s namespace=%s name=%s", kind, *_place(thing))
            await self._cluster.delete(kind, *_place(thing), uid_of(thing))
            self._cache.remove(kind, thing)

    async def ensure_secret(self, key: RunnerKey, runner: ScriptRunner) -> str:
        """Make the internal Secret if there is none; return the operator's token in it.

        PlanError when it cannot be made, or belongs to somebody else.
        """
        name = names.internal_secret_name(runner.metadata.name)
        seen = self._cache.get("Secret", key[0], name)
        known = self._tokens.get(key)
        if seen is not None and known is not None and known[0] == _version(seen):
            return known[1]
        secret = await self._read_or_make_secret(runner, key[0], name)
        self._check_owner(runner, secret)
        self._cache.put("Secret", secret)
        data = secret.get("data") or {}
        token = base64.b64decode(data.get(names.OPERATOR_TOKEN_KEY, "")).decode(errors="replace")
        self._tokens[key] = (_version(secret), token)
        return token

    def forget(self, key: RunnerKey) -> None:
        """Drop what is remembered of a resource that is gone."""
        self._tokens.pop(key, None)

    async def _read_or_make_secret(
        self, runner: ScriptRunner, namespace: str, name: str
    ) -> dict[str, Any]:
        try:
            return await self._cluster.get("Secret", namespace, name)
        except NotFoundError:
            manifest = internal_secret(runner, lambda: secrets.token_hex(TOKEN_BYTES))
        try:
            return await self._cluster.create(manifest)
        except (RefusedError, ForbiddenError) as error:
            raise PlanError(_refused(manifest, error), is_config=False) from error

    async def _apply_one(
        self, runner: ScriptRunner, manifest: Mapping[str, Any], first_workers: int
    ) -> int:
        kind, (namespace, name) = manifest["kind"], _place(manifest)
        live = self._cache.get(kind, namespace, name)
        if live is None:
            live = await self._look(kind, namespace, name)
        if live is not None:
            self._check_owner(runner, live)
        place = differs(_comparable(manifest), live)
        if place is None:
            return 0
        is_worker = kind == "Deployment" and name == names.worker_name(runner.metadata.name)
        if is_worker and (live is None or not has_scaled(live)):
            # Not the autoscaler's yet: without a number here it would fall back to one.
            replicas = first_workers if live is None else live["spec"].get("replicas", 1)
            manifest = with_replicas(manifest, replicas)
        self._cache.put(kind, await self._cluster.apply(manifest, OPERATOR))
        logger.info(
            "event=applied kind=%s namespace=%s name=%s because=%s", kind, namespace, name, place
        )
        return 1

    async def _look(self, kind: str, namespace: str, name: str) -> Object | None:
        """Return an object that the watches, which see ours alone, do not know."""
        try:
            return await self._cluster.get(kind, namespace, name)
        except NotFoundError:
            return None

    def _check_owner(self, runner: ScriptRunner, live: Object) -> None:
        kind, metadata, uid = live["kind"], live["metadata"], owner_uid(live)
        labels = metadata.get("labels") or {}
        is_labeled = (
            labels.get(names.MANAGED_BY_LABEL) == OPERATOR
            and labels.get(names.INSTANCE_LABEL) == runner.metadata.name
        )
        if uid == runner.metadata.uid or (uid is None and is_labeled):
            if is_deleting(live):
                raise BusyError(f"{kind} {metadata['name']} is being deleted")
            return
        if is_labeled and _is_of_runner(live):
            # Of a resource of this name that is gone: the garbage collector will take it.
            raise BusyError(f"{kind} {metadata['name']} belongs to a deleted {names.KIND}")
        message = (
            f"{kind} {metadata['name']} exists and is not of this {names.KIND}; delete it, or "
            "give the resource another name"
        )
        raise PlanError(Fault("NameTaken", message), is_config=False)


def _refused(manifest: Mapping[str, Any], error: ClusterError) -> Fault:
    kind, name = manifest["kind"], manifest["metadata"]["name"]
    return Fault("ObjectRefused", f"{kind} {name}: {error}")


def _comparable(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """Leave out what of a ConfigMap is not watched: it cannot be changed anyway."""
    if manifest["kind"] != "ConfigMap":
        return manifest
    return {key: value for key, value in manifest.items() if key not in ("data", "immutable")}


def _config_maps_in_use(owned: Iterable[Object]) -> set[str] | None:
    """Return which ConfigMaps pods have; None while a rollout may still bring back old pods."""
    found = set()
    for thing in owned:
        if thing["kind"] == "Deployment" and not rollout_of(thing).is_complete:
            return None
        if thing["kind"] == "Pod":
            found |= {item["configMap"]["name"] for item in thing["spec"]["volumes"]}
    return found


def _is_of_runner(live: Object) -> bool:
    references = live["metadata"].get("ownerReferences") or ()
    return any(item.get("controller") and item.get("kind") == names.KIND for item in references)


def _place(thing: Mapping[str, Any]) -> tuple[str, str]:
    return (thing["metadata"]["namespace"], thing["metadata"]["name"])


def _version(thing: Object) -> str:
    return f"{uid_of(thing)} {thing['metadata'].get('resourceVersion')}"
