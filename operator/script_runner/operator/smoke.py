"""Whether an installation works: what `helm test` runs.

Makes a ScriptRunner, waits until it is ready, sends a task through its Service, compares the
result, and removes the ScriptRunner and its volumes. Ends with 1 and the reason when a step
fails; the ScriptRunner is removed all the same, unless the operator does not do it.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import click

from script_runner.operator import names
from script_runner.operator.cluster import Cluster, ClusterError, NotFoundError
from script_runner.operator.kinds import SCRIPT_RUNNER, Object, uid_of
from script_runner.operator.metrics import Metrics

POLL_SECONDS = 1.0
#: What the API may take to answer one request, beside the wait that it was asked for.
ANSWER_SECONDS = 15.0
MAX_WAIT_SECONDS = 30
WORD = "works"
#: A table of one row: the task's result set.
WANTED_RESULTS = [[{"word": WORD}]]
CONFIG: Mapping[str, Any] = {
    "command": ["printf", r"word\n%s\n", "$WORD"],
    "inputs": {
        "query_args": [{"env_var_name": "WORD", "query_var_name": "word", "type": "string"}]
    },
    "outputs": {"results": [{"kind": "stdout", "format": "csv"}]},
    "timeout_seconds": 60,
}


class SmokeError(Exception):
    """A step did not come out as it should."""


@dataclass(frozen=True)
class Plan:
    """What to make, and where."""

    namespace: str
    name: str
    image: str
    image_pull_policy: str
    image_pull_secrets: tuple[str, ...]
    access_mode: str
    storage_class: str

    @property
    def url(self) -> str:
        """Where the Service is."""
        return f"http://{names.service_name(self.name)}.{self.namespace}.svc"

    @property
    def volume_claims(self) -> tuple[str, str]:
        """The claims that outlive a ScriptRunner; those of a test need not."""
        return names.artifacts_claim_name(self.name), names.redis_name(self.name)


def manifest(plan: Plan) -> dict[str, Any]:
    """Return the ScriptRunner of the test."""
    storage = {"storageClassName": plan.storage_class} if plan.storage_class else {}
    return {
        "apiVersion": names.API_VERSION,
        "kind": SCRIPT_RUNNER,
        "metadata": {"name": plan.name, "namespace": plan.namespace},
        "spec": {
            "image": plan.image,
            "imagePullPolicy": plan.image_pull_policy,
            "imagePullSecrets": list(plan.image_pull_secrets),
            "config": dict(CONFIG),
            "api": {"auth": {"provider": ["none"]}},
            "redis": {"managed": {"size": "100Mi", **storage}},
            "artifacts": {
                "volume": {"size": "100Mi", "accessModes": [plan.access_mode], **storage}
            },
        },
    }


def is_ready(runner: Object) -> bool:
    """Whether the operator says so, of the resource as it is now."""
    status = runner.get("status", {})
    return status.get("observedGeneration") == runner["metadata"]["generation"] and any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for condition in status.get("conditions", ())
    )


def state_text(runner: Object) -> str:
    """Return the conditions in one line each."""
    conditions = runner.get("status", {}).get("conditions", ())
    if not conditions:
        return "  no condition: does the operator run, and look after this namespace?"
    return "\n".join(
        f"  {condition['type']}={condition['status']} {condition.get('reason', '')}: "
        f"{condition.get('message', '')}"
        for condition in conditions
    )


class Smoke:
    """The steps of the test, all before one moment."""

    def __init__(self, cluster: Cluster, plan: Plan, timeout_seconds: float) -> None:
        self._cluster = cluster
        self._plan = plan
        self._deadline = time.monotonic() + timeout_seconds

    async def run(self) -> None:
        """Do every step; raise SmokeError at the first that fails."""
        plan = self._plan
        await self._remove()  # what an earlier test may have left
        await self._cluster.create(manifest(plan))
        click.echo(f"ScriptRunner {plan.namespace}/{plan.name} is made")
        try:
            await self._wait_until_ready()
            click.echo("it is ready")
            await self.run_a_task(plan.url)
            click.echo("a task came back with its result")
        except (SmokeError, ClusterError):
            await self._let_go()
            raise
        await self._remove()
        click.echo("it is removed")

    async def _get(self) -> dict[str, Any] | None:
        try:
            return await self._cluster.get(SCRIPT_RUNNER, self._plan.namespace, self._plan.name)
        except NotFoundError:
            return None

    async def _wait_until_ready(self) -> None:
        while True:
            runner = await self._get()
            if runner is None:
                raise SmokeError("the ScriptRunner was removed by somebody else")
            if is_ready(runner):
                return
            await self._pause(f"it is not ready in time:\n{state_text(runner)}")

    async def run_a_task(self, url: str) -> None:
        """Send a task to the API at *url*; raise SmokeError unless its result is the wanted one."""
        async with aiohttp.ClientSession(url) as session:
            task = await self._ask(session, "POST", f"/task?word={WORD}")
            while task["status"] == "not-ready":
                await self._pause(f"task {task['id']} is still {task['state']}")
                task = await self._ask(session, "GET", f"/task/{task['id']}")
        if task["state"] != "succeeded" or task["results"] != WANTED_RESULTS:
            raise SmokeError(
                f"the task is {task['state']} with results {task['results']}, "
                f"not succeeded with {WANTED_RESULTS}: {task['error']}"
            )

    async def _ask(self, session: aiohttp.ClientSession, method: str, path: str) -> dict[str, Any]:
        """Return the task; again and again while the API cannot be reached."""
        wait = max(1, min(MAX_WAIT_SECONDS, int(self._deadline - time.monotonic())))
        timeout = aiohttp.ClientTimeout(total=wait + ANSWER_SECONDS)
        headers = {
            "Prefer": f"wait={wait}",
            "Idempotency-Key": f"{self._plan.name}-{self._deadline}",
        }
        while True:
            try:
                async with session.request(
                    method, path, headers=headers, timeout=timeout
                ) as answer:
                    body: dict[str, Any] = await answer.json(content_type=None)
                    if answer.ok:
                        return body
                    reason = f"the API answered {answer.status}: {body}"
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                reason = f"the API cannot be reached: {error or 'no answer in time'}"
            await self._pause(reason)

    async def _delete(self) -> Object | None:
        runner = await self._get()
        if runner is not None:
            plan = self._plan
            await self._cluster.delete(SCRIPT_RUNNER, plan.namespace, plan.name, uid_of(runner))
        return runner

    async def _let_go(self) -> None:
        """Delete everything and wait for nothing: time may be up."""
        await self._delete()
        for claim in self._plan.volume_claims:
            await self._delete_claim(claim)

    async def _remove(self) -> None:
        """Delete the ScriptRunner, then its volumes, and see them go.

        A volume that is still on its way out would be taken by the next test, and vanish below it.
        """
        while runner := await self._delete():
            await self._pause(f"it is not removed in time:\n{state_text(runner)}")
        for claim in self._plan.volume_claims:
            while await self._delete_claim(claim):
                await self._pause(f"the volume claim {claim} is not removed in time")

    async def _delete_claim(self, name: str) -> bool:
        kind, namespace = "PersistentVolumeClaim", self._plan.namespace
        try:
            claim = await self._cluster.get(kind, namespace, name)
            await self._cluster.delete(kind, namespace, name, uid_of(claim))
        except NotFoundError:
            return False
        return True

    async def _pause(self, complaint: str) -> None:
        if time.monotonic() > self._deadline:
            raise SmokeError(complaint)
        await asyncio.sleep(POLL_SECONDS)


async def _test(plan: Plan, timeout_seconds: float) -> None:
    cluster = await Cluster.connect(Metrics(), None)
    try:
        await Smoke(cluster, plan, timeout_seconds).run()
    finally:
        await cluster.close()


@click.command()
@click.option("--namespace", required=True, help="Where the ScriptRunner is made.")
@click.option("--name", required=True, help="What it is called.")
@click.option("--image", required=True, help="Its image.")
@click.option("--image-pull-policy", default="IfNotPresent")
@click.option("--image-pull-secret", "image_pull_secrets", multiple=True)
@click.option("--access-mode", default="ReadWriteOnce", help="Of the volume with the artifacts.")
@click.option("--storage-class", default="", help="Of its volumes.")
@click.option("--timeout-seconds", type=float, default=270.0, help="For all of it.")
def main(timeout_seconds: float, **options: Any) -> None:
    """Run a task through a ScriptRunner made for it."""
    try:
        asyncio.run(_test(Plan(**options), timeout_seconds))
    except (SmokeError, ClusterError) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
