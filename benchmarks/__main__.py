"""``python -m benchmarks``: measures the chosen rows and prints one table.

The exit code is 1 when a row of ours could not be measured. A missed goal or a
missing peer is no failure: figures depend on the machine.
"""

import argparse
import importlib
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from json import dumps
from pathlib import Path

from benchmarks.measure import Figure, table
from benchmarks.processes import BenchmarkError
from benchmarks.systems.base import Setup
from script_runner.core.errors import UnavailableError

ROWS = ("compare", "producer", "submit", "claim", "queue", "supervise", "memory")
#: Of these only those that are named: they need the programs of a cluster, and longer.
CLUSTER_ROWS = ("runners", "wake", "soak")
EXIT_INTERRUPTED = 130
NOT_MEASURED = "the row could not be measured"
CACHE = Path(__file__).parents[1] / ".benchmarks"


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description="Measure and print a table."
    )
    parser.add_argument(
        "rows",
        nargs="*",
        metavar="ROW",
        help=f"of {', '.join(ROWS)}; all of these if none; or of {', '.join(CLUSTER_ROWS)}",
    )
    parser.add_argument("--quick", action="store_true", help="few repetitions: does every row run?")
    parser.add_argument("--million", action="store_true", help="row queue with 1,000,000 tasks")
    parser.add_argument("--slots", type=int, default=4, help="scripts our worker runs at once")
    parser.add_argument("--old-python", metavar="PATH", help="Python 3.8 or 3.9 for the peer 0.18")
    parser.add_argument(
        "--profile", action="store_true", help="say where our Python time goes, with py-spy"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")
    parser.add_argument("--minutes", type=float, help="how long row soak lasts (30)")
    parser.add_argument("--seed", type=int, help="of row soak: the same load and faults again")
    chosen = parser.parse_args(arguments)
    for row in chosen.rows:
        if row not in (*ROWS, *CLUSTER_ROWS):
            parser.error(f"no row {row}; there are {', '.join((*ROWS, *CLUSTER_ROWS))}")
    return chosen


def measure_row(name: str, setup: Setup) -> list[Figure]:
    """Measure one row; a row that cannot be measured is one line that says why."""
    module = importlib.import_module(f"benchmarks.rows.{name}")
    try:
        figures: list[Figure] = module.measure(setup)
    except (BenchmarkError, UnavailableError, ConnectionError) as error:
        return [Figure(name, NOT_MEASURED, None, "", None, str(error))]
    return figures


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = _arguments(arguments)
    # As Ctrl-C: the servers are to be stopped and the scratch folder removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    CACHE.mkdir(exist_ok=True)
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores")
    figures: list[Figure] = []
    interrupted = False
    try:
        with tempfile.TemporaryDirectory(prefix="run-", dir=CACHE) as folder:
            for name in chosen.rows or ROWS:
                figures += _run(name, _setup(chosen, Path(folder) / name))
    except KeyboardInterrupt:
        interrupted = True
        print("interrupted; the rows up to here:")
    print(table(figures))
    if chosen.json is not None:
        chosen.json.write_text(dumps([asdict(figure) for figure in figures], indent=1))
    if interrupted:
        return EXIT_INTERRUPTED
    return int(any(figure.what == NOT_MEASURED for figure in figures))


def _run(name: str, setup: Setup) -> list[Figure]:
    print(f"measuring {name} ...", flush=True)
    begun = time.monotonic()
    figures = measure_row(name, setup)
    print(f"measured {name} in {time.monotonic() - begun:.0f} s", flush=True)
    return figures


def _setup(chosen: argparse.Namespace, folder: Path) -> Setup:
    folder.mkdir()
    profile = folder / "profile" if chosen.profile else None
    if profile is not None:
        profile.mkdir()
    return Setup(
        folder=folder,
        cache=CACHE,
        is_quick=chosen.quick,
        is_million=chosen.million,
        slots=chosen.slots,
        old_python=chosen.old_python,
        profile=profile,
        minutes=chosen.minutes,
        seed=chosen.seed,
    )


if __name__ == "__main__":
    sys.exit(main())
