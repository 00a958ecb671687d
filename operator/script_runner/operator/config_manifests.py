"""What pods read at their start: config.json, and the internal Secret. (pure)"""

import base64
from collections.abc import Callable
from typing import Any

from script_runner.operator import names
from script_runner.operator.facts import Facts
from script_runner.operator.pods import CONFIG_KEY
from script_runner.operator.redis_manifests import redis_conf
from script_runner.operator.resource import ScriptRunner

Manifest = dict[str, Any]


def config_map(runner: ScriptRunner, facts: Facts) -> Manifest:
    """Return the ConfigMap of the present config.json.

    Each config has its own: pods that run keep the one they started with, and
    a new one reaches no pod before its rollout does.
    """
    name = names.config_map_name(runner.metadata.name, facts.config_hash)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(runner, name),
        "immutable": True,
        "data": {CONFIG_KEY: facts.config_text},
    }


def internal_secret(runner: ScriptRunner, make_token: Callable[[], str]) -> Manifest:
    """Return the Secret that is made once for each resource, and never written again.

    *make_token* returns another random text of letters and digits each time.
    Also without a Redis of ours it is the same: there is less to go wrong.
    """
    password = make_token()
    # The name of the Service alone: it is the first that a resolver tries.
    address = f"{names.redis_name(runner.metadata.name)}:{names.REDIS_PORT}"
    content = {
        names.REDIS_PASSWORD_KEY: password,
        names.REDIS_URL_KEY: f"redis://:{password}@{address}/0",
        names.REDIS_CONF_KEY: redis_conf(password),
        names.OPERATOR_TOKEN_KEY: make_token(),
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _metadata(runner, names.internal_secret_name(runner.metadata.name)),
        "type": "Opaque",
        "data": {key: base64.b64encode(text.encode()).decode() for key, text in content.items()},
    }


def _metadata(runner: ScriptRunner, name: str) -> Manifest:
    return {
        "name": name,
        "namespace": runner.metadata.namespace,
        "labels": names.labels(runner.metadata.name, names.CONFIG),
    }
