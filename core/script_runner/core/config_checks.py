"""Mistakes in config.json that concern more than one key, and their words.

Works on the JSON as it was read, not on the models, so that these mistakes are
reported together with those that pydantic finds, however broken the file is.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from script_runner.core.errors import Problem
from script_runner.core.input_models import RESERVED_NAME
from script_runner.core.json_text import place
from script_runner.core.spelling import LIKENESS_OF_CHOICES, suggestion
from script_runner.core.template import NAME_PATTERN, Template, parse_template, shell_expansions

#: Programs that take the text of a program as an argument, and the option before it.
_INTERPRETERS = (
    (re.compile(r"(ba|da|z|k|fi|a)?sh"), re.compile(r"-[a-z]*c")),
    (re.compile(r"python[0-9.]*"), re.compile(r"-[A-Za-z]*c")),
    (re.compile(r"Rscript|R|perl|ruby|node|julia"), re.compile(r"-[a-z]*[eE]|--eval")),
)


_WORDS = {
    "missing": "is required",
    "string_type": "must be text in quotes",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "tuple_type": "must be a list in [ ]",
    "list_type": "must be a list in [ ]",
    "dict_type": "must be an object in {{ }}",
    "model_type": "must be an object in {{ }}",
    "model_attributes_type": "must be an object in {{ }}",
    "too_short": "must have at least {min_length} entry",
    "string_too_short": "must not be empty",
    "string_too_long": "may have at most {max_length} characters",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be {ge} or more",
    "less_than_equal": "must be {le} or less",
}


def unknown_keys(model: type[BaseModel], raw: Any) -> tuple[list[Problem], list[Problem]]:
    """Return the unknown keys that are mistakes, and those that merely have no effect."""
    problems: list[Problem] = []
    warnings: list[Problem] = []
    for where, key, members, known in _unknown(model, raw, ""):
        meant = suggestion(key, [name for name in known if name not in members])
        if meant:
            problems.append(Problem(place(where, key), f"is unknown; did you mean {meant}?"))
        elif not where:
            problems.append(Problem(key, "is not a key of config.json; remove it"))
        else:
            warnings.append(Problem(place(where, key), "is unknown and has no effect"))
    return problems, warnings


def _unknown(
    model: type[BaseModel], raw: Any, where: str
) -> Iterator[tuple[str, str, Mapping[str, Any], list[str]]]:
    if not isinstance(raw, dict):
        return
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    for key, value in raw.items():
        if key not in fields:
            yield where, key, raw, list(fields)
            continue
        part = model_within(fields[key].annotation)
        if part is None:
            continue
        below = place(where, key)
        if isinstance(value, list):
            for index, entry in enumerate(value):
                yield from _unknown(part, entry, place(below, index))
        elif get_origin(fields[key].annotation) is dict and isinstance(value, dict):
            for name, entry in value.items():
                yield from _unknown(part, entry, place(below, name))
        else:
            yield from _unknown(part, value, below)


def model_within(annotation: Any) -> type[BaseModel] | None:
    """Return the model that *annotation* is, or holds as entries."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    parts = (model_within(part) for part in get_args(annotation))
    return next((part for part in parts if part is not None), None)


def structural_problems(errors: Sequence[ErrorDetails], raw: Any) -> list[Problem]:
    """Return pydantic's findings in our words, with the places of the file."""
    found: dict[str, list[str]] = {}
    for error in errors:
        texts = found.setdefault(_where(error, raw), [])
        text = _text(error)
        if text not in texts:
            texts.append(text)
    return [Problem(where, _joined(texts)) for where, texts in found.items()]


def _joined(texts: list[str]) -> str:
    if len(texts) > 1 and all(text.startswith("must be ") for text in texts):
        kinds = [text.removeprefix("must be ") for text in texts]
        if "a number" in kinds:  # a whole number is one as well
            kinds = [kind for kind in kinds if kind != "a whole number"]
        return "must be " + " or ".join(kinds)
    return "; ".join(texts)


def _where(error: ErrorDetails, raw: Any) -> str:
    """Follow the location through the file; leave out what is only pydantic's (union tags)."""
    where, here = "", raw
    for number, key in enumerate(error["loc"], 1):
        if isinstance(here, dict) and key in here:
            here = here[key]
        elif isinstance(here, list) and isinstance(key, int) and key < len(here):
            here = here[key]
        elif not (isinstance(here, dict) and isinstance(key, str) and number == len(error["loc"])):
            continue
        where = place(where, key)
    return where


def _text(error: ErrorDetails) -> str:
    context = error.get("ctx", {})
    if error["type"] == "value_error":
        return str(context["error"])
    if error["type"] == "literal_error":
        expected = [word.strip("' ") for word in re.split(",| or ", str(context["expected"]))]
        meant = suggestion(str(error["input"]), expected, LIKENESS_OF_CHOICES)
        return f"must be one of: {', '.join(expected)}" + (
            f"; did you mean {meant}?" if meant else ""
        )
    words = _WORDS.get(error["type"])
    return words.format(**context) if words else error["msg"]


