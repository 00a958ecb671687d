"""The example's numbers: each against a figure worked out by other means."""

import csv
import json
import math
import statistics
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import analyse
import heatmap
import make_plates
import plate

EXAMPLE = Path(analyse.__file__).parent
CONTROLS = plate.Controls(negative=[100.0, 110.0, 90.0], positive=[10.0, 12.0, 8.0])


def run(out: Path, *arguments: str) -> tuple[dict[str, object], list[dict[str, str]]]:
    analyse.analyse(analyse.parse_arguments([*arguments, "--rounds", "500", "--out", str(out)]))
    with (out / "wells.csv").open(newline="") as file:
        return json.loads((out / "summary.json").read_text()), list(csv.DictReader(file))


def test_the_plates_in_the_repository_are_those_that_the_generator_makes(tmp_path: Path) -> None:
    for name, recipe in make_plates.RECIPES.items():
        make_plates.write_plate(tmp_path / "again.csv", make_plates.make_plate(recipe))
        stored = (EXAMPLE / "data" / f"{name}.csv").read_text()
        assert (tmp_path / "again.csv").read_text() == stored, name


def test_z_prime_is_one_minus_three_standard_deviations_over_the_window() -> None:
    # sd 10 and 2, window 90: 1 - 3 * 12 / 90
    assert plate.z_prime(CONTROLS) == pytest.approx(0.6)


def test_z_prime_of_equal_controls_is_minus_infinity() -> None:
    assert plate.z_prime(plate.Controls([5.0, 6.0], [5.0, 6.0])) == -math.inf


def test_inhibition_runs_from_the_negative_to_the_positive_control() -> None:
    values = [plate.inhibition_percent(count, 100, 20) for count in (100, 20, 60, 110)]
    assert values == [0, 100, 50, -12.5]


def test_the_coefficient_of_variation_is_in_per_cent() -> None:
    assert plate.cv_percent([90.0, 100.0, 110.0]) == pytest.approx(10)
    assert plate.cv_percent([0.0, 0.0]) == 0


def test_polish_removes_row_and_column_effects_and_keeps_a_hit() -> None:
    row_effect = {"A": 0.8, "B": 1.0, "C": 1.0, "D": 1.1}
    column_effect = {f"{column:02}": 1 + (column - 5) / 50 for column in range(2, 9)}
    counts = {
        row + column: 1000 * row_effect[row] * column_effect[column]
        for row in row_effect
        for column in column_effect
    }
    counts["B04"] /= 4
    polished = plate.polish(counts)
    others = [count for well, count in polished.items() if well != "B04"]
    assert max(others) == pytest.approx(min(others))
    assert polished["B04"] == pytest.approx(others[0] / 4)


def test_the_bootstrap_repeats_with_its_seed_and_surrounds_the_estimate() -> None:
    one, again, other = (plate.bootstrap(CONTROLS, 50, 2000, seed) for seed in (1, 1, 2))
    assert one == again
    assert one != other
    low, high = one.z_prime_interval()
    assert low < plate.z_prime(CONTROLS) < high


def test_a_well_far_below_the_cut_off_is_a_sure_hit_and_one_far_above_is_none() -> None:
    resampled = plate.bootstrap(CONTROLS, 50, 1000, 1)
    assert resampled.hit_confidence(10) == 1
    assert resampled.hit_confidence(100) == 0
    # the cut-off of the controls themselves lies in the middle
    assert 0.2 < resampled.hit_confidence(55) < 0.8


def test_the_bootstrap_measures_a_hit_from_the_same_level_as_the_plate() -> None:
    controls = plate.Controls([100.0, 100.0, 400.0], [10.0, 10.0, 10.0])
    means = plate.bootstrap(controls, 50, 1000, 1)
    medians = plate.bootstrap(controls, 50, 1000, 1, statistics.median)
    assert means.z_primes == medians.z_primes
    assert medians.hit_confidence(60) < means.hit_confidence(60)


