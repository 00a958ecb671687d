"""Blocking work of the artifact store, kept off the event loop.

A thread cannot be interrupted, so a canceled caller waits until the step under
way has ended: nobody then closes a file that a thread still writes.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import TypeVar

T = TypeVar("T")
#: Downloads and uploads that may touch the artifact store at the same moment.
MAX_THREADS = 32


async def in_thread(function: Callable[..., T], *arguments: object) -> T:
    """Run *function* in the default executor; on cancellation wait for its end first."""
    future = asyncio.get_running_loop().run_in_executor(None, function, *arguments)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait({future})
        if not future.cancelled():
            future.exception()  # seen, and of no interest to a caller that left
        raise


async def blocks_in_thread(blocks: Iterator[bytes]) -> AsyncGenerator[bytes]:
    """Yield what *blocks* yields, each block fetched in a thread; close it at the end."""
    try:
        while (block := await in_thread(next, blocks, None)) is not None:
            yield block
    finally:
        close = getattr(blocks, "close", None)
        if close is not None:
            await in_thread(close)