def unusable_text(raw: Any, where: str = "") -> Iterator[Problem]:
    """Yield the texts that could never be passed to a command."""
    if isinstance(raw, str):
        if "\0" in raw:
            yield Problem(where, "holds a NUL character, which no command can be given")
        elif not raw.isascii() and re.search("[\ud800-\udfff]", raw):
            yield Problem(where, "holds half a character (a lone surrogate), which is not text")
    elif isinstance(raw, dict):
        for key, value in raw.items():
            yield from unusable_text(value, place(where, key))
    elif isinstance(raw, list):
        for index, value in enumerate(raw):
            yield from unusable_text(value, place(where, index))


def command_problems(raw: Mapping[str, Any]) -> tuple[list[Problem], list[Problem]]:
    """Return the mistakes, and what is merely doubtful, between ``command`` and ``inputs``."""
    declared, problems, is_complete = _declared(raw)
    warnings: list[Problem] = []
    elements = raw.get("command")
    command = [str(element) for element in elements] if isinstance(elements, list) else []
    used: set[str] = set()
    for index, text in enumerate(command):
        template = parse_template(text)
        used.update(template.names)
        where = f"command[{index}]"
        problems += _reference_problems(where, template, declared, is_complete)
        warnings += _text_warnings(where, text)
    if command:
        problems += _program_problems(command[0], declared)
        warnings += _spliced_code(command)
        warnings += [
            Problem(where, f"${name} is not used in command")
            for name, (where, _) in declared.items()
            if name not in used
        ]
    return problems, warnings


Declared = dict[str, tuple[str, Mapping[str, Any]]]


def _declared(raw: Mapping[str, Any]) -> tuple[Declared, list[Problem], bool]:
    """Return name -> (place, input), the names given twice, and if every name is readable."""
    declared: Declared = {}
    problems: list[Problem] = []
    is_complete = True
    for where, argument in _inputs(raw.get("inputs")):
        name = argument.get("env_var_name") if isinstance(argument, dict) else None
        if not isinstance(name, str) or not re.fullmatch(NAME_PATTERN, name):
            is_complete = False
        elif name in declared:
            other = declared[name][0]
            problems.append(
                Problem(f"{where}.env_var_name", f"is the name of {other} as well; use another")
            )
        else:
            declared[name] = (where, argument)
    return declared, problems, is_complete


def _inputs(inputs: Any) -> Iterator[tuple[str, Any]]:
    for kind in ("path_args", "query_args", "body_args"):
        arguments = inputs.get(kind) if isinstance(inputs, dict) else None
        for index, argument in enumerate(arguments if isinstance(arguments, list) else ()):
            yield f"inputs.{kind}[{index}]", argument


def _reference_problems(
    where: str, template: Template, declared: Declared, is_complete: bool
) -> Iterator[Problem]:
    for name in dict.fromkeys(template.names):
        if name == RESERVED_NAME:
            continue
        if name not in declared:
            # Beside an input whose own name is wrong, only a slip of a declared name is sure.
            meant = suggestion(name, [*declared, RESERVED_NAME])
            if is_complete or meant:
                yield Problem(where, _undeclared(name, meant))
        elif declared[name][1].get("multiple") is True and not template.is_exact:
            yield Problem(
                where, f"${name} takes several values, so it must be an argument of its own"
            )


def _undeclared(name: str, meant: str | None) -> str:
    hint = f"did you mean ${meant}?" if meant else "declare it under inputs"
    return f"${name} is not declared; {hint} (a literal dollar is written $$)"


def _program_problems(program: str, declared: Declared) -> Iterator[Problem]:
    template = parse_template(program)
    if not program:
        yield Problem("command[0]", "is empty; it must name the program to run")
    elif template.is_exact and template.names[0] in declared:
        argument = declared[template.names[0]][1]
        if argument.get("required") is False and argument.get("default") is None:
            yield Problem("command[0]", "must name a program, but its input is optional")


def _text_warnings(where: str, text: str) -> Iterator[Problem]:
    for expansion in shell_expansions(text):
        yield Problem(where, f"{expansion} is passed on as it is; only a shell would replace it")


def _spliced_code(command: Sequence[str]) -> Iterator[Problem]:
    """Warn where a value becomes part of a program's text: it could then be any program."""
    if any(name != RESERVED_NAME for name in parse_template(command[0]).names):
        yield Problem("command[0]", "lets every caller choose the program that is run")
    for index in range(len(command) - 2):
        program = command[index].rpartition("/")[2]
        for interpreter, option in _INTERPRETERS:
            if not (interpreter.fullmatch(program) and option.fullmatch(command[index + 1])):
                continue
            names = [n for n in parse_template(command[index + 2]).names if n != RESERVED_NAME]
            if names:
                yield Problem(
                    f"command[{index + 2}]",
                    f"${names[0]} becomes part of a program's text, so a caller can run anything; "
                    f"pass it as an argument of its own behind the text and read it there "
                    f'(in a shell: "$1")',
                )
