"""What the API writes to stderr: one ``key=value`` line per event, no secrets.

A request is logged by its route template, never by its path or query, which
hold the inputs of a script.
"""

import logging
import sys
import time
from typing import TextIO


class KeyValueFormatter(logging.Formatter):
    """``time=... level=... logger=... message``; the message is ``key=value`` already."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__(
            "time=%(asctime)s.%(msecs)03dZ level=%(levelname)s logger=%(name)s %(message)s",
            "%Y-%m-%dT%H:%M:%S",
        )


def set_up_logging(level: str, stream: TextIO | None = None) -> None:
    """Send all logs to *stream* (stderr); uvicorn speaks only of trouble."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(KeyValueFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("script_runner").setLevel(level.upper())