def test_progress_is_told_in_ten_steps() -> None:
    told: list[int] = []
    plate.bootstrap(CONTROLS, 50, 50, 1, progress=told.append)
    assert told == [5, 10, 15, 20, 25, 30, 35, 40, 45, 50]


@pytest.mark.parametrize(
    ("texts", "names"),
    [(["A1", "h12"], ["A01", "H12"]), (["A1,B2", "A01"], ["A01", "B02"]), ([" C7 "], ["C07"])],
)
def test_wells_may_be_named_in_several_ways(texts: list[str], names: list[str]) -> None:
    assert plate.well_names(texts) == names


@pytest.mark.parametrize("text", ["A13", "I1", "A0", "A001", "--help", "A1;B1"])
def test_a_wrong_well_is_refused(text: str) -> None:
    with pytest.raises(plate.PlateError, match="A1 to H12"):
        plate.well_names([text])


@pytest.mark.parametrize("text", ["", ",1,2\nA,3,4\n", ",1\nA,x\n", ",1,2\nA,3\n"])
def test_a_file_that_is_not_a_whole_plate_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "P9.csv").write_text(text)
    with pytest.raises(plate.PlateError, match="plate P9"):
        plate.read_plate(tmp_path / "P9.csv")


def test_a_clean_plate_is_excellent_and_its_hits_are_called(tmp_path: Path) -> None:
    summary, wells = run(tmp_path, "--plate", "P001")
    assert (summary["z_prime"], summary["quality"]) == (0.8575, "excellent")
    hits = [line["well"] for line in wells if line["call"] == "hit"]
    assert hits == ["B06", "C09", "F05", "G04", "H02"]
    assert (len(wells), summary["samples"], summary["hits"]) == (96, 80, 5)
    assert {line["call"] for line in wells} == {"hit", "inactive", "negative", "positive"}


def test_leaving_out_the_failed_control_well_saves_the_third_plate(tmp_path: Path) -> None:
    spoilt, _ = run(tmp_path, "--plate", "P003")
    saved, wells = run(tmp_path, "--plate", "P003", "--positive", "A12,B12,C12", "E12,F12,G12,H12")
    assert (spoilt["z_prime"], spoilt["quality"]) == (-0.6801, "unusable")
    assert (saved["z_prime"], saved["quality"]) == (0.5605, "excellent")
    assert [line["well"] for line in wells if line["call"] == "unused"] == ["D12"]


def test_a_higher_threshold_calls_fewer_hits(tmp_path: Path) -> None:
    at_50, _ = run(tmp_path, "--plate", "P002")
    at_65, _ = run(tmp_path, "--plate", "P002", "--threshold", "65")
    assert (at_50["hits"], at_65["hits"]) == (5, 1)


@pytest.mark.parametrize("wells", ["A12", "A1,A12"])
def test_controls_need_two_wells_of_each_kind_and_none_of_both(tmp_path: Path, wells: str) -> None:
    with pytest.raises(plate.PlateError, match="two wells or more"):
        run(tmp_path, "--plate", "P001", "--positive", wells)


def test_the_picture_is_xml_with_a_ring_for_each_hit(tmp_path: Path) -> None:
    summary, _ = run(tmp_path, "--plate", "P002")
    picture = ElementTree.fromstring((tmp_path / "plate.svg").read_text())
    space = "{http://www.w3.org/2000/svg}"
    circles = picture.findall(f"{space}circle")
    assert len(circles) == summary["samples"]
    assert sum(circle.get("stroke-width") == "3" for circle in circles) == summary["hits"]


def test_colours_run_from_blue_over_white_to_red_and_are_clamped() -> None:
    shares = (-1, 0, 0.5, 1, 9)
    colours = [heatmap.colour(share) for share in shares]
    assert colours == ["#31688e", "#31688e", "#f7f7f2", "#b22434", "#b22434"]
