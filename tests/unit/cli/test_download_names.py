"""Names of attachments are another machine's words: none leads out of the directory."""

import os
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from script_runner.cli.download import safe_name, unique_names


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("plot.png", "plot.png"),
        ("out/deep/plot.png", "out/deep/plot.png"),
        ("../../etc/passwd", "etc/passwd"),
        ("/etc/passwd", "etc/passwd"),
        ("a/./b//c/..", "a/b/c"),
        ("..", "attachment"),
        ("", "attachment"),
        ("..\\..\\boot.ini", ".._.._boot.ini"),
        ("a\x1b[2Jb\n", "a_[2Jb_"),
        ("cod\u202egpj.exe", "cod_gpj.exe"),
        ("a\udd00b\ud800", "a_b_"),
    ],
)
def test_a_name_stays_below_its_directory(name: str, safe: str) -> None:
    assert safe_name(name) == safe


@given(st.text(alphabet=st.characters(), max_size=400))
def test_any_name_is_a_usable_relative_path(name: str) -> None:
    path = PurePosixPath(safe_name(name))
    assert not path.is_absolute()
    assert path.parts
    assert ".." not in path.parts
    assert all(0 < len(part.encode("utf-8", "surrogateescape")) <= 255 for part in path.parts)


def test_a_name_of_bytes_that_are_no_text_keeps_them() -> None:
    assert os.fsencode(safe_name("caf\udce9.txt")) == b"caf\xe9.txt"


def test_a_long_name_keeps_its_ending() -> None:
    safe = safe_name("ü" * 300 + ".csv")
    assert safe.endswith(".csv")
    assert len(safe.encode("utf-8", "surrogateescape")) <= 200


def test_names_that_become_equal_are_told_apart() -> None:
    assert unique_names(["a/x.csv", "a//x.csv", "/a/x.csv", "README", "./README"]) == [
        "a/x.csv",
        "a/x-2.csv",
        "a/x-3.csv",
        "README",
        "README-2",
    ]
