"""Settings that are more than a number or a text."""

import json

import pytest

from script_runner.core.errors import ConfigError
from script_runner.core.settings import load_settings

TOKEN = "0123456789abcdef"


def problem(**environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(environ)
    return str(caught.value)


def test_without_the_variables_tasks_are_accepted_and_there_is_no_operator() -> None:
    settings = load_settings({})
    assert settings.accept_tasks
    assert settings.operator_token.get_secret_value() == settings.worker_name == ""


@pytest.mark.parametrize("token", ["short", TOKEN[:15], f"{TOKEN}\n", f"{TOKEN} x", f"ä{TOKEN}"])
def test_a_token_that_is_short_or_cannot_be_sent_is_refused_and_not_shown(token: str) -> None:
    text = problem(OPERATOR_TOKEN=token)
    assert text == "OPERATOR_TOKEN: must be 16 or more visible ASCII characters"


def test_the_token_is_in_no_text_that_is_made_of_the_settings() -> None:
    settings = load_settings({"OPERATOR_TOKEN": TOKEN})
    assert settings.operator_token.get_secret_value() == TOKEN
    texts = (repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json())
    assert not any(TOKEN in text for text in texts)
    assert json.loads(settings.model_dump_json())["operator_token"]


@pytest.mark.parametrize("name", ["Pod", "a_b", "a/b", "a" * 64, "a b"])
def test_a_worker_has_a_name_that_a_pod_could_have(name: str) -> None:
    assert problem(WORKER_NAME=name).startswith("WORKER_NAME: ")
    assert load_settings({"WORKER_NAME": "node-1.lab"}).worker_name == "node-1.lab"


@pytest.mark.parametrize(("text", "is_open"), [("false", False), ("0", False), ("true", True)])
def test_accept_tasks_is_true_or_false(text: str, is_open: bool) -> None:
    assert load_settings({"ACCEPT_TASKS": text}).accept_tasks is is_open
    assert "ACCEPT_TASKS" in problem(ACCEPT_TASKS="maybe")
