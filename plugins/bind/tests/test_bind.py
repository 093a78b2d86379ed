"""bind: which local address, which name, and what a wrong setting does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq import Delivery, Disconnect
from pluq.testing.conformance import Conformance
from pluq.testing.plugins import make_plugin
from pluq_bind import Bind, sender_keys

Lines = tuple[str, ...]


def source(remote: str, sender: bytes = b"joe@src.example", **settings: str | Lines) -> tuple[str, bytes | None] | None:
    plugin = make_plugin(Bind, role="remote", **settings)
    delivery = Delivery("remote", 1, sender, [b"a@b"])
    assert plugin.remote_policy(delivery, b"b", remote) is None
    return plugin.remote_source(delivery, remote)


@pytest.mark.parametrize(
    ("outgoing", "remote", "local"),
    [
        ({}, "192.0.2.1", None),
        ({"outgoingip": "127.0.0.7"}, "192.0.2.1", "127.0.0.7"),
        ({"outgoingip": "0.0.0.0"}, "192.0.2.1", None),
        ({"outgoingip": "127.0.0.7"}, "2001:db8::1", None),
        ({"outgoingip6": "2001:db8::7"}, "2001:db8::1", "2001:db8::7"),
        ({"outgoingip": "127.0.0.7", "outgoingip6": "2001:db8::7"}, "192.0.2.1", "127.0.0.7"),
        ({"outgoingip": "[2001:db8::7]"}, "2001:db8::1", "2001:db8::7"),
    ],
)
def test_the_address_for_everything(outgoing: dict[str, str], remote: str, local: str | None) -> None:
    assert source(remote, **outgoing) == (None if local is None else (local, None))


@pytest.mark.parametrize(
    ("sender", "local"),
    [
        (b"joe@src.example", "127.0.0.1"),
        (b"JOE@SRC.example", "127.0.0.1"),
        (b"ann@src.example", "127.0.0.2"),
        (b"ann@deep.sub.src.example", "127.0.0.3"),
        (b"", "127.0.0.4"),
        (b"x@other.example", "127.0.0.4"),
        (b"\xff@\xff", "127.0.0.4"),
    ],
)
def test_the_most_special_line_for_a_sender_counts(sender: bytes, local: str) -> None:
    lines = (":127.0.0.4", ".src.example:127.0.0.3", "src.example:127.0.0.2", "joe@src.example:127.0.0.1")
    assert source("192.0.2.1", sender, domainbindings=lines, outgoingip="127.0.0.9") == (local, None)


def test_routes_count_before_senders_and_the_longest_prefix_first() -> None:
    settings: dict[str, Lines] = {
        "bindroutes": ("192.:127.0.0.1", "192.0.2.:127.0.0.2", "[2001:db8:]:[2001:db8::7]"),
        "domainbindings": (":127.0.0.4",),
    }
    assert source("192.0.2.1", **settings) == ("127.0.0.2", None)
    assert source("192.1.2.1", **settings) == ("127.0.0.1", None)
    assert source("198.51.100.1", **settings) == ("127.0.0.4", None)
    assert source("2001:db8::1", **settings) == ("2001:db8::7", None)


def test_an_address_has_its_name() -> None:
    names = ("127.0.0.7:mail.example.org", "[2001:db8::7]:six.example.org")
    assert source("192.0.2.1", outgoingip="127.0.0.7", helohostbyip=names) == ("127.0.0.7", b"mail.example.org")
    assert source("2001:db8::1", outgoingip6="2001:db8::7", helohostbyip=names) == ("2001:db8::7", b"six.example.org")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("outgoingip", ""),
        ("outgoingip", "not-an-ip"),
        ("outgoingip", "127.0.0.300"),
        ("bindroutes", ("192.0.2.",)),
        ("bindroutes", ("192.0.2.:x",)),
        ("domainbindings", ("src.example",)),
        ("helohostbyip", ("127.0.0.1:",)),
        ("helohostbyip", ("x:y",)),
    ],
)
def test_a_wrong_setting_stops_deliveries_for_now(name: str, value: str | Lines) -> None:
    plugin = make_plugin(Bind, role="remote", **{name: value})
    verdict = plugin.remote_policy(Delivery("remote", 1, b"", [b"a@b"]), b"b", "192.0.2.1")
    assert isinstance(verdict, Disconnect) and verdict.reply is not None
    assert verdict.reply.text == f"invalid ipaddr in control/{name}"
    assert len(plugin.check()) == 1


@given(sender=st.text(max_size=100))
def test_any_sender_ends_with_the_line_for_all(sender: str) -> None:
    assert list(sender_keys(sender))[-1] == ""


class TestConformance(Conformance):
    plugin = Bind
