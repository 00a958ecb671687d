"""Events of a ScriptRunner: one when a condition changes, none while it stays. (pure)"""

import secrets
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from script_runner.operator.kinds import KINDS, OPERATOR, SCRIPT_RUNNER, Object

#: Conditions whose change is told, and the status that is a warning.
TOLD = {"Ready": "False", "Degraded": "True", "ConfigValid": "False", "Paused": ""}
#: Why something is not ready that will be in a moment: no warning, or no news after another.
PASSING = frozenset({"Deleting", "RolloutInProgress"})
STARTING = frozenset({"ApiUnavailable", "RedisUnavailable"})
#: Two words that the node says in turn for as long as it tries.
SAME = {"ErrImagePull": "ImagePullBackOff"}
#: What the events API accepts.
MAX_NOTE = 1000


def events_between(
    runner: Object, before: Mapping[str, Any], after: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Give an event for each told condition whose status, or reason to warn, has changed.

    What is the cause of several changes at once is told once.
    """
    told = set()
    old = {item["type"]: item for item in before.get("conditions") or ()}
    for condition in after["conditions"]:
        name, status, reason = condition["type"], condition["status"], condition["reason"]
        if name not in TOLD:
            continue
        is_warning = status == TOLD[name] and reason not in PASSING
        known = old.get(name)
        if known is None:
            # One that begins is not ready, and that is no news; that it cannot begin is.
            has_changed = is_warning and name != "Ready"
        else:
            has_changed = known["status"] != status or (is_warning and _is_other(known, reason))
        if has_changed and reason not in told:
            told.add(reason)
            yield _event(runner, condition, is_warning)


def _is_other(known: Mapping[str, Any], reason: str) -> bool:
    """Whether *reason* is news to whoever knows that of before, while the status stays."""
    before = known["reason"]
    return reason not in STARTING and SAME.get(reason, reason) != SAME.get(before, before)


def _event(runner: Object, condition: Mapping[str, Any], is_warning: bool) -> dict[str, Any]:
    metadata = runner["metadata"]
    name, status = condition["type"], condition["status"]
    return {
        "apiVersion": KINDS["Event"].api_version,
        "kind": "Event",
        "metadata": {
            "name": f"{metadata['name']}.{secrets.token_hex(8)}",
            "namespace": metadata["namespace"],
        },
        "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "type": "Warning" if is_warning else "Normal",
        "reason": condition["reason"],
        "note": (condition["message"] or f"{name} is {status}")[:MAX_NOTE],
        "action": f"{name}{status}",
        "reportingController": "script-runner.io/operator",
        "reportingInstance": OPERATOR,
        "regarding": {
            "apiVersion": KINDS[SCRIPT_RUNNER].api_version,
            "kind": SCRIPT_RUNNER,
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "resourceVersion": metadata.get("resourceVersion", ""),
        },
    }
