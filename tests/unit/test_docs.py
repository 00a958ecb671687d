"""The documentation says what the code does: nothing is missing, stale, or a dead link."""

import ast
import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

import generate_reference
from operator_reference import metric_names
from script_runner.api.errors import PROBLEMS
from script_runner.api.metrics import Metrics
from script_runner.cli import main as command_line
from script_runner.core.config import config_schema, parse_config
from script_runner.core.redis_records import EXPIRED_OUTCOME, LOST_OUTCOME
from script_runner.core.settings import Settings
from script_runner.core.task import TaskState
from script_runner.operator.crd import resource_schema
from script_runner.operator.kinds import KINDS
from script_runner.operator.settings import OperatorSettings
from script_runner.operator.status import TYPES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    *sorted(DOCS.rglob("*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    ROOT / "example" / "README.md",
    ROOT / "helm" / "script-runner" / "README.md",
]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def page_id(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(language: str) -> Iterator[tuple[str, str]]:
    for path in PAGES:
        for found, text in BLOCK.findall(path.read_text(encoding="utf-8")):
            if found == language:
                yield page_id(path), text


def section_of(text: str, heading: str) -> str:
    """Return what stands below *heading*, up to the next one."""
    return text.partition(f"## {heading}\n")[2].partition("\n## ")[0]


def first_column(text: str, heading: str) -> set[str]:
    """Return the codes in the first column of the table below *heading*."""
    return set(re.findall(r"^\| `([^`]+)`", section_of(text, heading), re.MULTILINE))


@pytest.mark.parametrize("name", generate_reference.PAGES)
def test_generated_pages_are_fresh(name: str) -> None:
    assert name not in generate_reference.stale_pages(), "run `make docs`"


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_no_link_is_dead(path: Path) -> None:
    dead = []
    text = re.sub(r"`[^`\n]*`", "", path.read_text(encoding="utf-8"))  # a pattern is no link
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        other = (path.parent / name).resolve() if name else path
        if not other.exists() or (anchor and anchor not in anchors(other)):
            dead.append(target)
    assert dead == []


def anchors(path: Path) -> set[str]:
    """Return the anchors that a forge makes of the headings."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.replace("`", "")).strip().lower().replace(" ", "-")
        for heading in headings
    }


def test_every_page_can_be_reached_from_the_index() -> None:
    index = page("docs/index.md")
    lost = [
        name
        for path in DOCS.rglob("*.md")
        if (name := path.relative_to(DOCS).as_posix()) not in index and name != "index.md"
    ]
    assert lost == []


def test_every_setting_is_documented() -> None:
    text = page("docs/reference/settings.md")
    assert [name for name in Settings.model_fields if f"| `{name.upper()}` |" not in text] == []


def test_every_key_of_the_config_is_documented() -> None:
    text = page("docs/reference/config.md")
    schema = config_schema()
    keys = {
        key for part in [schema, *schema["$defs"].values()] for key in part.get("properties", ())
    }
    assert [key for key in sorted(keys) if f"| `{key}` |" not in text] == []
    described = [
        f"{name}.{key}"
        for name, part in schema["$defs"].items()
        for key, value in part.get("properties", {}).items()
        if "description" not in value
    ]
    assert described == []


def test_every_error_code_of_the_api_is_documented_with_its_status() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d{3}) \|", page("docs/reference/errors.md"), re.MULTILINE)
    assert {code: int(status) for code, status in rows} == {
        code: kind.status for code, kind in PROBLEMS.items()
    }


#: Raised below the parts that know for what a file was wanted, and given another code there.
INNER_CODES = {"file_missing", "file_unreadable"}


def test_every_error_code_of_a_task_is_documented() -> None:
    documented = first_column(page("docs/reference/errors.md"), "Errors of a task")
    assert documented == set(task_codes()) - INNER_CODES


def task_codes() -> Iterator[str]:
    """Yield the codes that the source gives to the faults of tasks."""
    place = {"ScriptError": 0, "AttemptError": 0, "TaskFault": 0, "_fault": 1}
    for path in (*ROOT.glob("core/**/*.py"), *ROOT.glob("worker/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                index = place.get(getattr(node.func, "id", ""), len(node.args))
                yield from (code for argument in node.args[index:][:1] for code in texts(argument))
    for outcome in (LOST_OUTCOME, EXPIRED_OUTCOME):
        yield json.loads(outcome)["fault"]["code"]


def texts(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant):
        yield str(node.value)
    elif isinstance(node, ast.IfExp):
        yield from texts(node.body)
        yield from texts(node.orelse)


def test_every_state_of_a_task_is_documented() -> None:
    for name in ("docs/explanation/durability.md", "docs/reference/http-api.md"):
        assert [state for state in TaskState if state.value not in page(name)] == []


def test_every_metric_is_documented() -> None:
    documented = first_column(page("docs/reference/http-api.md"), "Metrics")
    exposition = Metrics().exposition({}, {"accepted": 1}).decode()
    # A histogram's and a counter's own name; prometheus_client adds _created to some.
    families = dict(re.findall(r"^# TYPE (\w+) (\w+)$", exposition, re.MULTILINE))
    assert documented == {name for name in families if not name.endswith("_created")}


def test_every_field_of_the_resource_is_documented_at_its_place() -> None:
    text = page("docs/reference/scriptrunner.md")
    headings = re.findall(r"^## (`(?:spec|status).*)$", text, re.MULTILINE)
    places = {heading: re.findall(r"`([^`]+)`", heading) for heading in headings}
    documented = {
        (path, name)
        for heading, paths in places.items()
        for path in paths
        for name in first_column(text, heading)
    }
    schema = resource_schema()["properties"]
    fields = {field for name in ("spec", "status") for field in fields_in(schema[name], name)}
    # A part that stands in several places has one section with all of them in its heading; what
    # is inside of it is described below the first.
    further = tuple(f"{path}." for paths in places.values() for path in paths[1:])
    assert {field for field in fields - documented if not field[0].startswith(further)} == set()
    assert documented <= fields


def fields_in(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for name, member in schema.get("properties", {}).items():
        yield path, name
        if f"{path}.{name}" != "spec.config":
            yield from fields_in(member, f"{path}.{name}")
            yield from fields_in(member.get("items", {}), f"{path}.{name}[]")


def test_every_rule_of_the_resource_is_documented_with_its_words() -> None:
    text = page("docs/reference/scriptrunner.md")
    messages = set(rule_messages(resource_schema()))
    assert len(messages) > 20
    assert [message for message in messages if f"{message}\n" not in text] == []


def rule_messages(schema: Mapping[str, Any]) -> Iterator[str]:
    yield from (rule["message"] for rule in schema.get("x-kubernetes-validations", ()))
    members = [*schema.get("properties", {}).values()]
    members += [schema["items"]] if "items" in schema else []
    for member in members:
        yield from rule_messages(member)


OPERATE = "docs/how-to/operate-on-kubernetes.md"


def test_every_setting_of_the_operator_is_documented() -> None:
    variables = {name.upper() for name in OperatorSettings.model_fields}
    assert every_code(section_of(page(OPERATE), "Settings of the operator")) == variables


def test_every_metric_of_the_operator_is_documented() -> None:
    assert every_code(section_of(page(OPERATE), "Metrics")) == set(metric_names())


def every_code(section: str) -> set[str]:
    """Return all codes in the first cells of the tables of a section."""
    cells = re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE)
    return {code for cell in cells for code in re.findall(r"`([^`]+)`", cell)}


#: Where the operator finds out how things are. What it says of it is a word in capitals and
#: small letters, as are these words, which are no reasons.
FINDERS = "status workloads references planning applying scaling scaler demand reporting".split()
NO_REASONS = {
    *("True", "False", "Builtin", "External", "None"),  # values
    *("Pending", "PodScheduled", "ReplicaFailure"),  # what Kubernetes says of objects
    "Authorization",
    "Missing",  # with the kind before it
}


def test_every_condition_and_reason_is_documented() -> None:
    words = {word for name in FINDERS for word in capital_words(name)}
    assert words >= NO_REASONS
    reasons = words - NO_REASONS - set(KINDS) | {"ConfigMapMissing", "SecretMissing"}
    sections = [
        section_of(page(OPERATE), name) for name in ("What is wrong", "Why so many workers")
    ]
    documented = set().union(*map(every_code, sections))
    # Reasons that all is well stand beside their condition.
    told = {code for text in sections for code in re.findall(r"`([A-Z][A-Za-z]+)`", text)}
    assert set(TYPES) <= documented
    assert reasons - told == set()
    assert documented - reasons == set()


def capital_words(module: str) -> Iterator[str]:
    path = ROOT / "operator" / "script_runner" / "operator" / f"{module}.py"
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        value = node.value if isinstance(node, ast.Constant) else None
        if isinstance(value, str) and re.fullmatch(r"([A-Z][a-z]+)+", value):
            yield value


def test_the_rights_of_the_operator_are_those_of_its_role() -> None:
    documents = yaml.safe_load_all(page("manifests/install.yaml"))
    (role,) = [
        document
        for document in documents
        if document["kind"] == "ClusterRole"
        and "aggregate" not in " ".join(document["metadata"]["labels"])
    ]
    given = {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    rows = re.findall(
        r"^\| ([a-z, ]+) \| (core|`[\w.-]+`): ((?:`[\w/]+`(?:, )?)+) \| \S.* \|$",
        section_of(page(OPERATE), "The operator's rights"),
        re.MULTILINE,
    )
    documented = [
        ("" if group == "core" else group.strip("`"), resource, verb)
        for verbs, group, resources in rows
        for resource in re.findall(r"`([^`]+)`", resources)
        for verb in verbs.split(", ")
    ]
    assert set(documented) == given
    assert len(documented) == len(given)  # each once


def test_every_operation_is_documented() -> None:
    # A placeholder may have another name.
    text = re.sub(r"\{\w+\}", "{}", page("docs/reference/http-api.md"))
    document: dict[str, Any] = json.loads(page("docs/reference/openapi.json"))
    missing = [
        call
        for path, operations in document["paths"].items()
        for method in operations
        if method in ("get", "post", "put", "patch", "delete")
        and (call := re.sub(r"\{\w+\}", "{}", f"`{method.upper()} {path}`")) not in text
    ]
    assert missing == []


def test_every_command_and_option_in_the_documentation_exists() -> None:
    wrong = []
    for name, text in all_code():
        for line in re.findall(r"(?<![\w/.-])script-runner((?: +[^\n`|;&>]+)?)(?![\w/.-])", text):
            words = shlex.split(line.replace("...", "").partition(" #")[0])
            if words and not command_exists(words):
                wrong.append(f"{name}: script-runner {' '.join(words)}")
    assert wrong == []


def all_code() -> Iterator[tuple[str, str]]:
    """Yield the shell code of every page: fenced, indented, and in the line."""
    for path in PAGES:
        if path.parent.name in ("adr", "reference"):
            continue
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        text = re.sub(r"\bhelm [^\n`]+", "", text)  # a release may have our name
        code = [found for language, found in BLOCK.findall(text) if language == "sh"]
        code += re.findall(r"^    (\S.*)$", text, re.MULTILINE)
        code += re.findall(r"`(script-runner [^`]+)`", text)
        for found in code:
            yield page_id(path), found


def command_exists(words: list[str]) -> bool:
    command: click.Command = command_line
    context = click.Context(command)
    while words and isinstance(command, click.Group):
        found = command.get_command(context, words.pop(0))
        if found is None:
            return False
        command = found
    known = {option for param in command.params for option in (*param.opts, *param.secondary_opts)}
    given = {word.partition("=")[0] for word in words if word.startswith("-")}
    return given <= known | {"--help"}


def test_every_make_target_in_the_documentation_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", page("Makefile"), re.MULTILINE))
    named = {
        target
        for path in PAGES
        for target in re.findall(r"`?make ([a-z]+)`?(?![a-z ]*\w)", path.read_text())
        if f"`make {target}" in path.read_text() or f"\nmake {target}" in path.read_text()
    }
    assert named - targets == set()


def json_blocks() -> list[Any]:
    return [pytest.param(text, id=f"{name}-{n}") for n, (name, text) in enumerate(blocks("json"))]


@pytest.mark.parametrize("text", json_blocks())
def test_json_in_the_documentation_is_json_and_configs_load(text: str, tmp_path: Path) -> None:
    document: Mapping[str, Any] = json.loads(text)
    if "command" in document:
        config = parse_config(text, tmp_path)
        assert [str(problem) for problem in config.warnings] == []


def test_parts_of_configs_in_the_documentation_load(tmp_path: Path) -> None:
    for _, text in blocks("json"):
        document = json.loads(text)
        if "command" in document or "urn:" in str(document.get("type", "")):
            continue
        whole: dict[str, Any] = {"command": ["true", "$RUNDIR"]}
        whole |= {"outputs": {"results": document}} if "kind" in document else document
        assert parse_config(json.dumps(whole), tmp_path).warnings == ()


def test_the_first_command_of_the_readme_is_the_demo_and_the_tests_have_one_too() -> None:
    first = next(text for name, text in blocks("sh") if name == "README.md")
    assert first == "make demo\n"
    assert "`make test`" in page("README.md")


def test_shell_code_in_the_documentation_parses() -> None:
    for name, text in blocks("sh"):
        done = subprocess.run(["sh", "-n"], input=text, capture_output=True, text=True, timeout=10)
        assert done.stderr == "", name


def test_tests_that_the_readme_names_exist() -> None:
    named = set(re.findall(r"`(tests/[\w/.]+)`", page("README.md")))
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_tests_that_the_documentation_names_exist() -> None:
    named = {
        (path if path.startswith("tests/") else f"tests/unit/api/{path}", name)
        for found in PAGES
        for path, name in re.findall(r"`([\w/]+\.py)::(\w+)`", found.read_text(encoding="utf-8"))
    }
    assert named
    missing = [
        f"{path}::{name}"
        for path, name in sorted(named)
        if not re.search(rf"^(?:async )?def {name}\(", page(path), re.MULTILINE)
    ]
    assert missing == []


def test_the_changelog_begins_with_this_version() -> None:
    version = tomllib.loads(page("pyproject.toml"))["project"]["version"]
    first = re.search(r"^## \[([^\]]+)\] - (\S+)$", page("CHANGELOG.md"), re.MULTILINE)
    assert first is not None
    assert first[1] == version
    assert re.fullmatch(r"Unreleased|\d{4}-\d{2}-\d{2}", first[2])


def test_no_page_talks_of_a_word_the_glossary_rules_out() -> None:
    # British spellings above all: "canceled" is on the wire.
    wrong = [
        f"{page_id(path)}: {word}"
        for path in PAGES
        if path.name != "glossary.md"
        for word in re.findall(
            r"\b(?:cancelled|cancelling|cancellation|workdir|tmpdir)\b", path.read_text()
        )
    ]
    assert wrong == []
