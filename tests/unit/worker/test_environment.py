"""What a script may see of its worker's environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from script_runner.core.config import parse_config
from script_runner.core.errors import AttemptError
from script_runner.core.settings import Settings, load_settings
from script_runner.worker.environment import MAX_SECRET_BYTES, script_environment


@dataclass(frozen=True)
class Attempt:
    id: str = "01jabcdefghjkmnpqrstvwxyz0"
    attempt: int = 2
    lease_owner: str = "a1b2c3d4e5f6.7"


def environment(
    environ: Mapping[str, str], more: str = "", settings: Settings | None = None
) -> dict[str, str]:
    config = parse_config('{"command": ["true"]' + more + "}", Path("/"))
    return script_environment(settings or Settings(), config, "/rundir", Attempt(), environ)


def secret(name: str, **reference: str) -> str:
    kind, value = next(iter(reference.items()))
    return f', "secrets": {{"{name}": {{"{kind}": "{value}"}}}}'


def test_only_listed_variables_pass() -> None:
    assert environment({"PATH": "/bin", "LANG": "C", "EDITOR": "vi", "lang": "x"}) == {
        "PATH": "/bin",
        "LANG": "C",
        "RUNDIR": "/rundir",
        "SCRIPT_RUNNER_ATTEMPT": "01jabcdefghjkmnpqrstvwxyz0/2-a1b2c3d4e5f6.7",
    }


def test_a_script_has_a_path_even_when_the_worker_has_none() -> None:
    assert environment({})["PATH"] == os.defpath


def test_credentials_of_the_service_do_not_pass_though_listed() -> None:
    names = [
        "REDIS_URL",
        "redis_url",
        "REDIS_PASSWORD",
        "CELERY_BROKER_URL",
        "CELERY_RESULT_BACKEND",
        "AUTH_PROVIDER",
        "AUTH_APIKEYS_FILE",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "ARTIFACTS_URL",
    ]
    settings = load_settings({"SCRIPT_ENV": ", ".join([*names, "EDITOR"])})
    script = environment(dict.fromkeys([*names, "EDITOR"], "x"), settings=settings)
    assert sorted(script) == ["EDITOR", "PATH", "RUNDIR", "SCRIPT_RUNNER_ATTEMPT"]


def test_the_config_adds_variables_and_replaces_those_of_the_worker() -> None:
    script = environment({"LANG": "C"}, ', "env": {"LANG": "de_DE.UTF-8", "MODE": "fast"}')
    assert (script["LANG"], script["MODE"]) == ("de_DE.UTF-8", "fast")


def test_the_mark_of_the_attempt_cannot_be_replaced() -> None:
    script = environment({}, ', "env": {"SCRIPT_RUNNER_ATTEMPT": "another"}')
    assert script["SCRIPT_RUNNER_ATTEMPT"].startswith("01jabcdefghjkmnpqrstvwxyz0/2-")


def test_a_secret_comes_from_a_variable_of_the_worker() -> None:
    script = environment({"AWS_KEY": "s3cret", "PATH": "/bin"}, secret("KEY", env="AWS_KEY"))
    assert script["KEY"] == "s3cret"
    assert "AWS_KEY" not in script


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_secret_comes_from_a_file_without_its_line_end(tmp_path: Path, end: str) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b" two\nlines " + end.encode())
    assert environment({}, secret("KEY", file=str(file)))["KEY"] == " two\nlines "


def test_a_missing_secret_is_named_and_nothing_else(tmp_path: Path) -> None:
    references = (
        secret("KEY", env="ELSEWHERE"),
        secret("KEY", file=str(tmp_path / "gone")),
        secret("KEY", file=str(tmp_path)),
    )
    for reference in references:
        with pytest.raises(AttemptError) as caught:
            environment({}, reference)
        assert caught.value.task_code == "secret_missing"
        assert caught.value.detail == "the worker does not have the secret KEY"


@pytest.mark.parametrize("data", [b"a\0b", b"x" * (MAX_SECRET_BYTES + 1)])
def test_a_secret_that_no_program_can_receive_is_refused(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "secret"
    file.write_bytes(data)
    with pytest.raises(AttemptError) as caught:
        environment({}, secret("KEY", file=str(file)))
    assert caught.value.task_code == "secret_invalid"
    assert data.decode() not in caught.value.detail
