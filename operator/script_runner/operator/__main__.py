"""``python -m script_runner.operator``: watch ScriptRunners and serve them until SIGTERM.

Exit codes: 0 after a clean stop, 1 when a part of the operator failed or the port cannot be
used, 2 when the settings or the credentials are wrong.
"""

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from script_runner.core.errors import ConfigError
from script_runner.core.logs import set_up_logging
from script_runner.operator.cluster import Cluster, ClusterError
from script_runner.operator.demand import new_session
from script_runner.operator.handlers import watch_runners
from script_runner.operator.kinds import SCRIPT_RUNNER
from script_runner.operator.metrics import Metrics
from script_runner.operator.probe import Probe
from script_runner.operator.reconcile import Reconciler
from script_runner.operator.settings import OperatorSettings, load_operator_settings
from script_runner.operator.watching import Watching

EXIT_FAILED = 1
EXIT_CONFIG = 2
#: For the passes that are under way; each is safe to cut off.
STOP_SECONDS = 15.0
#: A LIST makes a hundred thousand objects at once, none of them part of a cycle. By default they
#: would all be looked at again and again: more than half of the time of a resync.
GC_THRESHOLDS = (10_000, 20, 20)

logger = logging.getLogger("script_runner.operator")


def kubeconfig_of(environ: Mapping[str, str]) -> Path | None:
    """Return the kubeconfig to use; None stands for the service account of a pod."""
    if environ.get("KUBECONFIG"):
        return Path(environ["KUBECONFIG"])
    if environ.get("KUBERNETES_SERVICE_HOST"):
        return None
    return Path.home() / ".kube" / "config"


async def serve(settings: OperatorSettings, kubeconfig: Path | None) -> int:
    """Run the operator until it is told to stop; return the exit code."""
    stop = asyncio.Event()
    metrics = Metrics()
    cluster = await Cluster.connect(metrics, kubeconfig)
    try:
        async with new_session() as session:
            reconciler = Reconciler(cluster, session, settings, metrics)
            watching = Watching(cluster, reconciler.cache, settings.scopes, settings.resync_seconds)
            probe = Probe(reconciler, watching, metrics)
            try:
                port = await probe.start(settings.probe_host, settings.probe_port)
                scope = ",".join(settings.served_namespaces) or "all"
                logger.info("event=started namespaces=%s probe_port=%d", scope, port)
                return await _run(reconciler, watching, settings, kubeconfig, stop)
            finally:
                await reconciler.demand.close()
                await probe.close()
    finally:
        await cluster.close()


async def _run(
    reconciler: Reconciler,
    watching: Watching,
    settings: OperatorSettings,
    kubeconfig: Path | None,
    stop: asyncio.Event,
) -> int:
    def take_signals() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)

    async def watch() -> None:
        while True:
            # kopf looks once, at its start, which kinds there are.
            await watching.wait_served(SCRIPT_RUNNER)
            namespaces = settings.served_namespaces
            await watch_runners(reconciler.cache, namespaces, kubeconfig, take_signals)

    async def work() -> None:
        # Before everything was listed once, what is there would look as if it were missing.
        await watching.wait_listed()
        logger.info("event=listed runners=%d", len(reconciler.cache.runners()))
        await reconciler.queue.run()

    take_signals()
    working = asyncio.create_task(work(), name="work")
    others = [
        asyncio.create_task(watching.run(), name="watching"),
        asyncio.create_task(watch(), name="kopf"),
    ]
    stopped = asyncio.create_task(stop.wait(), name="stop")
    try:
        done, _ = await asyncio.wait(
            [working, stopped, *others], return_when=asyncio.FIRST_COMPLETED
        )
        reconciler.queue.close()
        await asyncio.wait([working], timeout=STOP_SECONDS)
    finally:
        for task in (working, stopped, *others):
            task.cancel()
        await asyncio.gather(working, stopped, *others, return_exceptions=True)
    failed = [task for task in done if task is not stopped]
    for task in failed:
        error = task.exception()
        logger.error("event=failed part=%s", task.get_name(), exc_info=error)
    logger.info("event=stopped")
    return EXIT_FAILED if failed else 0


def main() -> int:
    """Run the operator; return the exit code."""
    try:
        settings = load_operator_settings(os.environ)
    except ConfigError as error:
        sys.stderr.writelines(f"error: {problem}\n" for problem in error.problems)
        return EXIT_CONFIG
    set_up_logging("operator", settings.log_level)
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        return asyncio.run(serve(settings, kubeconfig_of(os.environ)))
    except ClusterError as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_CONFIG
    except OSError as error:
        sys.stderr.write(f"error: cannot listen on port {settings.probe_port}: {error}\n")
        return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
