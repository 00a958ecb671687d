"""One result set, collected from what a test gives as the script's file or stream."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from script_runner.core.config_models import Outputs
from script_runner.core.errors import ScriptError
from script_runner.core.settings import Settings
from script_runner.core.task import Artifact, ResultSet
from script_runner.worker.beneath import Beneath
from script_runner.worker.keeper import Keeper
from script_runner.worker.results import collect_results


class Case:
    """Collects one result set from what is given as the script's file or stream."""

    def __init__(
        self,
        rundir: Path,
        beneath: Beneath,
        keep: Keeper,
        kept: Callable[[Artifact], bytes],
    ) -> None:
        self.rundir = rundir
        self.limits = Settings()
        self._beneath = beneath
        self._keep = keep
        self._kept = kept

    def collect(self, *entries: dict[str, Any]) -> tuple[ResultSet, ...]:
        outputs = Outputs.model_validate({"results": list(entries), "attachments": []})
        streams = {name: self.rundir / name for name in ("stdout", "stderr")}
        return collect_results(outputs, streams, self._beneath, self._keep, self.limits)

    def read(self, form: str, data: bytes | str, **entry: Any) -> ResultSet:
        data = data.encode() if isinstance(data, str) else data
        (self.rundir / "out" / "result").write_bytes(data)
        where = {"kind": "file", "input_path": "out/result"}
        (result,) = self.collect({**where, "format": form, **entry})
        return result

    def rows(self, form: str, data: bytes | str, **entry: Any) -> list[Any]:
        result = self.read(form, data, **entry)
        rows = [json.loads(line) for line in self._kept(result.artifact).splitlines()]
        assert result.rows == len(rows)
        assert result.is_table
        return rows

    def document(self, data: bytes | str) -> bytes:
        result = self.read("json", data)
        assert not result.is_table
        return self._kept(result.artifact)

    def fault(self, form: str, data: bytes | str, **entry: Any) -> ScriptError:
        """Return what reading raises; no descriptor may stay open then."""
        before = set(os.listdir("/proc/self/fd"))
        with pytest.raises(ScriptError) as caught:
            self.read(form, data, **entry)
        assert str(self.rundir) not in caught.value.detail
        fault = caught.value
        fault.__traceback__ = None
        assert set(os.listdir("/proc/self/fd")) == before
        return fault


def column(output: str, source: str, *skip: str) -> dict[str, Any]:
    return {"output_name": output, "input_name": source, "skip_list": list(skip) or None}
