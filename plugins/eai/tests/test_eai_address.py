"""eai: which addresses are proper, and the two forms of their domains."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq.mail.address import MAX_ADDRESS
from pluq_eai.address import is_international, is_proper, with_ascii_domain
from pluq_eai.domains import forms, normalized


@pytest.mark.parametrize(
    ("address", "in_dns"),
    [
        ("δοκιμή@παράδειγμα.δοκιμή", "δοκιμή@xn--hxajbheg2az3al.xn--jxalpdlp"),
        ("ДОМ@ПРИМЕР.РФ", "ДОМ@xn--e1afmkfd.xn--p1ai"),
        ("joe@пример.рф", "joe@xn--e1afmkfd.xn--p1ai"),
        ("дом@example.org", "дом@example.org"),
        ("e\u0301t\u00e9@example.org", "e\u0301t\u00e9@example.org"),
        ("क्‍ष@example.org", "क्‍ष@example.org"),
        ("a@b@пример.рф", "a@b@xn--e1afmkfd.xn--p1ai"),
        ("дом", "дом"),
        ("дом@[192.0.2.1]", "дом@[192.0.2.1]"),
        ("Joe@Example.ORG", "Joe@Example.ORG"),
        ("", ""),
    ],
)
def test_the_domain_becomes_a_labels_and_the_local_part_stays(address: str, in_dns: str) -> None:
    assert with_ascii_domain(address.encode()) == in_dns.encode()


@pytest.mark.parametrize(
    "address",
    [
        b"\xff@example.org",
        b"\xc0\xaf@example.org",  # an overlong slash
        b"\xe0\x80\xaf@example.org",
        b"\xed\xa0\x80@example.org",  # half of a surrogate pair
        b"\xf4\x90\x80\x80@example.org",  # beyond Unicode
        b"\xd0@example.org",
        b"d\xf6ner@example.org",
        "дом\x01@example.org".encode(),
        "дом\x7f@example.org".encode(),
        "до\x85м@example.org".encode(),
        "до\u2028м@example.org".encode(),
        "дом\u202egro@example.org".encode(),
        "до\u2066м@example.org".encode(),
        "дом\ufffe@example.org".encode(),
        "дом@a..рф".encode(),
        "дом@-é-.example".encode(),
        "дом@ex ample.рф".encode(),
        ("д" * 440 + "@" + "пример." * 5 + "рф").encode(),
    ],
)
def test_what_is_no_proper_address_is_none(address: bytes) -> None:
    assert with_ascii_domain(address) is None


@given(
    st.one_of(st.binary(max_size=1000), st.text(max_size=120).map(lambda text: text.encode("utf-8", "surrogatepass")))
)
def test_a_proper_address_is_readable_and_bounded_whatever_comes(address: bytes) -> None:
    found = with_ascii_domain(address)
    if found is None or address.isascii():
        assert found == address or not address.isascii()
        return
    assert is_proper(address)
    text = found.decode("utf-8")
    assert not any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in text)
    assert len(found) <= MAX_ADDRESS
    assert found.rpartition(b"@")[2].isascii() or b"@" not in found
    assert with_ascii_domain(found) == found


@given(st.text(max_size=60))
def test_a_local_part_of_letters_is_proper_and_passes_unchanged(text: str) -> None:
    letters = "".join(one for one in text if unicodedata.category(one)[0] in "LMN")
    address = f"{letters}@example.org".encode()
    assert with_ascii_domain(address) == address


@pytest.mark.parametrize(
    ("address", "expected"),
    [("joe@example.org", False), ("joe@XN--e1afmkfd.example", True), ("дом@example.org", True), ("", False)],
)
def test_only_addresses_that_may_have_two_forms_are_looked_at(address: str, expected: bool) -> None:
    assert is_international(address.encode()) is expected


def test_an_address_has_a_form_with_u_labels_where_it_has_a_labels() -> None:
    assert list(forms(b"joe@xn--e1afmkfd.xn--p1ai")) == [b"joe@xn--e1afmkfd.xn--p1ai", "joe@пример.рф".encode()]
    assert list(forms("дом@example.org".encode())) == ["дом@example.org".encode()]
    assert list(forms(b"joe")) == [b"joe"]


def test_what_is_typed_in_two_ways_is_one_mailbox() -> None:
    assert normalized("e\u0301@example.org".encode()) == "\u00e9@example.org".encode()
    assert normalized(b"Joe@example.org") == b"Joe@example.org"
