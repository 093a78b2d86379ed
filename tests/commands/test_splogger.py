"""splogger: lines in pieces that syslog can take. qbiff: nothing that a terminal could obey."""

import io

from hypothesis import given
from hypothesis import strategies as st

from pluq.commands import qbiff
from pluq.commands.splogger import PIECE, pieces


def test_lines_are_cleaned_and_empty_ones_left_out():
    assert list(pieces(io.BytesIO(b"one\n\ntw\0\xff\n"))) == [(b"one", False), (b"tw??", False)]


def test_long_lines_continue():
    source = io.BytesIO(b"a" * (2 * PIECE) + b"b\nc\n")
    assert list(pieces(source)) == [(b"a" * PIECE, False), (b"a" * PIECE, True), (b"b", True), (b"c", False)]


def test_a_line_of_one_piece_is_whole():
    assert list(pieces(io.BytesIO(b"a" * PIECE + b"\n"))) == [(b"a" * PIECE, False)]


def test_an_unfinished_line_is_left_out():
    assert list(pieces(io.BytesIO(b"done\nhalf"))) == [(b"done", False)]


@given(st.lists(st.integers(0, 2000), max_size=5))
def test_no_byte_of_a_complete_line_is_lost(lengths):
    source = io.BytesIO(b"".join(b"x" * length + b"\n" for length in lengths))
    assert sum(len(piece) for piece, _ in pieces(source)) == sum(lengths)


def test_a_notice_holds_no_control_characters(monkeypatch):
    message = io.TextIOWrapper(io.BytesIO(b"To: x\nSubject: a\x1b[2J\n b\n\nbody\x07" + b"z" * 200))
    monkeypatch.setattr("sys.stdin", message)
    notice = qbiff.notice_of(b"joe\n", b"s\xe9@x")
    assert notice.startswith(b"\r\n\a*** TO <joe_> FROM <s_@x>\r\n    a/[2J/ b//body/zzz")
    assert len(notice.split(b"\r\n")[2]) == qbiff.TEXT
