"""The peer `webhook` (Debian's package): HTTP in, script run, answer out; it keeps nothing."""

import json
import shutil

from benchmarks.http_client import Connection
from benchmarks.processes import BenchmarkError, Server, free_port
from benchmarks.systems.base import HttpSystem

HOOK = {
    "id": "true",
    "execute-command": "/bin/true",
    "command-working-directory": "/",
    # The answer waits for the end of the command only when it carries the output.
    "include-command-output-in-response": True,
}


class Webhook(HttpSystem):
    """No queue, no record, no restart: the cheapest way to a script behind HTTP."""

    name = "webhook"

    def start(self) -> None:
        binary = shutil.which("webhook")
        if binary is None:
            raise BenchmarkError("not installed (Debian: apt install webhook)")
        self.folder.mkdir()
        hooks = self.folder / "hooks.json"
        hooks.write_text(json.dumps([HOOK]))
        self.port = free_port()
        argv = [binary, "-hooks", str(hooks), "-ip", "127.0.0.1", "-port", str(self.port)]
        server = Server("webhook", argv, folder=self.folder)
        self.launch(server)
        server.wait_for_port(self.port)

    async def run_one(self, connection: Connection) -> None:
        answer = await connection.request("POST", "/hooks/true")
        if answer.status != 200:
            raise BenchmarkError(f"webhook answered {answer.status}")
