"""The operator while the API server is in trouble, and after."""

import os
import signal

from script_runner.operator.crd import CRD_NAME, crd_manifest
from tests.cluster.control_plane import ControlPlane
from tests.cluster.processes import wait_for
from tests.control_plane.operator_case import WAIT_SECONDS, OperatorProcess, Runner


def test_an_api_server_that_is_away_for_long_is_waited_for(
    control_plane: ControlPlane, operator: OperatorProcess, runner: Runner
) -> None:
    runner.serve()
    control_plane.stop("kube-apiserver")
    try:
        # Three resyncs of five seconds: then it is blind, and says so.
        wait_for("blindness", WAIT_SECONDS, lambda: operator.probe("/livez")[0] == 503)
        assert operator.probe("/livez")[1].startswith("blind: ")
    finally:
        control_plane.start("kube-apiserver")
    wait_for("sight", WAIT_SECONDS, lambda: operator.probe("/livez")[0] == 200)
    runner("delete", "service", "plates")
    runner.apply(image="lab/plates:2")
    runner.wait_for("the service", lambda: runner.get("service", "plates"))
    runner.wait_for(
        "the new generation",
        lambda: runner.get("scriptrunner")["status"]["observedGeneration"] == 2,
    )


def test_what_was_deleted_while_no_watch_could_tell_is_made_anew(
    control_plane: ControlPlane, operator: OperatorProcess, runner: Runner
) -> None:
    runner.serve()
    os.kill(operator.pid, signal.SIGSTOP)
    try:
        runner("delete", "service", "plates")
        runner("delete", "networkpolicy", "plates-worker")
        # The watches of before get 410 Gone, and never hear of it.
        control_plane.stop("kube-apiserver")
        control_plane.compact()
        control_plane.start("kube-apiserver")
    finally:
        os.kill(operator.pid, signal.SIGCONT)
    runner.wait_for("the service", lambda: runner.get("service", "plates"))
    runner.wait_for("the policy", lambda: runner.get("networkpolicy", "plates-worker"))


def test_a_resource_definition_that_comes_late_or_again_is_noticed(
    control_plane: ControlPlane, stopped_operator: OperatorProcess, runner: Runner
) -> None:
    operator = stopped_operator
    try:
        runner.kubectl("delete", "crd", CRD_NAME)
        operator.launch()
        wait_for("a start", WAIT_SECONDS, lambda: "event=watch_failed" in operator.text())
        assert operator.probe("/readyz") == (503, "starting: not all is listed yet\n")
        _define(runner)
        wait_for("the list", WAIT_SECONDS, lambda: "event=listed" in operator.text())
        runner.kubectl("delete", "crd", CRD_NAME)
    finally:
        _define(runner)
    # The watch is still of the old definition, and silent: the resync sees it.
    runner.apply()
    runner.wait_for("the workers", lambda: runner.replicas() is not None)


def _define(runner: Runner) -> None:
    runner.kubectl.apply(crd_manifest(), options=["--server-side", "--force-conflicts"])
    runner.kubectl("wait", "--for=condition=Established", "--timeout=30s", f"crd/{CRD_NAME}")
