"""What is made only when a value asks for it."""

import re
from typing import Any

import pytest
from prometheus_client import generate_latest

from script_runner.api.metrics import Metrics as ApiMetrics
from script_runner.operator.metrics import Metrics as OperatorMetrics
from tests.helm.chart import NAME, Chart, Rendered

ON: dict[str, Any] = {"enabled": True}


def _names(rendered: Rendered, kind: str) -> set[str]:
    return {one["metadata"]["name"] for one in rendered.of(kind)}


def test_whoever_watches_reaches_the_metrics_and_nothing_else(default: Rendered) -> None:
    policy = default.one("NetworkPolicy", NAME)["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    assert policy["ingress"] == [{"ports": [{"port": "http"}], "from": [{"namespaceSelector": {}}]}]


def test_a_peer_bounds_who_reaches_the_metrics(chart: Chart) -> None:
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    rendered = chart.render({"networkPolicy": {"metricsFrom": [peer]}})
    (rule,) = rendered.one("NetworkPolicy", NAME)["spec"]["ingress"]
    assert rule["from"] == [peer]


def test_the_way_out_is_bound_when_asked(chart: Chart) -> None:
    egress = {"enabled": True, "apiServerCidrs": ["10.2.0.0/24"], "apiServerPorts": [8443]}
    policy = chart.render({"networkPolicy": {"egress": egress}}).one("NetworkPolicy", NAME)["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    server, dns, apis = policy["egress"]
    assert server == {"ports": [{"port": 8443}], "to": [{"ipBlock": {"cidr": "10.2.0.0/24"}}]}
    assert {port["protocol"] for port in dns["ports"]} == {"UDP", "TCP"}
    assert apis["to"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "api"


def test_the_policy_can_be_left_out(chart: Chart) -> None:
    assert chart.render({"networkPolicy": {"enabled": False}}).of("NetworkPolicy") == []


def test_a_disruption_budget_never_holds_up_a_drain(chart: Chart, default: Rendered) -> None:
    assert default.of("PodDisruptionBudget") == []
    budget = chart.render({"podDisruptionBudget": ON}).one("PodDisruptionBudget", NAME)["spec"]
    assert budget["maxUnavailable"] == 1
    assert "minAvailable" not in budget


def test_the_definition_stays_when_the_release_goes(chart: Chart, default: Rendered) -> None:
    (kept,) = default.of("CustomResourceDefinition")
    assert kept["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    (lost,) = chart.render({"crds": {"keep": False}}).of("CustomResourceDefinition")
    assert "annotations" not in lost["metadata"]
    assert chart.render({"crds": {"enabled": False}}).of("CustomResourceDefinition") == []


def test_without_the_prometheus_operator_nothing_needs_it(default: Rendered) -> None:
    assert not [one for one in default.manifests if "coreos" in one["apiVersion"]]


def test_monitors_find_the_operator_and_the_apis(chart: Chart) -> None:
    rendered = chart.render({"metrics": {"serviceMonitor": {**ON, "labels": {"team": "lab"}}}})
    assert _names(rendered, "ServiceMonitor") == {NAME, f"{NAME}-apis"}
    monitor = rendered.one("ServiceMonitor", NAME)
    assert monitor["metadata"]["labels"]["team"] == "lab"
    (service,) = rendered.of("Service")
    assert (
        monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    )
    assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]


def test_monitors_look_where_the_operator_does(chart: Chart) -> None:
    values = {"namespaces": ["lab"], "metrics": {"serviceMonitor": ON}}
    monitor = chart.render(values).one("ServiceMonitor", f"{NAME}-apis")
    assert monitor["spec"]["namespaceSelector"] == {"matchNames": ["lab"]}


def test_alerts_ask_for_metrics_that_there_are(chart: Chart) -> None:
    (rule,) = chart.render({"metrics": {"prometheusRule": ON}}).of("PrometheusRule")
    alerts = [alert for group in rule["spec"]["groups"] for alert in group["rules"]]
    api = ApiMetrics().exposition({"errored": 1, "queued": 1}, {"errored": 1}, 1).decode()
    operator = generate_latest(OperatorMetrics().registry).decode()
    known = set(re.findall(r"^([a-z_]+)", api + operator, re.MULTILINE))
    asked = {
        name for alert in alerts for name in re.findall(r"script_runner_[a-z_]+", alert["expr"])
    }
    assert len(asked) >= 5
    assert asked <= known


@pytest.mark.parametrize("key", ["summary", "description"])
def test_alerts_say_what_is_wrong_and_what_to_look_at(chart: Chart, key: str) -> None:
    (rule,) = chart.render({"metrics": {"prometheusRule": ON}}).of("PrometheusRule")
    for group in rule["spec"]["groups"]:
        for alert in group["rules"]:
            assert alert["annotations"][key]
            assert alert["labels"]["severity"] in {"warning", "critical"}
