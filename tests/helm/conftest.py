"""helm itself: the one that HELM names, one on PATH, or the one compiled for the tests' cluster."""

import os

import pytest

from tests.cluster import binaries
from tests.cluster.find import missing
from tests.cluster.processes import ClusterError
from tests.helm.chart import Chart, Rendered

HINT = "no helm: put it on PATH, name it in HELM, or run `python -m tests.cluster build`"


@pytest.fixture(scope="session")
def helm() -> str:
    try:
        return os.environ.get("HELM") or str(binaries.find("helm"))
    except ClusterError:
        missing(HINT)


@pytest.fixture(scope="session")
def chart(helm: str) -> Chart:
    return Chart(helm)


@pytest.fixture(scope="session")
def default(chart: Chart) -> Rendered:
    """The chart with its own values."""
    return chart.render()
