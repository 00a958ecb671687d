"""A process that runs scripts as a worker does, told what to do line by line.

``start NAME SCRIPT [ARGUMENT...]``, ``limit`` (the same, with a limit),
``output NAME``, ``finish NAME``, ``reap`` and ``exit CODE``; each is answered
with one line of JSON. The end of the input ends all scripts. Scripts are those
of tests/scripts; NAME becomes their attempt's mark.
"""

import dataclasses
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from script_runner.core.config_models import Resources
from script_runner.worker.orphans import ATTEMPT_MARK
from script_runner.worker.process import ScriptProcess, adopt_orphans, reap_orphans

SCRIPTS = Path(__file__).parent.parent / "scripts"


class Host:
    """The scripts by name, each with the file of its output."""

    def __init__(self) -> None:
        self.running: dict[str, tuple[ScriptProcess, int]] = {}

    def start(self, name: str, script: str, *arguments: str) -> Any:
        return self._start(None, name, script, *arguments)

    def limit(self, name: str, script: str, *arguments: str) -> Any:
        return self._start(Resources(open_files=100), name, script, *arguments)

    def _start(self, resources: Resources | None, name: str, script: str, *arguments: str) -> Any:
        output, path = tempfile.mkstemp()
        os.unlink(path)
        process = ScriptProcess.start(
            [str(SCRIPTS / script), *arguments],
            cwd="/",
            env={"PATH": os.environ["PATH"], ATTEMPT_MARK: name},
            stdin=None,
            stdout=output,
            stderr=output,
            resources=resources,
        )
        self.running[name] = (process, output)
        return process.pid

    def output(self, name: str) -> Any:
        return os.pread(self.running[name][1], 1 << 20, 0).decode()

    def finish(self, name: str) -> Any:
        process, output = self.running.pop(name)
        end = process.finish()
        os.close(output)
        return dataclasses.asdict(end)

    def reap(self) -> Any:
        return reap_orphans()

    def exit(self, code: str) -> Any:
        sys.exit(int(code))


def main() -> None:
    adopt_orphans()
    host = Host()
    print(json.dumps(os.getpid()), flush=True)
    for line in sys.stdin:
        verb, *arguments = line.split()
        print(json.dumps(getattr(host, verb)(*arguments)), flush=True)
    for name in list(host.running):
        host.finish(name)


if __name__ == "__main__":
    main()
