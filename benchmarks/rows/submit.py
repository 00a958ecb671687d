"""Row *submit*: how many tasks one API process accepts, with no worker to share the cores."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from benchmarks.http_client import Connection
from benchmarks.measure import TO_US, CpuMeter, Figure, Goal, median
from benchmarks.processes import BenchmarkError
from benchmarks.systems.base import Setup
from benchmarks.systems.product import Product

CONNECTIONS = 16
GOAL = Goal(2000, is_minimum=True)


class PlainApi(Product):
    """An API for a script without inputs."""

    name = "api"
    path: ClassVar[str] = "/task"
    headers: ClassVar[Mapping[str, str]] = {}
    body: ClassVar[bytes] = b""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup, parts=("api",))

    def submit(self, count: int) -> float:
        """Have *count* tasks accepted; return the seconds that took."""
        return self.run(self._submit(count))

    async def _submit(self, count: int) -> float:
        left = count

        async def client() -> None:
            nonlocal left
            connection = Connection(self.port)
            while left > 0:
                left -= 1
                answer = await connection.request("POST", self.path, self.headers, self.body)
                if answer.status != 202:
                    raise BenchmarkError(f"POST {self.path} was answered with {answer.status}")
            connection.close()

        begun = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(CONNECTIONS)))
        return time.perf_counter() - begun


class TypedApi(PlainApi):
    """An API for a script with an input from the path, the query and the body."""

    name = "api with inputs"
    path = "/task/plate-17?season=autumn"
    headers: ClassVar[Mapping[str, str]] = {"Content-Type": "application/json"}
    body = b'{"settings": {"threshold": 12.5}}'
    config: ClassVar[Mapping[str, Any]] = {
        "command": ["/bin/true", "$PLATE", "$SEASON", "$THRESHOLD"],
        "inputs": {
            "path_args": [
                {"env_var_name": "PLATE", "path_regex": "(.+)", "path_regex_match_group": 1}
            ],
            "query_args": [{"env_var_name": "SEASON", "query_var_name": "season"}],
            "body_args": [
                {
                    "env_var_name": "THRESHOLD",
                    "body_jsonpath": "$.settings.threshold",
                    "type": "number",
                }
            ],
        },
    }


def measure(setup: Setup) -> list[Figure]:
    figures = []
    for kind in (PlainApi, TypedApi):
        api = kind(setup)
        try:
            api.start()
            figures += _submit(setup, api)
        finally:
            api.stop()
    return figures


def _submit(setup: Setup, api: PlainApi) -> list[Figure]:
    count = setup.pick(8000, 200)
    api.submit(setup.pick(1000, 20))  # the first ones pay for what is made once
    meter = CpuMeter(api.roots())
    rates = []
    for _ in range(setup.pick(3, 1)):
        meter.start()
        rates.append(count / api.submit(count))
        meter.stop()
    tasks = count * len(rates)
    parts = {name: meter.seconds[name] / tasks * TO_US for name in ("api", "redis", "client")}
    note = ", ".join(f"{name} {value:.0f}" for name, value in parts.items())
    note = f"CPU us: {note}; other programs {meter.strangers():.2f} cores"
    what = "with three inputs" if isinstance(api, TypedApi) else "without inputs"
    return [
        Figure("submit", f"accepted, {what}", median(rates), "1/s", GOAL, note),
        Figure("submit", f"API CPU, {what}", parts["api"], "us/task"),
    ]
