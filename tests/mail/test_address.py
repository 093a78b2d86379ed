"""SMTP paths in, quoted addresses out: as qmail-smtpd and quote.c do it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq.mail.address import address_literal, parse_parameters, parse_path, quote, quote_box


def addrparse(argument):
    """The reference: addrparse of qmail-smtpd, byte by byte, on a string that ends at its end."""
    index = argument.find(b"<")
    if index >= 0:
        rest, terminator = argument[index + 1 :], b">"
    else:
        colon = argument.find(b":")
        rest, terminator = (argument[colon + 1 :] if colon >= 0 else b"").lstrip(b" "), b" "
    if rest.startswith(b"@"):
        rest = rest[rest.index(b":") + 1 :] if b":" in rest else b""
    out, escaped, quoted = b"", False, False
    for octet in (bytes([value]) for value in rest):
        if escaped:
            out += octet
            escaped = False
        elif not quoted and octet == terminator:
            break
        elif octet == b"\\":
            escaped = True
        elif octet == b'"':
            quoted = not quoted
        else:
            out += octet
    return out


@pytest.mark.parametrize(
    ("argument", "address"),
    [
        (b"FROM:<>", b""),
        (b"FROM:<a@b>", b"a@b"),
        (b"FROM: a@b.example trailing words", b"a@b.example"),
        (b"a@b.example", b""),
        (b"FROM:<@relay1,@relay2:a@b>", b"a@b"),
        (b"FROM:<@relay1,@relay2>", b""),
        (b'FROM:<"john doe"@b.example>', b"john doe@b.example"),
        (b"FROM:<a\\@b\\>c@b.example>", b"a@b>c@b.example"),
        (b"FROM:<a@b.example", b"a@b.example"),
        (b"FROM:<<a@b.example>>", b"<a@b.example"),
        (b"FROM:Joe Doe <a@b.example>", b"a@b.example"),
        (b'FROM:<"a>b"@c>', b"a>b@c"),
        (b"FROM:<\xe9t\xe9@b.example>", b"\xe9t\xe9@b.example"),
        (b"", b""),
        (b":", b""),
        (b":   x", b"x"),
        (b":@r:x y", b"x"),
    ],
)
def test_address_of_a_command(argument, address):
    assert parse_path(argument)[0] == address


@given(
    argument=st.lists(
        st.sampled_from([b"<", b">", b":", b"@", b'"', b"\\", b" ", b"a", b"b.c", b"\r", b"\xff", b",", b"FROM:"])
    ).map(b"".join)
)
def test_paths_are_parsed_as_by_qmail_smtpd(argument):
    assert parse_path(argument)[0] == addrparse(argument)


@given(address=st.binary(max_size=60).filter(lambda text: b"\0" not in text))
def test_quoted_addresses_parse_back_to_themselves(address):
    box, at, _ = address.rpartition(b"@")
    if (
        at
        and box
        and not quote_box(box).startswith(b"@")
        and not any(octet in address.rpartition(b"@")[2] for octet in b'\\">')
    ):
        assert parse_path(b"TO:<" + quote(address) + b">")[0] == address


@pytest.mark.parametrize(
    ("address", "quoted"),
    [
        (b"", b""),
        (b"joe@example.org", b"joe@example.org"),
        (b"joe doe@example.org", b'"joe doe"@example.org'),
        (b"a@b@c", b'"a@b"@c'),
        (b".a@b", b'".a"@b'),
        (b"a.@b", b'"a."@b'),
        (b"a..b@c", b'"a..b"@c'),
        (b"a.b@c", b"a.b@c"),
        (b"@c", b'""@c'),
        (b'a"b\\@c', b'"a\\"b\\\\"@c'),
        (b"a\nb@c", b'"a\\\nb"@c'),
        (b"\xe9@c", b'"\xe9"@c'),
        (b"postmaster", b"postmaster"),
        (b"post master", b'"post master"'),
        (b"a$%&'*+-/=?^_`{|}~!#b@c", b"a$%&'*+-/=?^_`{|}~!#b@c"),
        (b"a(b@c", b'"a(b"@c'),
        (b"a,b@c", b'"a,b"@c'),
        (b"a:b@c", b'"a:b"@c'),
        (b"a;b@c", b'"a;b"@c'),
        (b"a<b@c", b'"a<b"@c'),
        (b"a[b@c", b'"a[b"@c'),
        (b"a\x7fb@c", b'"a\x7fb"@c'),
    ],
)
def test_quoting(address, quoted):
    assert quote(address) == quoted


# Which characters may stand bare in a local part: the table of quote.c, written down once more.
BARE = b"!#$%&'*+-./0123456789=?ABCDEFGHIJKLMNOPQRSTUVWXYZ^_`abcdefghijklmnopqrstuvwxyz{|}~"


def test_only_the_table_of_quote_c_stands_bare():
    assert [octet for octet in range(256) if quote_box(b"x%cx" % octet) == b"x%cx" % octet] == sorted(BARE)


@pytest.mark.parametrize(
    ("domain", "address"),
    [
        (b"[127.0.0.1]", "127.0.0.1"),
        (b"[0.0.0.0]", "0.0.0.0"),
        (b"[127.0.0.257]", "127.0.0.1"),
        (b"[127.0.0.1]x", None),
        (b"127.0.0.1", None),
        (b"[127.0.0]", None),
        (b"[127.0.0.1", None),
        (b"[IPv6:::1]", None),
        (b"[127.0.0.1]\n", None),
    ],
)
def test_address_literals(domain, address):
    assert address_literal(domain) == address


def test_parameters_follow_the_address():
    address, rest = parse_path(b"FROM:<a@b> SIZE=1000 body=8BITMIME smtputf8")
    assert address == b"a@b"
    assert parse_parameters(rest) == {b"SIZE": b"1000", b"BODY": b"8BITMIME", b"SMTPUTF8": None}


def test_what_touches_the_address_is_no_parameter():
    assert parse_parameters(parse_path(b"FROM:<a@b>SIZE=1000")[1]) == {}
    assert parse_parameters(parse_path(b"FROM:a@b SIZE=1000")[1]) == {b"SIZE": b"1000"}
    assert parse_parameters(parse_path(b'FROM:<"a"@b> SIZE=1000')[1]) == {b"SIZE": b"1000"}
