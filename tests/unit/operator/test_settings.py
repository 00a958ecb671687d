"""The settings of the operator, from the environment."""

import pytest

from script_runner.core.errors import ConfigError
from script_runner.operator.settings import OperatorSettings, load_operator_settings


def test_without_any_variable_the_whole_cluster_is_served() -> None:
    settings = load_operator_settings({"PATH": "/bin"})
    assert settings.served_namespaces == ()
    assert settings.scopes == (None,)


def test_a_list_of_namespaces_is_read_with_blanks_and_repeats() -> None:
    settings = load_operator_settings({"NAMESPACES": " lab, plates ,,lab"})
    assert settings.served_namespaces == ("lab", "plates")
    assert settings.scopes == ("lab", "plates")


def test_every_bad_variable_is_named_at_once() -> None:
    environ = {
        "RESYNC_SECONDS": "soon",
        "PROBE_PORT": "99999",
        "API_URL_TEMPLATE": "http://{host}",
        "LOG_LEVEL": "WARNING",
    }
    with pytest.raises(ConfigError) as caught:
        load_operator_settings(environ)
    assert {problem.where for problem in caught.value.problems} == {
        "RESYNC_SECONDS",
        "PROBE_PORT",
        "API_URL_TEMPLATE",
    }
    assert "may name {name} and {namespace} alone" in str(caught.value)


def test_every_setting_says_what_it_is_for() -> None:
    assert all(field.description for field in OperatorSettings.model_fields.values())
