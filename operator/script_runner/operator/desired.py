"""All that a ScriptRunner shall consist of, put together. (pure)

Each object is complete: labels, owner, and the hash of what was wanted. What
is no longer in the list, because the resource no longer asks for it, is for
the caller to remove.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

from script_runner.operator import names
from script_runner.operator.api_manifests import api_deployment, api_disruption_budget, api_service
from script_runner.operator.config_manifests import config_map
from script_runner.operator.config_manifests import internal_secret as unowned_internal_secret
from script_runner.operator.facts import Facts
from script_runner.operator.network_manifests import (
    ingress,
    public_url,
    redis_policy,
    worker_policy,
)
from script_runner.operator.redis_manifests import redis_service, redis_stateful_set
from script_runner.operator.resource import ScriptRunner
from script_runner.operator.storage_manifests import artifacts_claim, redis_claim
from script_runner.operator.worker_manifests import (
    grace_seconds,
    with_replicas,
    worker_deployment,
    worker_replicas_manifest,
)

__all__ = [
    "Facts",
    "desired",
    "grace_seconds",
    "hashed_references",
    "internal_secret",
    "public_url",
    "with_replicas",
    "worker_replicas_manifest",
]

Manifest = dict[str, Any]

#: Data outlives the resource.
_UNOWNED = frozenset({"PersistentVolumeClaim"})


def desired(runner: ScriptRunner, facts: Facts) -> list[Manifest]:
    """Return every object of *runner*, in the order in which they are to be applied.

    Not in it: the internal Secret, which is made once, and the number of
    workers, which has a field manager of its own.
    """
    return [_finished(runner, manifest) for manifest in _objects(runner, facts) if manifest]


def internal_secret(runner: ScriptRunner, make_token: Callable[[], str]) -> Manifest:
    """Return the Secret that is made once; *make_token* gives letters and digits, at random."""
    return _owned(runner, unowned_internal_secret(runner, make_token))


def hashed_references(runner: ScriptRunner) -> list[tuple[str, str]]:
    """Return kind and name of what pods read at their start: a change needs a rollout.

    Not among them: the API keys, whose file the API reads again by itself, and
    what makes the config, which has a hash of its own.
    """
    spec = runner.spec
    found = set()
    if spec.redis.existing_secret is not None:
        found.add(("Secret", spec.redis.existing_secret.name))
    if spec.artifacts.s3 is not None and spec.artifacts.s3.credentials_secret is not None:
        found.add(("Secret", spec.artifacts.s3.credentials_secret))
    for source in (variable.value_from for variable in spec.env):
        if source is not None and source.secret_key_ref is not None:
            found.add(("Secret", source.secret_key_ref.name))
        if source is not None and source.config_map_key_ref is not None:
            found.add(("ConfigMap", source.config_map_key_ref.name))
    return sorted(found)


def _objects(runner: ScriptRunner, facts: Facts) -> Iterator[Manifest | None]:
    yield config_map(runner, facts)
    yield artifacts_claim(runner)
    yield redis_claim(runner)
    # Before the pods that they protect.
    yield redis_policy(runner)
    yield worker_policy(runner)
    yield redis_service(runner)
    yield redis_stateful_set(runner, facts)
    yield api_service(runner)
    yield api_disruption_budget(runner)
    yield api_deployment(runner, facts)
    yield worker_deployment(runner, facts)
    yield ingress(runner)


def _finished(runner: ScriptRunner, manifest: Manifest) -> Manifest:
    if manifest["kind"] not in _UNOWNED:
        manifest = _owned(runner, manifest)
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    metadata = manifest["metadata"]
    annotations = {
        **metadata.get("annotations", {}),
        # By it an object from which something has to be taken away is known.
        names.MANIFEST_HASH: hashlib.sha256(text.encode()).hexdigest()[:16],
    }
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def _owned(runner: ScriptRunner, manifest: Manifest) -> Manifest:
    owner = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "name": runner.metadata.name,
        "uid": runner.metadata.uid,
        "controller": True,
        # The operator's finalizer decides how long a deletion takes, not its parts.
        "blockOwnerDeletion": False,
    }
    return {**manifest, "metadata": {**manifest["metadata"], "ownerReferences": [owner]}}
