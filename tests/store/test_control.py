"""Control files, read as qmail reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pluq.store.control import list_lines, numbered_lines, read_int, read_line, read_lines


@pytest.mark.parametrize(
    ("text", "items"),
    [
        (b"", []),
        (b"\n \n\t\n", []),
        (b"one \t\n#two\n three\n", [b"one", b" three"]),
        (b"no newline", [b"no newline"]),
        (b"carriage return\r\n", [b"carriage return\r"]),
    ],
)
def test_a_list_has_the_lines_that_say_something(text: bytes, items: list[bytes]) -> None:
    assert list_lines(text) == items


@pytest.mark.parametrize(
    ("text", "items"),
    [(b"a\0b\n", [b"a", b"b"]), (b"a\0#b\n", [b"a", b"#b"]), (b"a\0\n", [b"a", b""]), (b"\0a\nb\n", [b"b"])],
)
def test_a_line_with_nuls_is_several_items_unless_it_begins_with_one(text: bytes, items: list[bytes]) -> None:
    assert list_lines(text) == items


def test_items_know_their_line() -> None:
    assert numbered_lines(b"#\na\0b\n\nc") == [(2, b"a"), (2, b"b"), (4, b"c")]


@pytest.mark.parametrize(
    ("text", "number"), [(b"12\n", 12), (b"12 days", 12), (b"0012", 12), (b" 12", None), (b"-1", None), (b"", None)]
)
def test_a_number_is_the_digits_that_the_first_line_begins_with(
    tmp_path: Path, text: bytes, number: int | None
) -> None:
    (tmp_path / "number").write_bytes(text)
    assert read_int(str(tmp_path / "number")) == number


def test_a_file_that_does_not_exist_says_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "none")
    assert (read_line(path), read_lines(path), read_int(path)) == (None, None, None)
