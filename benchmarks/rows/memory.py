"""Row *memory*: peak memory of API and worker, with a small and with a large file.

The same task runs with both sizes: an upload that the script gets as a file, an
attachment that the script makes, and the download of that attachment. VmHWM is
set back in between, so that each figure is the peak of its own task.
"""

import shutil
from collections.abc import Mapping
from typing import Any, ClassVar

from benchmarks.http_client import Connection
from benchmarks.measure import MIB, Figure, Goal, forget_peak, status_bytes, tree
from benchmarks.processes import BenchmarkError
from benchmarks.systems.base import Setup
from benchmarks.systems.product import WAIT_SECONDS, Product

#: "Flat": a difference below this is the noise of two peaks.
GOAL = Goal(8)
BOUNDARY = "benchmark-boundary"
TASK_SECONDS = 300


class CopyingScript(Product):
    """Its script copies the uploaded file to an attachment."""

    name = "copying"
    config: ClassVar[Mapping[str, Any]] = {
        "command": ["/bin/cp", "$FILE", "$RUNDIR/copy.bin"],
        "inputs": {"body_args": [{"env_var_name": "FILE", "type": "file"}]},
        "outputs": {"attachments": ["copy.bin"]},
    }

    def warm_up(self) -> None:
        """Run a small one, so that what is made once is there."""
        self.run(self.copy(1024))

    async def copy(self, size: int) -> None:
        """Upload *size* bytes, wait for the task, download its attachment."""
        connection = Connection(self.port)
        part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="FILE"; filename="in.bin"'
        before = f"{part}\r\nContent-Type: application/octet-stream\r\n\r\n".encode()
        after = f"\r\n--{BOUNDARY}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        answer = await connection.upload("/task", headers, before, size, after)
        if answer.status != 202:
            raise BenchmarkError(f"the upload was answered with {answer.status}")
        path = f"/task/{answer.json()['id']}"
        for _ in range(TASK_SECONDS // WAIT_SECONDS):
            task = await connection.request("GET", path, {"Prefer": f"wait={WAIT_SECONDS}"})
            if task.json()["status"] != "not-ready":
                break
        if task.json()["status"] != "ready":
            raise BenchmarkError(f"the task ended as {task.json()['state']}")
        connection.close()
        download = Connection(self.port, keep_body=False)
        got = await download.request("GET", f"{path}/attachments/copy.bin")
        download.close()
        if got.status != 200 or got.size != size:
            raise BenchmarkError(f"the download gave {got.status} and {got.size} bytes")

    def peaks(self, size: int) -> dict[str, float]:
        """Return the peak of each part, in MiB, during one copy of *size* bytes."""
        pids = {name: tree([self.pid_of(name)]) for name in self.parts}
        for pid in (pid for group in pids.values() for pid in group):
            forget_peak(pid)
        self.run(self.copy(size))
        return {
            name: sum(status_bytes(pid, "VmHWM") for pid in group) / MIB
            for name, group in pids.items()
        }


def measure(setup: Setup) -> list[Figure]:
    small, large = MIB, setup.pick(1024, 32) * MIB
    # In turn: the upload, the script's copy of it, the copy it makes, the attachment.
    if shutil.disk_usage(setup.folder).free < 5 * large:
        raise BenchmarkError("not enough free disk space")
    product = CopyingScript(setup)
    try:
        product.start()
        first, second = product.peaks(small), product.peaks(large)
    finally:
        product.stop()
    figures = []
    for name, peak in second.items():
        note = f"peak {first[name]:.1f} MiB with 1 MiB, {peak:.1f} MiB with {large // MIB} MiB"
        what = f"{name}: growth of the peak"
        figures.append(Figure("memory", what, peak - first[name], "MiB", GOAL, note))
    return figures
