"""Domains in both forms."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq.mail.idn import to_ascii, to_unicode

PAIRS = [
    ("пример.рф", b"xn--e1afmkfd.xn--p1ai"),
    ("ПРИМЕР.РФ", b"xn--e1afmkfd.xn--p1ai"),
    ("mail.bücher.example", b"mail.xn--bcher-kva.example"),
    ("bu\u0308cher.example", b"xn--bcher-kva.example"),
    ("faß.example", b"xn--fa-hia.example"),
    ("例え。テスト", b"xn--r8jz45g.xn--zckzah"),
]


@pytest.mark.parametrize(("written", "in_dns"), PAIRS)
def test_what_people_write_is_one_name_in_dns(written, in_dns):
    assert to_ascii(written.encode()) == in_dns


@pytest.mark.parametrize("domain", [b"", b"Example.ORG", b"a_b.example", b"[192.0.2.1]", b"a..b"])
def test_ascii_stays_as_it_is_and_has_no_other_form(domain):
    assert to_ascii(domain) == domain
    assert to_unicode(domain) is None


def test_a_labels_have_a_form_for_people():
    assert to_unicode(b"XN--e1afmkfd.xn--p1ai") == "пример.рф".encode()
    assert to_unicode("ПРИМЕР.РФ".encode()) == "пример.рф".encode()


@pytest.mark.parametrize(
    "domain",
    [
        b"\xff.example",
        b"\xc0\xae.example",
        "a..рф".encode(),
        ("é" * 70).encode() + b".example",
        "😀.example".encode(),
        "ü\x01.example".encode(),
    ],
)
def test_what_is_no_name_has_no_form(domain):
    assert to_ascii(domain) is None
    assert to_unicode(domain) is None


@pytest.mark.parametrize("domain", [b"xn--zzzz99999.example", b"xn--.example", b"xn--\xc3\xa9.example"])
def test_a_false_a_label_has_no_form_for_people(domain):
    assert to_unicode(domain) is None


@given(st.one_of(st.binary(max_size=300), st.text(max_size=80).map(str.encode)))
def test_whatever_comes_in_a_name_in_dns_is_ascii_and_stands_still(domain):
    found = to_ascii(domain)
    if found is not None:
        assert found.isascii()
        assert to_ascii(found) == found
        people = to_unicode(domain)
        assert people is None or to_ascii(people) == found.lower()
