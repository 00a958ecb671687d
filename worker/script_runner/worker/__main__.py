"""The worker process: ``python -m script_runner.worker``, under its guardian."""

import logging
import os
import resource
import signal
import sys
import threading
import warnings

from celery.exceptions import CPendingDeprecationWarning, SecurityWarning

from script_runner.core.artifacts import ArtifactStore
from script_runner.core.config import load_config
from script_runner.core.errors import ConfigError, UnavailableError
from script_runner.core.logs import set_up_logging
from script_runner.core.redis_queue import RedisQueue, connect
from script_runner.core.retry import Policy
from script_runner.core.settings import load_settings
from script_runner.worker.attempt import Workshop, run_attempt
from script_runner.worker.celery_app import make_celery, run_celery
from script_runner.worker.drain import Slots, drain
from script_runner.worker.process import adopt_orphans
from script_runner.worker.process_tree import hide_environment
from script_runner.worker.rundir import Rundirs
from script_runner.worker.running import RunningAttempts
from script_runner.worker.supervisor import Supervisor

#: A slot's thread only waits; a thousand of them must not cost much.
STACK_BYTES = 512 * 1024
#: Each needs its pipes, its output files and its handle.
DESCRIPTORS_PER_SLOT = 8
OTHER_DESCRIPTORS = 256
EXIT_CONFIG = 2

log = logging.getLogger("script_runner.worker")


def main() -> int:
    """Check the settings and the configuration, then work until told to stop."""
    # Celery warns that root is dangerous with pickle (only JSON is accepted here), and at each
    # lost connection of a default that its next version changes (it is set here).
    for category in (SecurityWarning, CPendingDeprecationWarning):
        warnings.filterwarnings("ignore", category=category)
    # Until Celery has handlers of its own there is nothing to drain.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    hide_environment()
    try:
        return _work()
    except ConfigError as error:
        sys.stderr.writelines(f"error: {problem}\n" for problem in error.problems)
        return EXIT_CONFIG


def _work() -> int:
    settings = load_settings(os.environ)
    set_up_logging("worker", settings.log_level)
    config = load_config(settings.config)
    policy = Policy.of(config, settings)
    artifacts = ArtifactStore(settings.artifacts_url)
    threading.stack_size(STACK_BYTES)
    _allow_descriptors(settings.worker_slots * DESCRIPTORS_PER_SLOT + OTHER_DESCRIPTORS)
    adopt_orphans()
    slots = Slots(settings.worker_name)
    rundirs = Rundirs.open(settings, config, slots.instance)
    rundirs.sweep()
    stopping = threading.Event()
    namespace = settings.redis_namespace
    queue = RedisQueue(connect(settings.redis_url), namespace, policy, stopping)
    # Connections of its own: heartbeats never wait for one that a slot holds.
    lifeline = RedisQueue(connect(settings.redis_url), namespace, policy)
    running = RunningAttempts()
    supervisor = Supervisor(slots.worker, lifeline, artifacts, running)
    shop = Workshop(config, settings, policy, queue, artifacts, running, rundirs, os.environ.copy())

    def start_draining() -> None:
        stopping.set()
        supervisor.drain_after(settings.drain_grace_seconds)

    def wake() -> int:
        return drain(slots, queue, stopping, lambda claim: run_attempt(shop, claim))

    app = make_celery(settings, wake)
    log.info("event=worker_started worker=%s slots=%d", slots.worker, settings.worker_slots)
    supervisor.start()
    # Aside: a storage that hangs must not keep tasks waiting.
    threading.Thread(target=_check_artifacts, args=(artifacts,), daemon=True).start()
    code = run_celery(app, start_draining)
    supervisor.stop()
    rundirs.close()
    log.info("event=worker_stopped worker=%s", slots.worker)
    return code


def _check_artifacts(artifacts: ArtifactStore) -> None:
    """Say when nothing can be stored; it may be mended while we run."""
    try:
        artifacts.check()
    except UnavailableError as error:
        log.warning('event=artifacts_unavailable detail="%s"', error)


def _allow_descriptors(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        allowed = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        if allowed < count:
            log.warning("event=few_descriptors allowed=%d wanted=%d", allowed, count)


if __name__ == "__main__":
    sys.exit(main())
