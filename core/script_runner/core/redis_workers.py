"""What Redis knows of the workers: who lives, how much there is to do, and who is to drain.

The API asks and marks on behalf of the operator. A mark is by name, not by process start: a
container that is restarted under the name of its pod stays marked.
"""

import uuid
from dataclasses import dataclass

from script_runner.core.lease_owner import name_of
from script_runner.core.redis_keys import DRAIN_MARK_MS, LEASE_MS
from script_runner.core.redis_pipe import ScriptPipe


@dataclass(frozen=True)
class Demand:
    """How much there is to do, and who there is to do it.

    *queued* counts tasks that wait for a time as well. *workers* were heard of within a lease;
    *draining* are marked now and hold no task, whether they live or not. Both are names in order.
    """

    queued: int
    running: int
    workers: tuple[str, ...]
    draining: tuple[str, ...]


class Workers:
    """See the module; a part of the task store."""

    def __init__(self, reads: ScriptPipe, writes: ScriptPipe) -> None:
        self._reads = reads
        self._writes = writes

    async def count(self) -> int:
        """Return the number of workers that were heard of within a lease."""
        answer = await self._reads.call("counts", LEASE_MS)
        return int(answer[2])

    async def demand(self) -> Demand:
        """Return what there is to do now."""
        queued, running, workers, draining = await self._reads.call("demand", LEASE_MS)
        return Demand(queued, running, _names(workers), _names(draining))

    async def drain(self, count: int, *, even_busy: bool = False) -> tuple[str, ...]:
        """Mark up to *count* more workers as draining; return all marked ones that are idle.

        Idle and marked are one atomic step: such a worker has no lease and gets none for
        DRAIN_MARK_MS. Then the mark has ended by itself. With *even_busy* those that hold tasks
        are marked when no idle one is left; they are returned once they hold none.
        """
        token = uuid.uuid4().hex
        busy = "yes" if even_busy else "no"
        return _names(await self._writes.call("drain", count, DRAIN_MARK_MS, LEASE_MS, token, busy))


def _names(workers: list[bytes]) -> tuple[str, ...]:
    return tuple(sorted({name_of(raw.decode()) for raw in workers}))
