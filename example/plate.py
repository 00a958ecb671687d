"""Plates and their statistics: everything here is pure, but for reading a plate.

Z' is the factor of Zhang, Chung and Oldenburg (J. Biomol. Screen. 4, 67-73, 1999):
``1 - 3 (sd(positive) + sd(negative)) / |mean(negative) - mean(positive)|``, with the sample
standard deviation. From 0.5 on an assay is called excellent; below 0 the controls overlap.
"""

import bisect
import csv
import math
import random
import re
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROWS = "ABCDEFGH"
COLUMNS = range(1, 13)
CONTROL_COLUMNS = (1, 12)
WELL = re.compile(r"([A-H])(0?[1-9]|1[0-2])")
POLISH_ROUNDS = 20
POLISH_ENOUGH = 1e-4  # the median polish stops when no effect (of log counts) moved by more

Counts = Mapping[str, float]
Middle = Callable[[Sequence[float]], float]


class PlateError(Exception):
    """The plate or the wells named in the request cannot be used."""


@dataclass(frozen=True)
class Controls:
    """The raw counts of the two kinds of control wells."""

    negative: Sequence[float]
    positive: Sequence[float]


def read_plate(path: Path) -> dict[str, float]:
    """Read a plate reader's grid: a line of column numbers, then one line per row letter."""
    counts: dict[str, float] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = csv.reader(file)
            columns = [int(text) for text in next(table)[1:]]
            for line in table:
                values = zip(columns, map(float, line[1:]), strict=True)
                counts.update((f"{line[0]}{column:02}", value) for column, value in values)
    except (OSError, StopIteration, ValueError) as error:
        raise PlateError(f"plate {path.stem}: cannot be read as a grid of counts") from error
    expected = {f"{row}{column:02}" for row in ROWS for column in COLUMNS}
    if set(counts) != expected:
        raise PlateError(f"plate {path.stem}: not the 96 wells A1 to H12")
    return counts


def well_names(texts: Sequence[str]) -> list[str]:
    """Return well names in the form ``A01``; several may stand in one text: ``A1,B1``."""
    names = []
    for text in (part for whole in texts for part in whole.replace(",", " ").split()):
        match = WELL.fullmatch(text.strip().upper())
        if not match:
            raise PlateError("controls: a well is named A1 to H12")
        names.append(f"{match[1]}{int(match[2]):02}")
    return list(dict.fromkeys(names))


def is_control_column(well: str) -> bool:
    """Tell whether *well* lies where no compound is: a control left out is not a sample."""
    return int(well[1:]) in CONTROL_COLUMNS


def z_prime(controls: Controls) -> float:
    """Return Z'; minus infinity when the two means are equal."""
    spread = statistics.stdev(controls.positive) + statistics.stdev(controls.negative)
    window = abs(statistics.fmean(controls.negative) - statistics.fmean(controls.positive))
    return 1 - 3 * spread / window if window else -math.inf


def cv_percent(values: Sequence[float]) -> float:
    """Return the coefficient of variation in per cent; 0 for wells that counted nothing."""
    mean = statistics.fmean(values)
    return 100 * statistics.stdev(values) / mean if mean else 0.0


def inhibition_percent(count: float, negative: float, positive: float) -> float:
    """Return 0 for a well like the negative control, 100 for one like the positive."""
    return 100 * (negative - count) / (negative - positive)


def polish(counts: Counts) -> dict[str, float]:
    """Remove row and column effects by Tukey's median polish, keeping the overall level.

    It works on log counts, since the effects multiply: a well that lost a tenth of its liquid
    lost a tenth of its counts. *counts* are the samples alone: a column of controls would bend
    the column effects.
    """
    residuals = {well: math.log(max(1.0, count)) for well, count in counts.items()}
    level = 0.0
    for _ in range(POLISH_ROUNDS):
        moved = 0.0
        for part in (slice(0, 1), slice(1, 3)):  # the letter is the row, the number the column
            effects = {
                name: statistics.median(values)
                for name, values in _grouped(residuals, part).items()
            }
            common = statistics.median(effects.values())
            level += common
            moved = max(moved, *(abs(effect) for effect in effects.values()))
            for well in residuals:
                residuals[well] -= effects[well[part]]
        if moved < POLISH_ENOUGH:
            break
    return {well: math.exp(level + residual) for well, residual in residuals.items()}


def _grouped(counts: Counts, part: slice) -> dict[str, list[float]]:
    groups: dict[str, list[float]] = {}
    for well, count in counts.items():
        groups.setdefault(well[part], []).append(count)
    return groups


@dataclass(frozen=True)
class Bootstrap:
    """What resampling the control wells says about Z' and about each hit."""

    z_primes: Sequence[float]
    cutoffs: Sequence[float]

    def z_prime_interval(self) -> tuple[float, float]:
        """Return the 95 % percentile interval of Z'."""
        last = len(self.z_primes) - 1
        return self.z_primes[round(0.025 * last)], self.z_primes[round(0.975 * last)]

    def hit_confidence(self, count: float) -> float:
        """Return the share of resampled plates on which a well with *count* is a hit."""
        below = bisect.bisect_left(self.cutoffs, count)
        return 1 - below / len(self.cutoffs)


def bootstrap(
    controls: Controls,
    threshold: float,
    rounds: int,
    seed: int,
    middle: Middle = statistics.fmean,
    progress: Callable[[int], None] = lambda done: None,
) -> Bootstrap:
    """Resample the control wells *rounds* times; tell *progress* each finished tenth.

    *middle* gives the level of the controls from which a hit's cut-off is measured; Z' is
    always that of means.
    """
    draw = random.Random(seed)  # noqa: S311 - repeatable, not secret
    z_primes, cutoffs = [], []
    tenth = max(1, rounds // 10)
    negatives = _resampled(controls.negative, draw, middle)
    positives = _resampled(controls.positive, draw, middle)
    for done in range(1, rounds + 1):
        negative_mean, negative_sd, negative = next(negatives)
        positive_mean, positive_sd, positive = next(positives)
        window = abs(negative_mean - positive_mean)
        z_primes.append(1 - 3 * (negative_sd + positive_sd) / window if window else -math.inf)
        cutoffs.append(negative - (negative - positive) * threshold / 100)
        if done % tenth == 0:
            progress(done)
    return Bootstrap(sorted(z_primes), sorted(cutoffs))


def _resampled(
    values: Sequence[float], draw: random.Random, middle: Middle
) -> Iterator[tuple[float, float, float]]:
    """Yield mean, sample standard deviation and level of resampled *values*, without end."""
    size = len(values)
    while True:
        sample = draw.choices(values, k=size)
        mean = sum(sample) / size
        sd = (sum([(value - mean) ** 2 for value in sample]) / (size - 1)) ** 0.5
        yield mean, sd, mean if middle is statistics.fmean else middle(sample)
