"""taps: which message is copied to whom, and where the copy stands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq import Envelope
from pluq.errors import ConfigError
from pluq.testing.conformance import Conformance
from pluq.testing.plugins import make_plugin, plan_of
from pluq_taps import Taps, parse


def tapped(*lines: str, sender: bytes = b"joe@src.example", extra: tuple[str, ...] = ()) -> list[bytes]:
    chain = plan_of(make_plugin(Taps, role="queue", taps=lines, extra=extra)).queue_envelope
    assert chain is not None
    envelope = Envelope(sender, [b"ann@dst.example", b"bob@other.example"])
    chain(envelope=envelope)
    assert envelope.sender == sender
    return envelope.recipients


ANN, BOB = b"ann@dst.example", b"bob@other.example"


@pytest.mark.parametrize(
    ("line", "recipients"),
    [
        ("A:joe@:tap@x", [b"tap@x", ANN, BOB]),
        ("F:joe@:tap@x", [b"tap@x", ANN, BOB]),
        ("T:joe@:tap@x", [ANN, BOB]),
        ("F:ann@:tap@x", [ANN, BOB]),
        ("A:ann@:tap@x", [ANN, b"tap@x", BOB]),
        ("T:BOB:tap@x", [ANN, BOB, b"tap@x"]),
        ("bob@:tap@x", [ANN, BOB, b"tap@x"]),
        (r"T:^(ann|x)@.*\.example$:tap@x", [ANN, b"tap@x", BOB]),
        (r"F:!@src\.example:tap@x", [ANN, BOB]),
        ("T:!ann:tap@x", [ANN, BOB, b"tap@x"]),
        ("T:[[:alpha:]]:tap@x", [ANN, b"tap@x", BOB]),
        ("A:a:b:tap@x", [ANN, BOB]),
        ("T::tap@x", [ANN, b"tap@x", BOB]),
        ("T :bob:tap@x", [ANN, BOB, b"tap@x"]),
        (".:tap@x", [b"tap@x", ANN, BOB]),
    ],
)
def test_a_line_copies_what_it_fits(line: str, recipients: list[bytes]) -> None:
    assert tapped(line) == recipients


def test_the_first_address_decides_and_there_is_one_copy() -> None:
    assert tapped("T:bob:one@x", "T:ann:two@x") == [ANN, b"two@x", BOB]
    assert tapped("T:example:one@x", "A:example:two@x") == [b"two@x", ANN, BOB]


def test_an_address_that_a_line_without_a_copy_fits_is_exempt_from_later_lines() -> None:
    assert tapped("T:ann@:", "A:.:tap@x") == [b"tap@x", ANN, BOB]
    assert tapped("F:joe@:", "A:.:tap@x") == [ANN, BOB]


def test_an_empty_sender_is_an_address_too() -> None:
    assert tapped("A:^$:tap@x", sender=b"") == [b"tap@x", ANN, BOB]


def test_extra_addresses_get_everything() -> None:
    assert tapped(extra=("log@x", "more@x")) == [b"log@x", b"more@x", ANN, BOB]
    assert tapped("F:joe:tap@x", extra=("log@x",)) == [b"log@x", b"tap@x", ANN, BOB]


@pytest.mark.parametrize("line", ["nothing", ":tap@x", "A:joe", "A", "joe@:", "a:joe@:tap@x", "A:jo(e:tap@x"])
def test_a_line_that_is_no_rule_stops_the_queue(line: str) -> None:
    plugin = make_plugin(Taps, role="queue", taps=(line,))
    assert len(plugin.check()) == 1
    with pytest.raises(ConfigError, match="control/taps"):
        plugin.start()


@given(line=st.binary(max_size=200))
def test_any_line_is_a_rule_or_a_fault(line: bytes) -> None:
    try:
        parse(line).fits(b"F", b"joe@src.example")
    except ValueError as error:
        assert "\n" not in str(error) or b"\n" in line


class TestConformance(Conformance):
    plugin = Taps
