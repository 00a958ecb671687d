"""A ScriptRunner under test: applied, waited for, called through its Service or an ingress."""

import http.client
import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from tests.cluster.kubectl import Kubectl
from tests.integration.api_client import Answer, ApiClient, poll

#: For pods to start on a node that does other things as well.
READY_SECONDS = 120.0
TASK_SECONDS = 90.0
CALL_SECONDS = 30.0
#: On the volume that API and workers share: a line for each time a script was started.
JOURNAL = "/var/lib/script-runner/artifacts/started.journal"

#: Says that it started, sleeps, and says who it was. A signal ends it, as it ends most scripts.
SCRIPT = f"""
import json, os, socket, sys, time
label, seconds, version = sys.argv[1:]
with open({JOURNAL!r}, "a") as journal:
    journal.write(label + chr(10))
started = time.time()
time.sleep(float(seconds))
word = os.environ.get("WORD")
print(json.dumps(dict(version=version, word=word, pod=socket.gethostname(), started=started)))
"""


def config(version: str = "1", **more: object) -> dict[str, object]:
    """Return the config of a script that sleeps for as long as the caller says."""
    return {
        "command": ["python3", "-c", SCRIPT, "$LABEL", "$SECONDS", version],
        "inputs": {
            "query_args": [
                {"env_var_name": "LABEL", "query_var_name": "label", "type": "string"},
                {"env_var_name": "SECONDS", "query_var_name": "seconds", "type": "number"},
            ]
        },
        "outputs": {"results": [{"kind": "stdout", "format": "json"}]},
        "retry": {"backoff_seconds": 1},
        **more,
    }


def spec(image: str, **changes: object) -> dict[str, object]:
    """Return a small spec: no login, one worker that runs two scripts at once."""
    return {
        "image": image,
        "config": config(),
        "api": {"auth": {"provider": ["none"]}},
        "workers": {"concurrency": 2, "gracePeriodSeconds": 120},
        "redis": {"managed": {"size": "100Mi"}},
        "artifacts": {"volume": {"size": "100Mi", "accessModes": ["ReadWriteOnce"]}},
        **changes,
    }


class RunnerApi(ApiClient):
    """Calls an API at *url*, under the name *host* if that is another one."""

    def __init__(self, url: str, host: str = "", headers: Mapping[str, str] | None = None) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        self._address = parts.hostname
        super().__init__(lambda: parts.port or 80)
        self._headers = {**({"Host": host} if host else {}), **(headers or {})}

    def call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        connection = http.client.HTTPConnection(self._address, self._port(), timeout=CALL_SECONDS)
        try:
            connection.request(method, path, body, {**self._headers, **(headers or {})})
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            answer = Answer(response.status, names, response.read())
        finally:
            connection.close()
        if answer.status == 404 and not answer.data:
            # None of ours is empty: a Service without a pod can lead out of the cluster.
            raise ConnectionError(f"somebody else answered: {answer}")
        return answer

    def start(self, label: str, seconds: float) -> str:
        """Submit a task of `config`; return its id once its script runs."""
        task_id = self.submit(label=label, seconds=seconds)
        self.wait_until(task_id, ["running"], TASK_SECONDS)
        return task_id

    def run(self, label: str, seconds: float = 0) -> dict[str, Any]:
        """Submit a task of `config`; return it when it has succeeded."""
        return self.succeed(self.submit(label=label, seconds=seconds))

    def succeed(self, task_id: str, seconds: float = TASK_SECONDS) -> dict[str, Any]:
        """Return the task when it has ended; it must have succeeded."""
        task = self.wait(task_id, seconds)
        assert task["state"] == "succeeded", task
        return task


