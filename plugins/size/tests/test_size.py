"""size: what is announced, what is refused, what is declared to others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pluq import Delivery, Message, Session, Transaction
from pluq.testing.conformance import Conformance
from pluq.testing.plugins import make_plugin
from pluq_size import TOO_BIG, Size


def session(**environment: str) -> Session:
    return Session(environment=environment)


def mail(**parameters: bytes) -> Transaction:
    return Transaction(b"a@b", {name.encode(): value for name, value in parameters.items()})


@pytest.mark.parametrize(
    ("databytes", "environment", "announced"),
    [
        (0, {}, b"SIZE 0"),
        (100, {}, b"SIZE 100"),
        (100, {"DATABYTES": "77"}, b"SIZE 77"),
        (100, {"DATABYTES": "x"}, b"SIZE 0"),
    ],
)
def test_the_limit_is_announced_and_the_environment_wins(
    databytes: int, environment: dict[str, str], announced: bytes
) -> None:
    plugin = make_plugin(Size, databytes=databytes)
    assert plugin.smtp_capabilities(session(**environment)) == [announced]


@pytest.mark.parametrize(
    ("declared", "refused"),
    [(b"100", False), (b"101", True), (b"", False), (b"abc", False), (b"99999999999999999999", True)],
)
def test_a_declared_size_above_the_limit_is_refused_at_mail(declared: bytes, refused: bool) -> None:
    plugin = make_plugin(Size, databytes=100)
    assert (plugin.smtp_mail(session(), mail(SIZE=declared)) == TOO_BIG) is refused


def test_without_a_limit_every_size_is_taken() -> None:
    assert make_plugin(Size).smtp_mail(session(), mail(SIZE=b"999999999")) is None


def test_a_limit_from_pluq_toml_reaches_the_core_as_databytes() -> None:
    one = session()
    make_plugin(Size, databytes=100).smtp_connect(one)
    assert one.environment == {"DATABYTES": "100"}


def test_a_host_that_announces_size_is_told_the_size_on_the_wire() -> None:
    delivery = Delivery("remote", 1, b"a@b", [b"c@d"], message=Message.from_bytes(b"A: 1\n\nx\n"))

    def told(*capabilities: bytes) -> Any:
        return make_plugin(Size).remote_params(delivery, SimpleNamespace(capabilities=dict.fromkeys(capabilities)))

    assert told(b"SIZE", b"PIPELINING") == [b"SIZE=11"]
    assert told(b"PIPELINING") == []


class TestConformance(Conformance):
    plugin = Size
