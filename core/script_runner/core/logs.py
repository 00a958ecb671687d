"""What API and worker write to stderr: one ``key=value`` line per event, no secrets.

A request is logged by its route template, never by its path or query, which
hold the inputs of a script.
"""

import logging
import sys
import time
from typing import TextIO


class KeyValueFormatter(logging.Formatter):
    """``time=... level=... part=... logger=... message``; the message is ``key=value`` already."""

    converter = staticmethod(time.gmtime)

    def __init__(self, part: str) -> None:
        super().__init__(
            f"time=%(asctime)s.%(msecs)03dZ level=%(levelname)s part={part} logger=%(name)s "
            "%(message)s",
            "%Y-%m-%dT%H:%M:%S",
        )


def set_up_logging(part: str, level: str, stream: TextIO | None = None) -> None:
    """Send all logs of *part* to *stream* (stderr); libraries speak only of trouble."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(KeyValueFormatter(part))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("script_runner").setLevel(level.upper())
