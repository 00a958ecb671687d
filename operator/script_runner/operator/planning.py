"""From a ScriptRunner to the manifests of all its parts, or to what is wrong with it.

A plan is kept for as long as nothing it was made from has changed: most passes find that out
and do no more.
"""

import asyncio
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from script_runner.core.config import parse_config
from script_runner.core.errors import ConfigError, Problem
from script_runner.operator import names
from script_runner.operator.cache import Cache, RunnerKey
from script_runner.operator.cluster import Cluster, NotFoundError
from script_runner.operator.desired import desired, hashed_references
from script_runner.operator.facts import Facts
from script_runner.operator.kinds import Object, uid_of
from script_runner.operator.references import Reference, references
from script_runner.operator.resource import ScriptRunner, parse_resource
from script_runner.operator.settings import OperatorSettings
from script_runner.operator.status import Fault

#: Where config.json is in our containers: what its relative paths start from.
CONFIG_FOLDER = Path("/app")
#: What etcd takes of one object is 1.5 MiB, and Kubernetes of one ConfigMap 1 MiB.
MAX_CONFIG_BYTES = 1_000_000


class PlanError(Exception):
    """There is no plan; *fault* says why."""

    def __init__(self, fault: Fault, *, is_config: bool) -> None:
        super().__init__(fault.message)
        self.fault = fault
        #: The spec or the config is wrong; otherwise something that it refers to is not there.
        self.is_config = is_config


@dataclass(frozen=True)
class Plan:
    """Everything that shall be, and what it was made from."""

    made_from: tuple[Any, ...]
    facts: Facts
    manifests: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class _Checked:
    """What is used of a config that is right."""

    timeout: float | None


