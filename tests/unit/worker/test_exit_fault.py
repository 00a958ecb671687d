"""The words for how a script ended."""

import signal

import pytest

from script_runner.worker.process import Exit, exit_fault


def end(code: int | None = None, number: int | None = None) -> Exit:
    return Exit(code=code, signal=number, max_rss_bytes=0, cpu_seconds=0)


def test_exit_code_0_is_no_fault() -> None:
    assert exit_fault(end(0)) is None


@pytest.mark.parametrize(
    ("exit_", "code", "words"),
    [
        (end(3), "exit_code", "the script ended with exit code 3"),
        (end(127), "exit_code", "a command was not found"),
        (end(137), "exit_code", "memory"),
        (end(number=signal.SIGKILL), "signal", "signal 9 (SIGKILL); often the machine or the "),
        (end(number=signal.SIGSEGV), "signal", "signal 11 (SIGSEGV)"),
        (end(number=signal.SIGTERM), "signal", "the script was ended by signal 15 (SIGTERM)"),
        (end(number=40), "signal", "the script was ended by signal 40"),
        (end(number=signal.SIGXCPU), "cpu_limit", "resources.cpu_seconds"),
        (end(number=signal.SIGXFSZ), "file_limit", "resources.file_bytes"),
    ],
)
def test_every_other_end_has_a_code_and_words(exit_: Exit, code: str, words: str) -> None:
    fault = exit_fault(exit_)
    assert fault is not None
    assert fault.code == code
    assert words in fault.detail
