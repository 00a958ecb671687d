"""From a request to the argv of the script, in three pure steps.

    bind_inputs   request -> inputs       in the API, before a task is accepted
    load_inputs   stored form -> inputs   in the worker: the same checks again
    build_argv    inputs -> argv          in the worker; never a shell

The first raises InputError with every problem at once; no text of it holds a
value. What may stand in ``command`` is explained in ``template``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from script_runner.core.binding import FileInput, InputValue, TaskRequest
from script_runner.core.config import Config
from script_runner.core.input_models import RESERVED_NAME

__all__ = [
    "FileInput",
    "InputValue",
    "Inputs",
    "TaskRequest",
    "bind_inputs",
    "build_argv",
    "dump_inputs",
    "file_input_names",
    "load_inputs",
    "secret_input_names",
]

Inputs = Mapping[str, InputValue]


def bind_inputs(config: Config, request: TaskRequest) -> dict[str, InputValue]:
    """Return the inputs that *request* gives; an optional one without a value is absent."""
    return config.plan.bind(request)


def dump_inputs(inputs: Inputs) -> dict[str, Any]:
    """Return *inputs* as the JSON object that is stored with the task."""
    return {
        name: asdict(value) if isinstance(value, FileInput) else value
        for name, value in inputs.items()
    }


def load_inputs(config: Config, stored: Mapping[str, Any]) -> dict[str, InputValue]:
    """Return the inputs of a stored task, checked against *config* as it is now."""
    return config.plan.load(stored)


def build_argv(
    config: Config, inputs: Inputs, *, rundir: str, files: Mapping[str, str]
) -> list[str]:
    """Return the argv; *files* maps the name of each file input to its local copy."""
    values: dict[str, str | Sequence[str]] = {
        name: files[name] if isinstance(value, FileInput) else value
        for name, value in inputs.items()
    }
    values[RESERVED_NAME] = rundir
    return config.plan.expand(values)


def file_input_names(config: Config) -> list[str]:
    """Return the names of the inputs that are files, in the order of the file."""
    return [binding.name for binding in config.plan.bindings if binding.is_file]


def secret_input_names(config: Config) -> frozenset[str]:
    """Return the names of the inputs that are never shown."""
    return frozenset(binding.name for binding in config.plan.bindings if binding.is_secret)
