"""SMTP smuggling: 24 sequences that some server takes for the end of a message, each followed by a second transaction.

Whatever is sent and however it is cut, at most one message comes out, and it holds what followed the sequence, or the session ends.
The table is that of the published attacks (CVE-2023-51764, -51765, -51766).
"""

import pytest

from pluq.testing.smtp_session import Talk

SEQUENCES = {
    "lf-dot-lf": b"\n.\n",
    "lf-dot-crlf": b"\n.\r\n",
    "crlf-dot-lf": b"\r\n.\n",
    "cr-dot-cr": b"\r.\r",
    "crlf-dot-cr": b"\r\n.\r",
    "lf-dot-cr": b"\n.\r",
    "cr-dot-lf": b"\r.\n",
    "cr-dot-crlf": b"\r.\r\n",
    "crlf-dot-cr-crlf": b"\r\n.\r\r\n",
    "cr-crlf-dot-cr-crlf": b"\r\r\n.\r\r\n",
    "crlf-nul-dot-crlf": b"\r\n\0.\r\n",
    "crlf-dot-nul-crlf": b"\r\n.\0\r\n",
    "crlf-dot-blank-crlf": b"\r\n. \r\n",
    "crlf-dot-tab-crlf": b"\r\n.\t\r\n",
    "crlf-blank-dot-crlf": b"\r\n .\r\n",
    "crlf-two-dots-crlf": b"\r\n..\r\n",
    "crlf-dot-lf-crlf": b"\r\n.\n\r\n",
    "lf-lf-dot-crlf": b"\n\n.\r\n",
    "nel": "\u0085.\u0085".encode(),
    "line-separator": "\u2028.\u2028".encode(),
    "paragraph-separator": "\u2029.\u2029".encode(),
    "vertical-tab": b"\v.\v",
    "form-feed": b"\f.\f",
    "crlf-fullwidth-dot-crlf": b"\r\n" + "\uff0e".encode() + b"\r\n",
}
FIRST = b"MAIL FROM:<a@b>\r\nRCPT TO:<x@example.org>\r\nDATA\r\nSubject: outer\r\n\r\nouter"
SECOND = b"MAIL FROM:<evil@b>\r\nRCPT TO:<x@example.org>\r\nDATA\r\nSubject: smuggled\r\n\r\ninner\r\n.\r\n"
BOUNDARIES = (1024, 4096, 8192, 65536)


def check(talk):
    """At most one message, and if there is one, the smuggled commands are text in it."""
    assert len(talk.queue.messages) <= 1
    for queued in talk.queue.messages:
        assert queued.sender == b"a@b"
        assert b"MAIL FROM:<evil@b>" in queued.text
    if not talk.queue.messages:
        assert talk.is_closed
        assert talk.said.endswith(b"451 See https://cr.yp.to/docs/smtplf.html.\r\n")


@pytest.mark.parametrize("sequence", SEQUENCES.values(), ids=SEQUENCES)
def test_no_sequence_but_the_right_one_ends_a_message(sequence):
    stream = FIRST + sequence + SECOND
    cuts = [
        [stream],
        [stream[i : i + 1] for i in range(len(stream))],
        [stream[: len(stream) // 2], stream[len(stream) // 2 :]],
    ]
    inside = len(FIRST) + len(sequence) // 2
    cuts.append([stream[:inside], stream[inside:]])
    for pieces in cuts:
        talk = Talk()
        for piece in pieces:
            talk.send(piece)
        check(talk)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("sequence", list(SEQUENCES.values())[:7], ids=list(SEQUENCES)[:7])
def test_no_sequence_ends_a_message_across_a_buffers_boundary(sequence, boundary):
    for shift in range(len(sequence) + 1):
        filler = b"x" * (boundary - len(FIRST) - shift)
        stream = FIRST + filler + sequence + SECOND
        talk = Talk()
        for begin in range(0, len(stream), boundary):
            talk.send(stream[begin : begin + boundary])
        check(talk)


def test_the_right_sequence_does_end_it():
    talk = Talk()
    talk.send(FIRST + b"\r\n.\r\n" + SECOND)
    assert [queued.sender for queued in talk.queue.messages] == [b"a@b", b"evil@b"]
