from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq.errors import ProtocolError
from pluq.wire.qmtp import Answer, Answers, CrlfLines, encode_package


def test_a_package_is_the_one_of_the_paper() -> None:
    assert encode_package(b"hi\n", b"a@b", [b"c@d", b"e@f"]) == b"4:\nhi\n,3:a@b,12:3:c@d,3:e@f,,"


def test_answers_are_read_wherever_the_stream_is_cut() -> None:
    stream = b"5:Kfine,3:Zno,1:D,"
    answers = Answers()
    found = [answer for index in range(len(stream)) for answer in answers.feed(stream[index : index + 1])]
    assert found == [Answer("K", b"fine"), Answer("Z", b"no"), Answer("D", b"")]


@pytest.mark.parametrize("stream", [b"0:,", b"2:ok,", b"x", b"99999:", b"1:K;"])
def test_what_is_no_answer_is_the_servers_fault(stream: bytes) -> None:
    with pytest.raises(ProtocolError):
        Answers().feed(stream)


@given(st.binary(max_size=50))
def test_no_answer_of_a_stranger_raises_anything_else(stream: bytes) -> None:
    try:
        Answers().feed(stream)
    except ProtocolError:
        pass


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b""]), max_size=12), st.integers(1, 4))
def test_line_ends_do_not_depend_on_where_a_piece_ends(parts: list[bytes], size: int) -> None:
    message = b"".join(parts)
    lines = CrlfLines()
    pieces = [lines.feed(message[start : start + size]) for start in range(0, len(message), size)]
    assert b"".join(pieces) + lines.finish() == message.replace(b"\r\n", b"\n")
