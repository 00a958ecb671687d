"""Prometheus metrics of one API process, and of the queue it looks at.

Tasks are counted in Redis, so every API process reports the same figures for
them; take the maximum over processes, not the sum. Durations of requests are
of this process. Names are documented in docs/reference/http-api.md.
"""

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from script_runner.core.task import TaskState

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: Long polls and followed output last for minutes.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class _QueueSnapshot(Collector):
    """What the store said a moment ago, in Prometheus' terms."""

    def __init__(self) -> None:
        self.counts: Mapping[str, int] | None = None
        self.statistics: Mapping[str, int] = {}
        self.workers = 0

    def collect(self) -> Iterator[Metric]:
        is_up = self.counts is not None
        yield GaugeMetricFamily("script_runner_redis_up", "1 when Redis answers", int(is_up))
        if self.counts is None:
            return
        tasks = GaugeMetricFamily(
            "script_runner_tasks", "Tasks that are kept, by state", labels=["state"]
        )
        for state in TaskState:
            tasks.add_metric([state.value], max(self.counts.get(state.value, 0), 0))
        yield tasks
        yield GaugeMetricFamily(
            "script_runner_workers", "Workers that were heard of lately", self.workers
        )
        events = CounterMetricFamily(
            "script_runner_task_events",
            "What happened to tasks since Redis was set up",
            labels=["event"],
        )
        for name, value in sorted(self.statistics.items()):
            events.add_metric([name], value)
        yield events


class Metrics:
    """The metrics of one API process; nothing is global."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._snapshot = _QueueSnapshot()
        self._registry.register(self._snapshot)
        self._durations = Histogram(
            "script_runner_http_request_duration_seconds",
            "Time until an answer was sent completely",
            ["method", "route", "status"],
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._streams = Gauge(
            "script_runner_http_followed_outputs",
            "Clients that follow the output of a task now",
            registry=self._registry,
        )
        self._children: dict[tuple[str, str, int], Histogram] = {}

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer; *route* is a template, never a path."""
        key = (method, route, status)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._durations.labels(method, route, str(status))
        child.observe(seconds)

    def stream_opened(self) -> None:
        self._streams.inc()

    def stream_closed(self) -> None:
        self._streams.dec()

    def exposition(
        self,
        counts: Mapping[str, int] | None,
        statistics: Mapping[str, int],
        workers: int = 0,
    ) -> bytes:
        """Return everything in the Prometheus text format; *counts* None: Redis is away."""
        self._snapshot.counts, self._snapshot.statistics = counts, statistics
        self._snapshot.workers = workers
        return generate_latest(self._registry)
