"""Memory stays flat however large results and attachments are."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

#: Collects from the rundir argv[1] as the outputs argv[2] say; prints its peak memory in KiB.
COLLECT = """
import sys
from pathlib import Path
from script_runner.core.artifacts import ArtifactStore
from script_runner.core.config_models import Outputs
from script_runner.core.rows import rows_as_csv, rows_as_json_array
from script_runner.core.settings import Settings
from script_runner.worker.attachments import collect_attachments
from script_runner.worker.beneath import Beneath
from script_runner.worker.keeper import Keeper
from script_runner.worker.results import collect_results

rundir, outputs = Path(sys.argv[1]), Outputs.model_validate_json(sys.argv[2])
store = ArtifactStore((rundir / "store").as_uri())
keep = Keeper(store, "task/1-own")
with Beneath(rundir) as beneath:
    for result in collect_results(outputs, {}, beneath, keep, Settings()):
        blocks = store.read("task/1-own/" + result.artifact.key)
        assert sum(map(len, rows_as_csv(blocks, result.columns))) > 0
        blocks = store.read("task/1-own/" + result.artifact.key)
        assert sum(map(len, rows_as_json_array(blocks))) > result.artifact.size
    collect_attachments(outputs, beneath, keep, Settings())
# Not ru_maxrss, which begins with the size of the process that started this one.
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""
MIB = 1024 * 1024
ROWS = {
    "csv": 's1,"two\nlines",17.25,0.123456,negative\n',
    "jsonl": '{"a":"s1","b":"two\\nlines","c":17.25,"d":0.123456,"e":"negative"}\n',
}


def peak_mib(rundir: Path, outputs: Mapping[str, object]) -> float:
    command = [sys.executable, "-c", COLLECT, str(rundir), json.dumps(outputs)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=100)
    return int(done.stdout) / 1024


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_long_table_takes_no_more_memory_than_a_short_one(tmp_path: Path, form: str) -> None:
    outputs = {"results": [{"kind": "file", "format": form, "input_path": "rows"}]}
    peaks = []
    for size in (MIB, 15 * MIB):
        with (tmp_path / "rows").open("w") as file:
            file.write("a,b,c,d,e\n" if form == "csv" else "")
            file.write(ROWS[form] * (size // len(ROWS[form])))
        peaks.append(peak_mib(tmp_path, outputs))
    assert peaks[1] < peaks[0] + 4


def test_a_large_attachment_takes_no_more_memory_than_a_small_one(tmp_path: Path) -> None:
    peaks = []
    for size in (MIB, 300 * MIB):
        with (tmp_path / "plate.bin").open("wb") as file:
            file.truncate(size)
        peaks.append(peak_mib(tmp_path, {"attachments": ["*.bin"]}))
    assert peaks[1] < peaks[0] + 4


def test_very_many_files_take_little_memory(tmp_path: Path) -> None:
    outputs = {"attachments": ["**/*.txt"]}
    (tmp_path / "a.txt").touch()
    few = peak_mib(tmp_path, outputs)
    for folder in range(10):
        (tmp_path / str(folder)).mkdir()
        for number in range(1000):
            (tmp_path / str(folder) / str(number)).touch()
    assert peak_mib(tmp_path, outputs) < few + 4