class Runner:
    """One ScriptRunner and what the operator made of it."""

    def __init__(self, kubectl: Kubectl, namespace: str, name: str) -> None:
        self._kubectl = kubectl
        self.namespace = namespace
        self.name = name

    def kubectl(self, *words: str, stdin: str | None = None, seconds: float = 60) -> str:
        """Run kubectl in the resource's namespace."""
        return self._kubectl("-n", self.namespace, *words, stdin=stdin, seconds=seconds)

    def objects(self, kinds: str, *words: str) -> list[dict[str, Any]]:
        """Return the objects of *kinds* in the resource's namespace."""
        found: list[dict[str, Any]] = self._kubectl.json(
            "get", kinds, *words, "-n", self.namespace
        )["items"]
        return found

    def apply(self, chosen: Mapping[str, object]) -> None:
        """Apply the resource with this spec."""
        manifest = {
            "apiVersion": "script-runner.io/v1alpha1",
            "kind": "ScriptRunner",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": chosen,
        }
        self._kubectl.apply(manifest)

    def patch(self, change: Mapping[str, object]) -> None:
        """Merge *change* into the spec."""
        text = json.dumps({"spec": change})
        self.kubectl("patch", "srun", self.name, "--type=merge", f"--patch={text}")

    def body(self) -> dict[str, Any]:
        """Return the resource."""
        found: dict[str, Any] = self._kubectl.json("get", "srun", self.name, "-n", self.namespace)
        return found

    def status(self) -> dict[str, Any]:
        """Return its status; {} before the operator has written one."""
        found: dict[str, Any] = self.body().get("status", {})
        return found

    def condition(self, name: str) -> dict[str, Any]:
        """Return a condition of the spec as it is now; {} when there is none yet."""
        body = self.body()
        for item in body.get("status", {}).get("conditions", ()):
            is_present = item["observedGeneration"] == body["metadata"]["generation"]
            if item["type"] == name and is_present:
                return dict(item)
        return {}

    def wait_for(
        self, name: str, status: str = "True", reason: str = "", seconds: float = READY_SECONDS
    ) -> dict[str, Any]:
        """Return the condition once it is as wanted, for the spec as it is now."""

        def look() -> dict[str, Any] | None:
            found = self.condition(name)
            is_so = found.get("status") == status and (not reason or found["reason"] == reason)
            return found if is_so else None

        return poll(look, seconds, lambda: f"{name}={status} {reason}; now {self.status()}")

    def wait_until_settled(self, seconds: float = READY_SECONDS) -> None:
        """Return when it is ready and no pod is being replaced."""
        self.wait_for("Ready", seconds=seconds)
        self.wait_for("Progressing", "False", "Stable", seconds)

    def pods(self, component: str) -> list[dict[str, Any]]:
        """Return the pods of a component that are not on their way out."""
        labels = f"app.kubernetes.io/instance={self.name},app.kubernetes.io/component={component}"
        found = self.objects("pods", "-l", labels)
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def pod_names(self, component: str) -> set[str]:
        """Return the names of those pods."""
        return {pod["metadata"]["name"] for pod in self.pods(component)}

    def wait_for_workers(self, count: int, seconds: float = READY_SECONDS) -> None:
        """Return when so many pods of workers are there and ready, and no other."""

        def look() -> bool:
            return len(self.pod_names("worker")) == count == self.status().get("readyReplicas")

        poll(look, seconds, lambda: f"{count} workers; now {self.status()}")

    def replicas(self) -> int:
        """Return how many workers the operator wants now."""
        worker = self._kubectl.json(
            "get", "deployment", f"{self.name}-worker", "-n", self.namespace
        )
        return int(worker["spec"]["replicas"])

    def api(self, headers: Mapping[str, str] | None = None) -> RunnerApi:
        """Return a client of the Service."""
        service = self._kubectl.json("get", "service", self.name, "-n", self.namespace)
        return RunnerApi(f"http://{service['spec']['clusterIP']}", headers=headers)

    def journal(self) -> list[str]:
        """Return a label for each time that a script was started."""
        text = self.kubectl("exec", f"deployment/{self.name}-api", "--", "cat", JOURNAL)
        return text.split()


def times(labels: Iterable[str], counted: list[str]) -> dict[str, int]:
    """Return how often each of *labels* was *counted*."""
    return {label: counted.count(label) for label in labels}
