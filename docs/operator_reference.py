"""The page docs/reference/operator-settings.md: the operator's settings and its metrics.

Made of the code that reads the ones and counts the others. ``generate_reference`` writes it.
"""

from collections.abc import Iterator

from script_runner.core.reference import settings_rows
from script_runner.operator.metrics import Metrics
from script_runner.operator.settings import OperatorSettings

HEAD = """\
# Settings and metrics of the operator

<!-- Generated from settings.py and metrics.py of the operator by `make docs`; do not edit. -->

`script-runner operator` reads these variables when it starts. The chart sets them from its
[values](../../helm/script-runner/README.md#values). What belongs to one ScriptRunner is in
[its resource](scriptrunner.md); the API and the workers have [settings](settings.md) of their own.

| variable | type | default | meaning |
|---|---|---|---|
"""

METRICS_HEAD = """
## Metrics

`/metrics` of the operator. Those of the APIs, which count tasks:
[HTTP API](http-api.md#metrics).

| name | kind | labels | meaning |
|---|---|---|---|
"""


def operator_page() -> str:
    """Return docs/reference/operator-settings.md."""
    return "".join([HEAD, settings_rows(OperatorSettings), METRICS_HEAD, *_metrics()])


def metric_names() -> list[str]:
    """Return the names under which the operator's metrics are to be found."""
    return [name for name, *_ in _families()]


def _metrics() -> Iterator[str]:
    for name, kind, labels, meaning in _families():
        shown = ", ".join(f"`{label}`" for label in labels)
        yield f"| `{name}` | {kind} | {shown} | {meaning} |\n"


def _families() -> Iterator[tuple[str, str, list[str], str]]:
    metrics = Metrics()
    # A metric with labels shows none before it was first counted.
    metrics.count_request("get", "Pod")
    metrics.reconciles.labels("ok")
    for family in metrics.registry.collect():
        is_counter = family.type == "counter"
        labels = [name for name in family.samples[0].labels if name != "le"]
        name = f"{family.name}_total" if is_counter else family.name
        yield name, family.type, labels, family.documentation