class Planner:
    """Makes plans; reads the ConfigMaps that hold a config, and nothing else."""

    def __init__(self, cluster: Cluster, cache: Cache, settings: OperatorSettings) -> None:
        self._cluster = cluster
        self._cache = cache
        self._settings = settings
        self._parsed: dict[RunnerKey, tuple[tuple[str, int], ScriptRunner | Fault]] = {}
        #: Of each config only what is used of it: a thousand of them are held at once.
        self._checked: dict[RunnerKey, tuple[str, _Checked | Fault]] = {}
        self._plans: dict[RunnerKey, Plan] = {}
        self._configs: dict[RunnerKey, tuple[Object, dict[str, str]]] = {}

    def parse(self, key: RunnerKey, body: Object) -> ScriptRunner:
        """Return the resource; PlanError with every problem when it cannot be read."""
        version = (uid_of(body), int(body["metadata"].get("generation", 0)))
        known = self._parsed.get(key)
        if known is None or known[0] != version:
            known = self._parsed[key] = (version, _parse(body))
        found = known[1]
        if isinstance(found, Fault):
            raise PlanError(found, is_config=True)
        self._cache.refer(
            key, frozenset((item.kind, key[0], item.name) for item in references(found))
        )
        return found

    async def plan(self, key: RunnerKey, runner: ScriptRunner, *, is_accepting: bool) -> Plan:
        """Return what *runner* shall consist of."""
        absent = self._missing(runner)
        if absent is not None:
            raise absent
        text = await self._config_text(key, runner)
        secrets_hash = self._versions(
            runner, [_internal_secret(runner), *hashed_references(runner)]
        )
        metadata = runner.metadata
        made_from = (metadata.uid, metadata.generation, text, secrets_hash, is_accepting)
        known = self._plans.get(key)
        if known is not None and known.made_from == made_from:
            return known
        checked = await self._check(key, text)
        facts = Facts(
            config_text=text,
            config_hash=hashlib.sha256(text.encode()).hexdigest(),
            config_timeout=checked.timeout,
            secrets_hash=secrets_hash,
            password_hash=self._versions(runner, [_internal_secret(runner)]),
            redis_image=self._settings.redis_image,
            is_accepting=is_accepting,
        )
        plan = Plan(made_from, facts, tuple(desired(runner, facts)))
        self._plans[key] = plan
        return plan

    def forget(self, key: RunnerKey) -> None:
        """Drop everything about a resource that is gone."""
        self._parsed.pop(key, None)
        self._checked.pop(key, None)
        self._plans.pop(key, None)
        self._configs.pop(key, None)
        self._cache.refer(key, frozenset())

    async def _check(self, key: RunnerKey, text: str) -> _Checked:
        known = self._checked.get(key)
        if known is None or known[0] != text:
            # A config of 1 MB takes a second: in the loop it would hold up everybody.
            known = self._checked[key] = (text, await asyncio.to_thread(_check, text))
        if isinstance(known[1], Fault):
            raise PlanError(known[1], is_config=True)
        return known[1]

    def _missing(self, runner: ScriptRunner) -> PlanError | None:
        found = [
            item
            for item in references(runner)
            if not item.is_optional
            and self._cache.get(item.kind, runner.metadata.namespace, item.name) is None
        ]
        return _absent(found) if found else None

    def _versions(self, runner: ScriptRunner, objects: Iterable[tuple[str, str]]) -> str:
        """Return a text that changes when one of *objects* is changed or made anew."""
        digest = hashlib.sha256()
        for kind, name in objects:
            found = self._cache.get(kind, runner.metadata.namespace, name)
            metadata = found["metadata"] if found else {}
            version = (kind, name, metadata.get("uid"), metadata.get("resourceVersion"))
            digest.update(repr(version).encode())
        return digest.hexdigest()[:16]

    async def _config_text(self, key: RunnerKey, runner: ScriptRunner) -> str:
        source = runner.spec.config_from
        if source is None:
            self._configs.pop(key, None)
            return json.dumps(runner.spec.config, indent=2, sort_keys=True, ensure_ascii=False)
        data = await self._config_map(key, source.config_map)
        if source.key not in data:
            reference = Reference("ConfigMap", source.config_map, source.key, "spec.configFrom")
            raise _absent([reference])
        return data[source.key]

    async def _config_map(self, key: RunnerKey, name: str) -> dict[str, str]:
        """Return the data of a ConfigMap, read again only when its metadata has changed."""
        where = ("ConfigMap", key[0], name)
        seen = self._cache.get(*where)
        known = self._configs.get(key)
        if known is not None and known[0] == seen:
            return known[1]
        # One for each runner at most, and none for those that are gone: it may have 1 MB.
        self._configs.pop(key, None)
        try:
            found = await self._cluster.get(*where)
        except NotFoundError:
            return {}
        data: dict[str, str] = found.get("data") or {}
        if seen is not None:
            self._configs[key] = (seen, data)
        return data


def _internal_secret(runner: ScriptRunner) -> tuple[str, str]:
    return ("Secret", names.internal_secret_name(runner.metadata.name))


def _parse(body: Object) -> ScriptRunner | Fault:
    try:
        return parse_resource(body)
    except ConfigError as error:
        return Fault("SpecInvalid", _told(error))


def _check(text: str) -> _Checked | Fault:
    """Return what is used of the config, or what ``script-runner check`` says when it is wrong."""
    try:
        size = len(text.encode())
        if size > MAX_CONFIG_BYTES:
            problem = Problem("", f"has {size:,} bytes; a ConfigMap takes {MAX_CONFIG_BYTES:,}")
            raise ConfigError([problem])
        return _Checked(parse_config(text, CONFIG_FOLDER).timeout_seconds)
    except ConfigError as error:
        return Fault("ConfigInvalid", _told(error))


def _told(error: ConfigError) -> str:
    return "\n".join(str(problem) for problem in error.problems)


def _absent(found: list[Reference]) -> PlanError:
    reason = f"{found[0].kind}Missing"
    return PlanError(Fault(reason, "\n".join(map(str, found))), is_config=False)
