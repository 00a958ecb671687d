"""Makes the plates in ``data/``: synthetic counts of a cell viability assay.

The numbers are made up, the faults are those of real plates. Each plate has 96
wells (A-H, 1-12): column 1 holds the negative control (carrier only, full
signal), column 12 the positive control (a toxin, background signal), columns
2-11 hold eighty compounds of which a few inhibit.

    P001  clean: control CV 4 %, no edge effect
    P002  outer wells lost 12 % of their signal (evaporation), and signal falls from A to H
    P003  dispenser fault: control CV 16 %, and one positive control well got no toxin

Run ``python3 example/make_plates.py`` to write the same files again; a test
compares them.
"""

import csv
import random
from dataclasses import dataclass
from pathlib import Path

ROWS = "ABCDEFGH"
COLUMNS = range(1, 13)
FULL_SIGNAL = 52_000  # counts of an untouched well
BACKGROUND = 2_100  # counts of a well in which nothing lives
HIT_RATE = 0.08


@dataclass(frozen=True)
class Recipe:
    """What is wrong with one plate."""

    seed: int
    cv: float
    edge_loss: float = 0.0
    row_slope: float = 0.0
    empty_control: str = ""


RECIPES = {
    "P001": Recipe(seed=20210509, cv=0.04),
    "P002": Recipe(seed=20210510, cv=0.05, edge_loss=0.12, row_slope=0.015),
    "P003": Recipe(seed=20210511, cv=0.16, empty_control="D12"),
}


def _is_edge(row: str, column: int) -> bool:
    return row in "AH" or column in (1, 12)


def _living_share(draw: random.Random, well: str, column: int, recipe: Recipe) -> float:
    """Return which share of the signal is left in a well: 1 is untouched, 0 is dead."""
    if column == 1 or well == recipe.empty_control:
        return 1.0
    if column == 12:
        return 0.0
    if draw.random() < HIT_RATE:
        return draw.uniform(0.05, 0.6)
    return min(1.0, draw.gauss(0.97, 0.04))


def make_plate(recipe: Recipe) -> dict[str, int]:
    """Return the counts of every well, by name such as ``A01``."""
    draw = random.Random(recipe.seed)  # noqa: S311 - repeatable, not secret
    counts: dict[str, int] = {}
    for row_index, row in enumerate(ROWS):
        for column in COLUMNS:
            well = f"{row}{column:02}"
            living = _living_share(draw, well, column, recipe)
            signal = BACKGROUND + (FULL_SIGNAL - BACKGROUND) * living
            signal *= 1 - recipe.row_slope * row_index
            if _is_edge(row, column):
                signal *= 1 - recipe.edge_loss
            counts[well] = max(0, round(signal * draw.gauss(1.0, recipe.cv)))
    return counts


def write_plate(path: Path, counts: dict[str, int]) -> None:
    """Write *counts* as a plate reader exports them: one line per row of the plate."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["", *COLUMNS])
        for row in ROWS:
            table.writerow([row, *(counts[f"{row}{column:02}"] for column in COLUMNS)])


if __name__ == "__main__":
    for name, recipe in RECIPES.items():
        write_plate(Path(__file__).parent / "data" / f"{name}.csv", make_plate(recipe))
