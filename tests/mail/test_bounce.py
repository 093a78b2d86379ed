"""The text of bounces, as qmail writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq.mail.bounce import Postmaster, notice, paragraph

POSTMASTER = Postmaster(b"MAILER-DAEMON", b"here.example", b"postmaster@here.example")


@pytest.mark.parametrize(
    ("report", "text"),
    [
        (b"no such user\n", b"<joe@x>:\nno such user\n\n"),
        (b"no newline", b"<joe@x>:\nno newline\n\n"),
        (b"", b"<joe@x>:\n\n"),
        (b"one\n\n\nafter blanks\n", b"<joe@x>:\none\n//after blanks\n\n"),
        (b"\nleading\n", b"<joe@x>:\n/leading\n\n"),
        (b"trailing\n\n", b"<joe@x>:\ntrailing\n\n\n"),
    ],
)
def test_a_paragraph_has_no_empty_line_inside(report, text):
    assert paragraph(b"joe@x", report) == text


def test_an_address_cannot_break_its_line():
    assert paragraph(b"joe\n\n@x", b"no\n") == b"<joe__@x>:\nno\n\n"


@given(st.binary(max_size=80).map(lambda data: data.replace(b"\0", b"")))
def test_paragraphs_begin_with_the_address_and_end_with_an_empty_line(report):
    text = paragraph(b"joe@x", report)

    assert text.startswith(b"<joe@x>:\n")
    assert text.endswith(b"\n\n")
    assert b"\n\n" not in text[:-2] + b"."


def test_a_single_bounce():
    bounce = notice(b"se nder@there.example", POSTMASTER, 1_700_000_000)

    assert bounce is not None
    assert (bounce.sender, bounce.recipient) == (b"", b"se nder@there.example")
    assert bounce.head == (
        b"Date: 14 Nov 2023 22:13:20 -0000\n"
        b"From: MAILER-DAEMON@here.example\n"
        b'To: "se nder"@there.example\n'
        b"Subject: failure notice\n"
        b"\n"
        b"Hi. This is the qmail-send program at here.example.\n"
        b"I'm afraid I wasn't able to deliver your message to the following addresses.\n"
        b"This is a permanent error; I've given up. Sorry it didn't work out.\n"
        b"\n"
    )
    assert bounce.middle == (
        b'--- Below this line is a copy of the message.\n\nReturn-Path: <"se nder"@there.example>\n'
    )


def test_a_double_bounce():
    bounce = notice(b"", POSTMASTER, 1_700_000_000)

    assert bounce is not None
    assert (bounce.sender, bounce.recipient) == (b"#@[]", b"postmaster@here.example")
    assert b"\nHi. This is the qmail-send program at here.example.\nI tried to deliver a bounce message" in bounce.head
    assert bounce.middle == b"--- Below this line is the original bounce.\n\nReturn-Path: <>\n"


def test_a_triple_bounce_is_none():
    assert notice(b"#@[]", POSTMASTER, 1_700_000_000) is None


def test_the_postmaster_is_quoted():
    bounce = notice(b"a@b", Postmaster(b"Mail Er", b"h", b"p@h"), 0)

    assert bounce is not None
    assert b'From: "Mail Er"@h\n' in bounce.head
