"""qmail-log(5) lines, as existing log tools read them."""

from __future__ import annotations

import os
import threading

from hypothesis import given
from hypothesis import strategies as st

from pluq import log


def test_lines_are_qmails() -> None:
    assert log.status((1, 10), (0, 20)) == b"status: local 1/10 remote 0/20\n"
    assert log.status((1, 10), (0, 20), leaving=True) == b"status: local 1/10 remote 0/20 exitasap\n"
    assert log.new_message(42) == b"new msg 42\n"
    assert log.info(42, 813, b"s p@x", 99, 1000) == b"info msg 42: bytes 813 from <s_p@x> qp 99 uid 1000\n"
    assert log.starting(7, 42, b"local", b"joe@x") == b"starting delivery 7: msg 42 to local joe@x\n"
    assert log.delivered(7, b"K", b"did 1+0+0\n") == b"delivery 7: success: did_1+0+0/\n"
    assert log.delivered(7, b"D", b"50% no\xe9") == b"delivery 7: failure: 50__no_\n"
    assert log.delivered(7, b"Z", b"") == b"delivery 7: deferral: \n"
    assert log.delivered(7, b"X", b"what") == b"delivery 7: report mangled, will defer\n"
    assert log.bounced(42, 100) == b"bounce msg 42 qp 100\n"
    assert log.no_bounce("triple bounce", b"bounce/42") == b"triple bounce: discarding bounce/42\n"
    assert log.no_bounce("a\nwarning: b", b"bounce/42") == b"a/warning: b: discarding bounce/42\n"
    assert log.end_message(42) == b"end msg 42\n"


@given(st.binary(max_size=200))
def test_a_stranger_cannot_forge_a_line(text: bytes) -> None:
    for line in (log.delivered(1, b"D", text), log.starting(1, 2, b"local", text), log.info(1, 2, text, 3, 4)):
        assert line.count(b"\n") == 1
        assert line.endswith(b"\n")
        assert line.isascii()


def test_our_own_remarks_are_one_line() -> None:
    assert log.warning("trouble opening a\nb") == b"warning: trouble opening a/b\n"
    assert log.alert(b"out of memory") == b"alert: out of memory\n"


def test_lines_go_out_whole_and_in_order_to_a_slow_reader() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    lines = log.LineWriter(writer)
    expected = b"".join(b"line %d\n" % number for number in range(20_000))
    for number in range(20_000):
        lines.write(b"line %d\n" % number)

    def close_after_flush() -> None:
        lines.flush()
        os.close(writer)

    thread = threading.Thread(target=close_after_flush)
    thread.start()
    with open(reader, "rb") as file:
        assert file.read() == expected
    thread.join()


def test_a_reader_that_is_gone_stops_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    lines = log.LineWriter(writer)
    lines.write(b"x\n")
    lines.flush()
    lines.flush()
    os.close(writer)
