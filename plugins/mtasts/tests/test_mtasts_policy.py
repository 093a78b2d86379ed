"""mtasts: records and policies of strangers."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq.errors import ProtocolError
from pluq_mtasts.cache import decode
from pluq_mtasts.fetch import read_answer
from pluq_mtasts.policy import MAX_AGE, Policy, is_host_name, parse_policy, policy_id


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([b"v=STSv1; id=20160831085700Z;"], "20160831085700Z"),
        ([b"v=STSv1;id=1"], "1"),
        ([b"v=STSv1 ; x=y ; id=1 ;"], "1"),
        ([b"something", b"v=STSv1; id=1;", b"v=spf1 -all"], "1"),
        ([b"v=STSv1; id=1;", b"v=STSv1; id=1;"], None),
        ([b"v=STSv1; id=1;", b"v=STSv1; id=2;"], None),
        ([b"v=STSv1;"], None),
        ([b"v=STSv1; id="], None),
        ([b"v=STSv1; id=a-b"], None),
        ([b"v=STSv1; id=../x"], None),
        ([b"v=STSv1; id=" + b"a" * 33], None),
        ([b"v=STSv10; id=1"], None),
        ([b"id=1; v=STSv1"], None),
        ([b"v=STSv1 id=1"], None),
        ([b"\xff", b""], None),
        ([], None),
    ],
)
def test_one_record_with_an_id_announces_a_policy(texts: list[bytes], expected: str | None) -> None:
    assert policy_id(texts) == expected


def text(**changes: str | None) -> bytes:
    fields = {"version": "STSv1", "mode": "enforce", "mx": "mx.test", "max_age": "86400"} | changes
    return "".join(f"{key}: {value}\n" for key, value in fields.items() if value is not None).encode()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (text(), Policy("enforce", ("mx.test",), 86400)),
        (text().replace(b"\n", b"\r\n"), Policy("enforce", ("mx.test",), 86400)),
        (text().rstrip(b"\n"), Policy("enforce", ("mx.test",), 86400)),
        (text(mx="MX.Test."), Policy("enforce", ("mx.test",), 86400)),
        (text() + b"mx: *.other.test\nmode: none\nx: y\n\n", Policy("enforce", ("mx.test", "*.other.test"), 86400)),
        (text(mode="none", mx=None), Policy("none", (), 86400)),
        (text(max_age="9999999999"), Policy("enforce", ("mx.test",), MAX_AGE)),
    ],
)
def test_a_policy_is_read_as_the_rfc_wants_it(body: bytes, expected: Policy) -> None:
    assert parse_policy(body) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        text(version="STSv2"),
        text(version=None),
        text(mode="enforced"),
        text(mode=None),
        text(max_age=None),
        text(max_age="-1"),
        text(max_age="1e5"),
        text(max_age="٣"),
        text(max_age="9" * 11),
        text(mx=None),
        text(mx=""),
        text(mx="*"),
        text(mx="*."),
        text(mx="*.*.test"),
        text(mx="mx.*.test"),
        text(mx="m*.test"),
        text(mx="mx .test"),
        text(mx="192.0.2.1"),
        text(mx="a" * 64 + ".test"),
        text() + b"#" * 65536,
    ],
)
def test_what_is_not_whole_is_no_policy(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_policy(body)


@pytest.mark.parametrize(
    ("pattern", "host", "named"),
    [
        ("mx.test", "mx.test", True),
        ("mx.test", "MX.test.", True),
        ("mx.test", "a.mx.test", False),
        ("mx.test", "amx.test", False),
        ("*.test", "mx.test", True),
        ("*.test", "a.mx.test", False),
        ("*.test", "test", False),
        ("*.mx.test", "mx.test", False),
        ("*.mx.test", "a.mx.test", True),
    ],
)
def test_a_star_stands_for_one_label(pattern: str, host: str, named: bool) -> None:
    assert Policy("enforce", (pattern,), 1).covers(host) is named


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "../a", "a..b", "[192.0.2.1]", "192.0.2.1", "::1", "a\0b", "é", "A", "a" * 64]
)
def test_what_is_no_host_name_is_never_looked_for_nor_a_file(name: str) -> None:
    assert not is_host_name(name)


@given(st.binary(max_size=300))
def test_any_octets_are_read_or_refused(data: bytes) -> None:
    policy_id([data, b"v=STSv1;" + data])
    decode(data)
    decode(b"1 1 %d\n" % len(data) + data)
    for read in (parse_policy, read_answer):
        for octets in (data, b"version: STSv1\n" + data, b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" + data):
            with contextlib.suppress(ProtocolError):
                read(octets)
