"""From a request to checked inputs: where each value is read, and when it is missing.

A :class:`Plan` is compiled once, when the config is loaded; binding is on the
path of every request and does no parsing. Rules of a single value are in
``values``, the expansion of ``command`` in ``template``.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from script_runner.core.errors import InputError, Problem
from script_runner.core.expressions import LOOKUP_ERRORS, compile_reader, compile_regex
from script_runner.core.input_models import BodyArg, Inputs, PathArg, QueryArg
from script_runner.core.spelling import LIKENESS_OF_CHOICES, suggestion
from script_runner.core.template import Template
from script_runner.core.values import MAX_ARGUMENT_BYTES, ValueRefusedError, ValueRule

#: Longest path that is matched: it bounds the time of a slow ``path_regex``.
MAX_PATH_LENGTH = 8192
#: All arguments of one command together; the kernel's own limit is 2 MiB with the environment.
MAX_COMMAND_BYTES = 1024 * 1024
#: The kernel counts a closing zero byte and a pointer for each argument.
_POINTER_BYTES = 9
#: Room kept for a path of ours (the rundir, a file input) when lengths are estimated.
_PATH_BYTES = 4096

#: So many unknown names are told apart; a request can hold a thousand.
MAX_UNKNOWN_NAMES = 20
_SHOWN_CHARACTERS = 64

_TOO_LONG = (
    "are too long for a command: one argument can hold 128 KiB and all of them 1 MiB; "
    "send large data as a file"
)
_UNKNOWN = "is not an input of this script"
_ABSENT: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class FileInput:
    """An uploaded file: *key* is its place in the artifact store."""

    key: str
    size: int
    digest: str
    filename: str


InputValue = str | list[str] | FileInput


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """What a caller sent, apart from HTTP.

    *path* is what follows ``/task/``, decoded and without that slash. *files*
    maps the name of a multipart part to the stored file; *body* is then the
    JSON of the part named ``body``. With *allow_unknown* a query parameter
    that no input has is ignored, as 0.18 did; otherwise it is a mistake, for a
    misspelt name would leave the default in force.
    """

    path: str = ""
    query: Mapping[str, Sequence[str]] = field(default_factory=dict)
    body: Any = None
    files: Mapping[str, FileInput] = field(default_factory=dict)
    allow_unknown: bool = False


@dataclass(frozen=True, slots=True)
class Binding:
    """One input, ready to be read: *read* returns the values the request has for it."""

    name: str
    place: str
    read: Callable[[TaskRequest], Sequence[Any]]
    rule: ValueRule
    missing: str
    is_required: bool = True
    is_multiple: bool = False
    is_file: bool = False
    is_secret: bool = False
    default: str | list[str] | None = None

    def bind(self, request: TaskRequest) -> InputValue | None:
        """Return the value, its default, or None; raise ValueRefusedError."""
        found = self.read(request)
        if not found:
            return self.absent()
        if self.is_file:
            upload: FileInput = found[0]
            return upload
        if self.is_multiple:
            return self._texts(found)
        if len(found) > 1:
            raise ValueRefusedError("has several values, but the script takes one; send one")
        return self.rule.text_of(found[0])

    def absent(self) -> str | list[str] | None:
        """Return what stands for a value that was not sent; raise ValueRefusedError."""
        if self.default is not None:
            return list(self.default) if isinstance(self.default, list) else self.default
        if self.is_required:
            raise ValueRefusedError(self.missing)
        return None

    def load(self, stored: Any) -> InputValue:
        """Check a value that was stored with the task; raise ValueRefusedError."""
        if self.is_file:
            try:
                return FileInput(**stored)
            except TypeError:
                raise ValueRefusedError("is not stored as a file") from None
        if self.is_multiple and isinstance(stored, list):
            return self._texts(stored)
        if not isinstance(stored, str):
            raise ValueRefusedError("does not fit the configuration of this worker")
        text = self.rule.text_of(stored)
        return [text] if self.is_multiple else text

    def _texts(self, values: Sequence[Any]) -> list[str]:
        texts = []
        for number, value in enumerate(values, 1):
            try:
                texts.append(self.rule.text_of(value))
            except ValueRefusedError as error:
                raise ValueRefusedError(f"value {number} {error}") from None
        return texts


@dataclass(frozen=True, slots=True)
class Plan:
    """What is compiled from a config: its inputs and its command."""

    bindings: tuple[Binding, ...]
    templates: tuple[Template, ...]
    by_name: Mapping[str, Binding]
    query_names: frozenset[str]
    references: int
    fixed_bytes: int

    def bind(self, request: TaskRequest) -> dict[str, InputValue]:
        """Return the checked inputs; raise InputError with every problem."""
        inputs: dict[str, InputValue] = {}
        problems = [] if request.allow_unknown else self._unknown(request.query)
        for binding in self.bindings:
            try:
                value = binding.bind(request)
            except ValueRefusedError as error:
                problems.append(Problem(binding.place, str(error)))
                continue
            if value is not None:
                inputs[binding.name] = value
        if problems:
            raise InputError(problems)
        self.check_size(inputs)
        return inputs

    def _unknown(self, query: Mapping[str, Sequence[str]]) -> list[Problem]:
        names = [name for name in query if name not in self.query_names]
        free = [name for name in sorted(self.query_names) if name not in query] if names else []
        problems = []
        for name in names[:MAX_UNKNOWN_NAMES]:
            meant = suggestion(name, free, LIKENESS_OF_CHOICES)
            hint = f"; did you mean {meant}?" if meant else ""
            problems.append(Problem(f"query.{_shown(name)}", _UNKNOWN + hint))
        if len(names) > MAX_UNKNOWN_NAMES:
            rest = len(names) - MAX_UNKNOWN_NAMES
            problems.append(Problem("query", f"has {rest} more names that are no inputs"))
        return problems

    def load(self, stored: Mapping[str, Any]) -> dict[str, InputValue]:
        """Check stored inputs against this plan; raise InputError with every problem."""
        problems = [
            Problem(name, "is not an input of this configuration any more")
            for name in stored
            if name not in self.by_name
        ]
        inputs: dict[str, InputValue] = {}
        for binding in self.bindings:
            try:
                if binding.name in stored:
                    value: InputValue | None = binding.load(stored[binding.name])
                else:
                    value = binding.absent()
            except ValueRefusedError as error:
                problems.append(Problem(binding.place, str(error)))
                continue
            if value is not None:
                inputs[binding.name] = value
        if problems:
            raise InputError(problems)
        self.check_size(inputs)
        return inputs

    def expand(self, values: Mapping[str, str | Sequence[str]]) -> list[str]:
        """Return the argv for *values*, which hold RUNDIR as well."""
        return [text for template in self.templates for text in template.expand(values)]

    def check_size(self, inputs: Mapping[str, InputValue]) -> None:
        """Refuse what the kernel would refuse when the script is started."""
        characters = 1
        for value in inputs.values():
            if type(value) is str:
                characters += len(value)
            elif isinstance(value, list):
                characters += sum(map(len, value)) + len(value)
        # Short values, the normal case, cannot come near the limit, even if every reference
        # were to all of them and each character took four bytes: do not build anything.
        if characters * 4 * self.references + self.fixed_bytes < MAX_ARGUMENT_BYTES:
            return
        values = {
            name: value if isinstance(value, str | list) else "x" * _PATH_BYTES
            for name, value in inputs.items()
        }
        sizes = [
            len(text.encode()) for text in self.expand({"RUNDIR": "x" * _PATH_BYTES, **values})
        ]
        total = sum(sizes) + _POINTER_BYTES * len(sizes)
        if max(sizes, default=0) > MAX_ARGUMENT_BYTES or total > MAX_COMMAND_BYTES:
            raise InputError([Problem("inputs", _TOO_LONG)])


def compile_plan(inputs: Inputs, templates: Sequence[Template]) -> Plan:
    """Compile the inputs of a config and its parsed command."""
    bindings = (
        *(_path_binding(arg) for arg in inputs.path_args),
        *(_query_binding(arg) for arg in inputs.query_args),
        *(_body_binding(arg) for arg in inputs.body_args),
    )
    references = sum(len(template.names) for template in templates)
    literals = [literal for template in templates for literal in template.literals]
    return Plan(
        bindings,
        tuple(templates),
        by_name={binding.name: binding for binding in bindings},
        query_names=frozenset(arg.query_var_name for arg in inputs.query_args),
        references=references,
        fixed_bytes=sum(len(text.encode()) for text in literals) + references * _PATH_BYTES,
    )


def _shown(name: str) -> str:
    """Return a name that a caller made up, short and without what a terminal acts on."""
    text = "".join(c if c.isprintable() else "\ufffd" for c in name[:_SHOWN_CHARACTERS])
    return text if len(name) <= _SHOWN_CHARACTERS else f"{text}..."


def _path_binding(arg: PathArg) -> Binding:
    regex = compile_regex(arg.path_regex)
    group = arg.path_regex_match_group
    front = "/" if re.match(r"\^?/", arg.path_regex) else ""

    def read(request: TaskRequest) -> Sequence[Any]:
        if len(request.path) > MAX_PATH_LENGTH:
            raise ValueRefusedError(f"may have at most {MAX_PATH_LENGTH} characters")
        match = regex.match(front + request.path)
        text = match[group] if match else None
        return _ABSENT if text is None else (text,)

    return _binding(arg, "path", read, f"must match {arg.path_regex} to give {arg.env_var_name}")


def _query_binding(arg: QueryArg) -> Binding:
    name = arg.query_var_name

    def read(request: TaskRequest) -> Sequence[Any]:
        return request.query.get(name, _ABSENT)

    return _binding(arg, f"query.{name}", read, f"is required; add ?{name}=... to the address")


def _body_binding(arg: BodyArg) -> Binding:
    if arg.body_jsonpath is None:
        return _file_binding(arg)
    find, is_plain = compile_reader(arg.body_jsonpath)
    spreads = is_plain and arg.multiple

    def read(request: TaskRequest) -> Sequence[Any]:
        if request.body is None:
            return _ABSENT
        try:
            found = find(request.body)
        except LOOKUP_ERRORS:
            raise ValueRefusedError("cannot be looked up in this body") from None
        if spreads and found and isinstance(found[0], list):
            found = found[0]
        return [value for value in found if value is not None]

    missing = f"is required; the JSON body must have a value at {arg.body_jsonpath}"
    return _binding(arg, f"body {arg.body_jsonpath}", read, missing)


def _file_binding(arg: BodyArg) -> Binding:
    part = arg.part_name or arg.env_var_name

    def read(request: TaskRequest) -> Sequence[Any]:
        upload = request.files.get(part)
        return _ABSENT if upload is None else (upload,)

    missing = f"is required; send multipart/form-data with a file in the part named {part}"
    return _binding(arg, f"file {part}", read, missing)


def _binding(
    arg: PathArg | QueryArg | BodyArg,
    place: str,
    read: Callable[[TaskRequest], Sequence[Any]],
    missing: str,
) -> Binding:
    rule = arg.rule()
    default: str | list[str] | None = None
    if arg.multiple and arg.default is not None:
        values = arg.default if isinstance(arg.default, list) else [arg.default]
        default = [rule.text_of(value) for value in values]
    elif arg.default is not None:
        default = rule.text_of(arg.default)
    return Binding(
        name=arg.env_var_name,
        place=place,
        read=read,
        rule=rule,
        missing=missing,
        is_required=arg.is_required,
        is_multiple=arg.multiple,
        is_file=arg.type == "file",
        is_secret=arg.secret,
        default=default,
    )
