"""The image is built from what the rest of the repository is built from."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILES = [ROOT / "Dockerfile", ROOT / "example" / "Dockerfile"]


def pins(name: str) -> set[str]:
    """Return each requirement of a constraints file, its hashes included."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    return {" ".join(line.split()) for line in text.splitlines() if line.strip()}


def name_and_hashes(pin: str) -> tuple[str, str]:
    return pin.partition(";")[0].split()[0], " ".join(re.findall(r"--hash=\S+", pin))


@pytest.mark.parametrize("name", ["constraints-image.txt", "constraints-build.txt"])
def test_the_image_holds_the_versions_that_are_tested(name: str) -> None:
    # `make lock` writes all three; one that is forgotten would ship what no test has seen.
    tested = {name_and_hashes(pin) for pin in pins("constraints.txt")}
    assert {name_and_hashes(pin) for pin in pins(name)} <= tested


def test_no_tool_for_tests_or_builds_is_in_the_image() -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    tools = {re.split(r"[^\w-]", tool)[0] for tool in groups["lint"] if isinstance(tool, str)}
    tools |= {"pytest", "hatchling"}
    assert not {pin.partition("==")[0] for pin in pins("constraints-image.txt")} & tools


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_all_that_a_dockerfile_copies_is_let_through(path: Path) -> None:
    allowed = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", path.read_text(), re.MULTILINE)
    assert copied
    assert {word for words in copied for word in words.split()} <= allowed


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_no_dockerfile_names_a_registry(path: Path) -> None:
    # Whoever builds chooses where images come from.
    bases = re.findall(r"^(?:FROM|ARG BASE=|ARG IMAGE=)\s*(\S+)", path.read_text(), re.MULTILINE)
    assert bases
    assert not [base for base in bases if "." in base.split("/")[0].split(":")[0]]
