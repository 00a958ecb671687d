"""What a collection that fails half-way leaves behind: nothing but the output."""

import json
import signal
from pathlib import Path

from tests.integration.serving import Serving

SCRIPT = """
import json, pathlib, sys
pathlib.Path("large.json").write_text(json.dumps("x" * 100_000))
pathlib.Path("other").write_bytes(bytes(100_000))
if sys.argv[1] == "whole":
    pathlib.Path("table.csv").write_text("a\\n1\\n")
"""


def test_results_that_were_stored_before_the_fault_are_removed(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    config = {
        "command": ["python3", "script.py", "$KIND"],
        "inputs": {"query_args": [{"env_var_name": "KIND", "query_var_name": "kind"}]},
        "outputs": {
            "results": [
                {"kind": "file", "format": "json", "input_path": "large.json"},
                {"kind": "file", "format": "csv", "input_path": "table.csv"},
            ],
            "attachments": ["other"],
        },
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    serving = Serving(tmp_path, "--config", tmp_path / "config.json")
    try:
        serving.wait_until_ready()
        left = {}
        for kind in ("whole", "half"):
            done = serving.run("submit", "--wait", "--query", f"kind={kind}")
            task_id = max(path.name for path in (tmp_path / "data/artifacts").iterdir())
            stored = (tmp_path / "data/artifacts" / task_id).rglob("*")
            left[kind] = done.returncode, sum(path.is_file() for path in stored)
    finally:
        serving.end(signal.SIGTERM)
        serving.close()
    assert left == {"whole": (0, 2), "half": (1, 0)}
