"""The metrics of the operator: every name once. ``/metrics`` is in ``probe``."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

DURATIONS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Counters of one operator, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "script_runner_operator_requests",
            "Requests to the Kubernetes API; a watch counts once, when it is opened.",
            ["verb", "kind"],
            registry=self.registry,
        )
        self.reconciles = Counter(
            "script_runner_operator_reconciles",
            "Passes over one ScriptRunner: ok, or error when it has to be repeated.",
            ["result"],
            registry=self.registry,
        )
        self.duration = Histogram(
            "script_runner_operator_reconcile_seconds",
            "Time of one pass.",
            buckets=DURATIONS,
            registry=self.registry,
        )
        self.queue_depth = Gauge(
            "script_runner_operator_queue_depth",
            "ScriptRunners that wait for a pass now.",
            registry=self.registry,
        )
        self.runners = Gauge(
            "script_runner_operator_scriptrunners",
            "ScriptRunners by whether they are ready.",
            ["ready"],
            registry=self.registry,
        )
        self.resync_age = Gauge(
            "script_runner_operator_last_resync_age_seconds",
            "Time since everything was last listed with success.",
            registry=self.registry,
        )
        self.demand_failures = Counter(
            "script_runner_operator_demand_failures",
            "Times the API of a ScriptRunner did not say what it needs.",
            registry=self.registry,
        )
        for ready in ("true", "false"):
            self.runners.labels(ready)

    def count_request(self, verb: str, kind: str) -> None:
        """Count one request to the Kubernetes API."""
        self._requests.labels(verb, kind).inc()
