"""Authentication-Results: one field, in our words, and nobody else's in our name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq.hookspecs import AuthResult, Message
from pluq.hookspecs.message import check_field
from pluq.smtpd.results import authserv_id_of, mark, render

SPF = AuthResult("spf", "pass", "example.org", (("smtp", "mailfrom", "joe@example.org"),))
DKIM = AuthResult(
    "dkim", "fail", "example.org", (("header", "d", "example.org"), ("header", "b", "ab/=+")), "bad signature"
)


def test_all_results_stand_in_one_field_in_their_order() -> None:
    assert render("mx.example.org", [SPF, DKIM]) == (
        b"Authentication-Results: mx.example.org;\n"
        b"\tspf=pass smtp.mailfrom=joe@example.org;\n"
        b'\tdkim=fail reason="bad signature" header.d=example.org header.b="ab/=+"\n'
    )
    assert render("mx.example.org", []) == b"Authentication-Results: mx.example.org;\n\tnone\n"


@given(st.text(), st.text())
def test_nothing_that_a_stranger_chose_can_add_a_result_or_a_line(value: str, reason: str) -> None:
    field = render("mx.example.org", [AuthResult("spf", "fail", "", (("smtp", "mailfrom", value),), reason)])
    assert check_field(field) == field
    assert field.count(b"\n") == 2
    outside_quotes = b"".join(field.replace(b'\\"', b"").split(b'"')[::2])
    assert outside_quotes.count(b";") == 1


FORGED = [
    b"mx.example.org; spf=pass",
    b"MX.example.org ; spf=pass",
    b"(a (nested) comment) mx.example.org 1; spf=pass",
    b'"mx.example.org"; spf=pass',
    b"\n\tmx.example.org;\n\tspf=pass",
    b"(" * 50 + b")" * 50 + b"mx.example.org; spf=pass",
    b"(" * 100_000 + b")" * 100_000 + b"mx.example.org; spf=pass",
    rb"(an escaped \( and \) in it) mx.example.org; spf=pass",
    rb'"mx\.example\.org"; spf=pass',
]


@pytest.mark.parametrize("value", FORGED)
def test_a_field_that_bears_our_name_is_removed(value: bytes) -> None:
    message = Message.from_bytes(b"Authentication-Results:" + value + b"\nSubject: x\n\nbody\n")
    mark(message, "mx.example.org", [SPF])
    assert message.as_bytes() == render("mx.example.org", [SPF]) + b"Subject: x\n\nbody\n"


def test_the_field_of_another_host_stays() -> None:
    text = b"Authentication-Results: mx.example.org.evil.test; spf=pass\n\nbody\n"
    message = Message.from_bytes(text)
    mark(message, "mx.example.org", [])
    assert message.as_bytes().endswith(text)


@given(st.binary(max_size=300))
def test_any_value_has_an_authserv_id_or_none(value: bytes) -> None:
    assert b" " not in authserv_id_of(value)
