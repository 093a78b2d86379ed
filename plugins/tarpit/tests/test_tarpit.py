"""tarpit: who waits, how long, and who is turned away."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pluq import Recipient, Session, Transaction
from pluq.testing.conformance import Conformance
from pluq.testing.plugins import make_plugin
from pluq_tarpit import EARLY_TALKER, LONGEST_DELAY, Tarpit

QUIET = SimpleNamespace(has_input=False)
EARLY = SimpleNamespace(has_input=True)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seconds that the plugin would have waited."""
    seconds: list[int] = []

    async def sleep(delay: int) -> None:
        seconds.append(delay)

    monkeypatch.setattr("pluq_tarpit.asyncio.sleep", sleep)
    return seconds


CONNECTS: list[tuple[dict[str, str], Any, list[int], Any]] = [
    ({}, EARLY, [], None),
    ({"SMTPD_GREETDELAY": "3"}, QUIET, [3], None),
    ({"SMTPD_GREETDELAY": "3"}, EARLY, [3], None),
    ({"SMTPD_GREETDELAY": "3", "DROP_PRE_GREET": "1"}, EARLY, [3], EARLY_TALKER),
    ({"SMTPD_GREETDELAY": "3", "DROP_PRE_GREET": "1"}, QUIET, [3], None),
    ({"SMTPD_GREETDELAY": "-3"}, EARLY, [3], EARLY_TALKER),
    ({"SMTPD_GREETDELAY": "-3"}, QUIET, [3], None),
    ({"DROP_PRE_GREET": "1"}, EARLY, [], None),
    ({"SMTPD_GREETDELAY": "3", "DROP_PRE_GREET": "1", "RELAYCLIENT": ""}, EARLY, [], None),
    ({"SMTPD_GREETDELAY": "99999"}, QUIET, [LONGEST_DELAY], None),
]


@pytest.mark.parametrize(("environment", "connection", "seconds", "verdict"), CONNECTS)
async def test_the_greeting(
    environment: dict[str, str], connection: Any, seconds: list[int], verdict: Any, slept: list[int]
) -> None:
    assert await make_plugin(Tarpit).smtp_connect(Session(environment=environment), connection) == verdict
    assert slept == seconds


async def test_each_recipient_beyond_the_count_costs_a_delay_over_the_whole_connection(slept: list[int]) -> None:
    plugin, session = make_plugin(Tarpit, count=2, delay=7), Session()
    for _ in range(2):
        transaction = Transaction(b"s@x")
        for _ in range(2):
            await plugin.smtp_rcpt(session, transaction, Recipient(b"r@x"))
    assert slept == [7, 7]


class TestConformance(Conformance):
    plugin = Tarpit
