"""The workers of a ScriptRunner: their Deployment, and its number of pods. (pure)

Two field managers share the Deployment. This module builds what each of them
applies: the one everything but ``replicas``, the other nothing but that, so
that neither ever takes back what the other has set.
"""

import math
from collections.abc import Mapping
from typing import Any

from script_runner.operator import names
from script_runner.operator.facts import Facts
from script_runner.operator.pods import (
    KEPT_REVISIONS,
    SHARED_SETTINGS,
    WORKER_SETTINGS,
    OurPod,
    chosen_settings,
    our_template,
    shared_environment,
)
from script_runner.operator.resource import ScriptRunner
from script_runner.operator.resource_parts import WEEK_SECONDS, EnvVar
from script_runner.operator.variables import from_field, literal

Manifest = dict[str, Any]

RUNDIR_BASE = "/tmp/script-runner"  # noqa: S108 - in the pod's own emptyDir
DEFAULT_GRACE_SECONDS = 3600
#: After the longest script there are results to be stored.
STORING_SECONDS = 30
#: Default of the setting STOP_GRACE_SECONDS: from SIGTERM to SIGKILL of a script.
STOP_GRACE_SECONDS = 5
#: For a worker to hand back what it had to stop, and to end.
LEAVE_SECONDS = 15
#: A worker with a bad configuration ends within this time, and must not pass for a good one:
#: the rollout would go on and replace those that work.
MIN_READY_SECONDS = 5
#: Images with R or conda in them are large.
PROGRESS_SECONDS = 1800


def worker_deployment(runner: ScriptRunner, facts: Facts) -> Manifest:
    """Return the Deployment of the workers, without ``replicas``."""
    name = runner.metadata.name
    grace = grace_seconds(runner, facts)
    pod = OurPod(
        component=names.WORKER,
        environment=_environment(runner, grace),
        resources=runner.spec.workers.resources,
        tmp_size=runner.spec.workers.scratch,
        spec={"terminationGracePeriodSeconds": grace + STOP_GRACE_SECONDS + LEAVE_SECONDS},
        # A node autoscaler that empties a node gives pods ten minutes, whatever their own grace
        # is, and kills the scripts then. So it must leave nodes with a worker alone; idle
        # workers are stopped by the scaling, and free their node.
        annotations={"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"},
    )
    return {
        **_head(runner),
        "spec": {
            "minReadySeconds": MIN_READY_SECONDS,
            "progressDeadlineSeconds": PROGRESS_SECONDS,
            "revisionHistoryLimit": KEPT_REVISIONS,
            "selector": {"matchLabels": names.selector(name, names.WORKER)},
            "strategy": {
                "type": "RollingUpdate",
                # Pods that end do not count: new ones take up the tasks at once, while the old
                # ones finish their scripts on the config they began with.
                "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0},
            },
            "template": our_template(runner, facts, pod),
        },
    }


def worker_replicas_manifest(runner: ScriptRunner, replicas: int) -> Manifest:
    """Return what the field manager of the scaling applies: the number of workers alone."""
    name = names.worker_name(runner.metadata.name)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": runner.metadata.namespace},
        "spec": {"replicas": replicas},
    }


def with_replicas(deployment: Mapping[str, Any], replicas: int) -> Manifest:
    """Return *deployment* as it must be applied to create it.

    A Deployment that is made without a number gets one pod, also where there
    shall be none. The next apply is without it again; by then the number
    belongs to the scaling.
    """
    return {**deployment, "spec": {**deployment["spec"], "replicas": replicas}}


def grace_seconds(runner: ScriptRunner, facts: Facts) -> int:
    """Return how long a worker that must stop lets its scripts go on."""
    chosen = runner.spec.workers.grace_period_seconds
    if chosen is not None:
        return chosen
    if facts.config_timeout is None:
        return DEFAULT_GRACE_SECONDS
    return min(math.ceil(facts.config_timeout) + STORING_SECONDS, WEEK_SECONDS)


def _head(runner: ScriptRunner) -> Manifest:
    name = runner.metadata.name
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": names.worker_name(name),
            "namespace": runner.metadata.namespace,
            "labels": names.labels(name, names.WORKER),
        },
    }


def _environment(runner: ScriptRunner, grace: int) -> list[Manifest]:
    ours = [
        *shared_environment(runner),
        from_field("WORKER_NAME", "metadata.name"),
        literal("WORKER_SLOTS", str(runner.spec.workers.concurrency)),
        literal("DRAIN_GRACE_SECONDS", str(grace)),
        literal("RUNDIR_BASE", RUNDIR_BASE),
        *chosen_settings(runner, WORKER_SETTINGS | SHARED_SETTINGS),
    ]
    taken = {variable["name"] for variable in ours}
    # First, so that $(NAME) in a value of theirs can stand for none of ours, such as the URL of
    # Redis with its password.
    theirs = [_variable(entry) for entry in runner.spec.env if entry.name not in taken]
    return [*theirs, *ours]


def _variable(entry: EnvVar) -> Manifest:
    found: Manifest = entry.model_dump(by_alias=True, exclude_none=True, exclude_defaults=False)
    return found
