"""Celery as this project uses it: its workers, pool and broker; not its promises.

A Celery message is a doorbell. It is taken off the queue at once and never
acknowledged, so neither ``visibility_timeout`` nor a lost or doubled message
matters. The settings below avoid, one by one, faults of Celery and kombu 5.7;
the fault tests run against every new version.
"""

from collections.abc import Callable
from typing import Any

import kombu.transport.redis
from celery import Celery
from celery.apps.worker import (
    Worker,
    install_worker_int_handler,
    install_worker_term_handler,
)
from celery.signals import worker_shutting_down
from kombu.connection import Connection

from script_runner.core.redis_keys import WAKE_TASK, wake_queue
from script_runner.core.settings import Settings

#: The longest pause between two attempts to reach Redis again.
RECONNECT_SECONDS = 3


class _Connection(Connection):
    """Does not let the pauses grow to half a minute: an idle worker would miss tasks so long."""

    def ensure_connection(self, *args: Any, **options: Any) -> Any:
        options = {"interval_max": RECONNECT_SECONDS, **options}
        return super().ensure_connection(*args, **options)  # type: ignore[no-untyped-call]


class _Worker(Worker):  # type: ignore[misc]
    """Stops without a word: Celery writes one beside all logging, at each signal."""

    def install_platform_tweaks(self, worker: Any) -> None:
        super().install_platform_tweaks(worker)
        for install in (install_worker_term_handler, install_worker_int_handler):
            install(worker, verbose=False)


def make_celery(settings: Settings, drain: Callable[[], int]) -> Celery:
    """Return the application with its one task, which calls *drain*."""
    # On a lost connection kombu would restore un-acknowledged messages through
    # a client that is gone, and the worker would exit. Doorbells need no restoring.
    kombu.transport.redis.Channel.do_restore = False
    app = Celery("script_runner", broker=settings.redis_url, set_as_current=False)
    app.amqp.Connection = _Connection
    app.conf.update(
        task_default_queue=wake_queue(settings.redis_namespace),
        task_ignore_result=True,
        task_acks_late=False,
        task_serializer="json",
        accept_content=["json"],
        worker_pool="script_runner.worker.pool:WakePool",
        worker_concurrency=settings.worker_slots,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        # Its pub/sub connection can hang half-open and stop the whole worker.
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        # Running scripts outlive a lost connection: the lease decides, not the broker.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # Else the worker would exit, and its scripts with it, when Redis is demoted or full.
        broker_channel_error_retry=True,
        broker_pool_limit=2,
        broker_transport_options={
            "ack_emulation": False,
            "socket_timeout": 10,
            "socket_connect_timeout": 3,
            "socket_keepalive": True,
            "health_check_interval": 5,
            "client_name": "script-runner-worker",
        },
    )
    app.task(name=WAKE_TASK, ignore_result=True)(drain)
    return app


def run_celery(app: Celery, on_stopping: Callable[[], None]) -> int:
    """Run the worker until it is told to stop; return its exit code.

    *on_stopping* is called from a signal handler, at the first SIGTERM or
    SIGINT, and must only set flags.
    """

    worker = _Worker(
        app=app, quiet=True, without_gossip=True, without_mingle=True, without_heartbeat=True
    )

    def stopping(**_: Any) -> None:
        on_stopping()
        if worker.pool is not None:
            worker.pool.wake()  # else the loop hears of it only when its poll times out

    worker_shutting_down.connect(stopping, weak=False)
    worker.start()
    return int(worker.exitcode or 0)
