"""Lines of the log: one form for every part."""

import io
import logging
import re
from collections.abc import Iterator

import pytest

from script_runner.core.logs import set_up_logging


@pytest.fixture(autouse=True)
def _loggers_as_before() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("", "script_runner")]
    before = [(logger, logger.handlers[:], logger.level) for logger in loggers]
    yield
    for logger, handlers, level in before:
        logger.handlers[:] = handlers
        logger.setLevel(level)


@pytest.mark.parametrize("part", ["api", "worker"])
def test_each_part_writes_the_same_keys_with_the_time_in_utc(part: str) -> None:
    stream = io.StringIO()
    set_up_logging(part, "info", stream)
    logging.getLogger("script_runner.core.redis_store").info("event=redis_back")
    assert re.fullmatch(
        r"time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=INFO "
        rf"part={part} logger=script_runner\.core\.redis_store event=redis_back\n",
        stream.getvalue(),
    )


def test_the_level_is_for_our_own_events_and_libraries_tell_trouble_only() -> None:
    stream = io.StringIO()
    set_up_logging("worker", "DEBUG", stream)
    logging.getLogger("script_runner.worker").debug("event=ours")
    logging.getLogger("celery.worker").info("theirs")
    logging.getLogger("celery.worker").warning("trouble")
    assert [line.split()[-1] for line in stream.getvalue().splitlines()] == [
        "event=ours",
        "trouble",
    ]
