"""Quality and hits of one assay plate: the script that config.json puts behind an API.

It knows nothing of that API. By hand:

    python3 example/analyse.py --plate P002 --threshold 50 --out /tmp/plate

writes ``wells.csv`` (every well), ``summary.json`` and ``plate.svg`` to the folder, and prints
its progress. Only the standard library is used.
"""

import argparse
import csv
import json
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from heatmap import draw_plate
from plate import (
    Bootstrap,
    Controls,
    PlateError,
    bootstrap,
    cv_percent,
    inhibition_percent,
    is_control_column,
    polish,
    read_plate,
    well_names,
    z_prime,
)

DATA = Path(__file__).parent / "data"
NORMALISATIONS = ("mean", "median", "polish")


@dataclass(frozen=True)
class Well:
    """One line of the results."""

    name: str
    role: str
    count: float
    inhibition: float
    is_hit: bool
    confidence: float | None

    @property
    def call(self) -> str:
        """What the plate says about this well, in one word."""
        if self.role != "sample":
            return self.role
        return "hit" if self.is_hit else "inactive"


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Quality and hits of one 96-well plate.")
    parser.add_argument("--plate", required=True, help="name of a plate in example/data")
    parser.add_argument("--threshold", type=float, default=50.0, help="per cent inhibition")
    parser.add_argument("--normalisation", choices=NORMALISATIONS, default="mean")
    parser.add_argument("--negative", nargs="+", default=[f"{row}1" for row in "ABCDEFGH"])
    parser.add_argument("--positive", nargs="+", default=[f"{row}12" for row in "ABCDEFGH"])
    parser.add_argument("--rounds", type=int, default=300_000, help="bootstrap rounds")
    parser.add_argument("--seed", type=int, default=1, help="seed of the bootstrap")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    return parser.parse_args(arguments)


def call_wells(
    counts: Mapping[str, float],
    roles: Mapping[str, str],
    levels: tuple[float, float],
    threshold: float,
    resampled: Bootstrap,
) -> list[Well]:
    """Return every well with its inhibition; only samples can be hits."""
    wells = []
    for name, count in counts.items():
        role = roles.get(name) or ("unused" if is_control_column(name) else "sample")
        inhibition = inhibition_percent(count, *levels)
        is_hit = role == "sample" and inhibition >= threshold
        confidence = resampled.hit_confidence(count) if role == "sample" else None
        wells.append(Well(name, role, count, inhibition, is_hit, confidence))
    return wells


def summarise(
    arguments: argparse.Namespace,
    controls: Controls,
    resampled: Bootstrap,
    wells: Sequence[Well],
) -> dict[str, object]:
    """Return the plate's figures, as they go into summary.json."""
    z = z_prime(controls)
    low, high = resampled.z_prime_interval()
    return {
        "plate": arguments.plate,
        "z_prime": _rounded(z),
        "z_prime_95": [_rounded(low), _rounded(high)],
        "quality": "excellent" if z >= 0.5 else "marginal" if z > 0 else "unusable",
        "negative_cv_percent": _rounded(cv_percent(controls.negative)),
        "positive_cv_percent": _rounded(cv_percent(controls.positive)),
        "signal_to_background": _rounded(
            statistics.fmean(controls.negative) / max(1.0, statistics.fmean(controls.positive))
        ),
        "threshold_percent": arguments.threshold,
        "normalisation": arguments.normalisation,
        "samples": sum(well.role == "sample" for well in wells),
        "hits": sum(well.is_hit for well in wells),
        "bootstrap_rounds": arguments.rounds,
    }


def _rounded(value: float) -> float | None:
    # JSON has no infinity: equal controls give null.
    return round(value, 4) if math.isfinite(value) else None


def write_wells(path: Path, plate: str, wells: Sequence[Well]) -> None:
    """Write one line per well, with a head."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["plate", "well", "role", "counts", "inhibition", "call", "confidence"])
        for well in wells:
            row = [plate, well.name, well.role, f"{well.count:.0f}", f"{well.inhibition:.1f}"]
            confidence = "" if well.confidence is None else f"{well.confidence:.3f}"
            table.writerow([*row, well.call, confidence])


def write_results(
    arguments: argparse.Namespace, summary: Mapping[str, object], wells: Sequence[Well]
) -> None:
    """Write wells.csv, summary.json and plate.svg to the folder of results."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_wells(arguments.out / "wells.csv", arguments.plate, wells)
    text = json.dumps(summary, indent=2) + "\n"
    (arguments.out / "summary.json").write_text(text, encoding="utf-8")
    picture = draw_plate(
        f"Plate {arguments.plate}",
        f"Z' {summary['z_prime']} ({summary['quality']}), {summary['hits']} hits at "
        f"{arguments.threshold:g} % inhibition or more",
        {well.name: well.inhibition for well in wells},
        controls={well.name for well in wells if well.role in ("negative", "positive")},
        hits={well.name for well in wells if well.is_hit},
    )
    (arguments.out / "plate.svg").write_text(picture, encoding="utf-8")


def analyse(arguments: argparse.Namespace) -> None:
    """Read the plate, compute, and write the three files."""
    counts = read_plate(DATA / f"{arguments.plate}.csv")
    negative, positive = well_names(arguments.negative), well_names(arguments.positive)
    if set(negative) & set(positive) or min(len(negative), len(positive)) < 2:
        raise PlateError("controls: two wells or more of each kind, none of both")
    controls = Controls([counts[name] for name in negative], [counts[name] for name in positive])
    roles = {name: "negative" for name in negative} | {name: "positive" for name in positive}
    samples = {
        name: count
        for name, count in counts.items()
        if name not in roles and not is_control_column(name)
    }
    say(f"{arguments.plate}: {len(samples)} samples, {len(roles)} control wells")

    middle = statistics.median if arguments.normalisation == "median" else statistics.fmean
    levels = (middle(controls.negative), middle(controls.positive))
    if levels[0] == levels[1]:
        raise PlateError("controls: negative and positive have the same level")
    if arguments.normalisation == "polish":
        say("removing row and column effects")
        counts = counts | polish(samples)

    def show_progress(done: int) -> None:
        say(f"bootstrap {100 * done // arguments.rounds:3} %")

    resampled = bootstrap(
        controls, arguments.threshold, arguments.rounds, arguments.seed, middle, show_progress
    )
    wells = call_wells(counts, roles, levels, arguments.threshold, resampled)
    summary = summarise(arguments, controls, resampled, wells)
    write_results(arguments, summary, wells)
    say(f"Z' {summary['z_prime']}: {summary['quality']}; {summary['hits']} hits")


def say(text: str) -> None:
    """Print one line of progress at once: somebody may be following."""
    print(text, flush=True)


if __name__ == "__main__":
    try:
        analyse(parse_arguments(sys.argv[1:]))
    except PlateError as error:
        sys.exit(str(error))
