"""Verdicts and failures of plugins as events, calls and their time as figures."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pluq import log
from pluq.hookspecs import Defer, Delivery, Disconnect, Later, Phase, Recipient, Reject, Session, Transaction
from pluq.log.objects import COMMON_FIELDS, FIELDS
from pluq.metrics import Page, adopt
from pluq.metrics.page import PAGE_BYTES, read
from pluq.plan.chain import Decide, Observe, Step
from pluq.plan.heed import Heed


@pytest.fixture
def told(capfd: pytest.CaptureFixture[str]) -> Any:
    """What was written to standard error, as objects."""
    log.use("json")
    yield lambda: [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    log.use("qmail")


@pytest.fixture
def figures() -> Any:
    whole = bytearray(PAGE_BYTES)
    adopt(Page(whole))
    yield lambda name: {tuple(labels.values()): value for one, labels, value in read(memoryview(whole)) if one == name}
    adopt(None)


def step(function: Any, **changes: Any) -> Step:
    given = {"budget": 5.0, "skip_errors": False, "shadow": False, "permissions": frozenset(), **changes}
    return Step("guard", "smtp_rcpt", function, ("session",), changes.get("waits", False), **without(given, "waits"))


def without(values: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}


GIVEN = {
    "session": Session(remote_ip="192.0.2.7"),
    "transaction": Transaction(b"ann@example.net"),
    "recipient": Recipient(b"joe@example.org"),
}


async def ask(function: Any, kind: Any = Decide, **changes: Any) -> Any:
    heed = Heed.of("smtpd", "mx")
    assert heed is not None
    return await kind((heed.timed(step(function, **changes)),), lambda line: None, heed.notice)(**GIVEN)


def test_nobody_listens_unless_the_site_wants_it() -> None:
    assert Heed.of("smtpd", "mx") is None


async def test_a_verdict_is_an_event_with_whom_it_was_about(told: Any) -> None:
    await ask(lambda session: Reject(550, "5.7.1", "go away\r\n"))
    (event,) = told()
    assert tuple(event) == (*COMMON_FIELDS, *FIELDS["verdict"])
    assert {key: event[key] for key in ("event", "role", "profile", "plugin", "hook")} == {
        "event": "verdict",
        "role": "smtpd",
        "profile": "mx",
        "plugin": "guard",
        "hook": "smtp_rcpt",
    }
    assert (event["verdict"], event["code"], event["enhanced"], event["shadow"]) == ("reject", 550, "5.7.1", False)
    assert (event["client_ip"], event["sender"], event["recipient"]) == (
        "192.0.2.7",
        "ann@example.net",
        "joe@example.org",
    )


@pytest.mark.parametrize(
    ("verdict", "name", "code"),
    [
        (Defer(text="later"), "defer", 451),
        (Disconnect(Reject(554, None, "bye")), "disconnect", 554),
        (Disconnect(), "disconnect", None),
        (Later(Phase.RCPT, Reject(550, None, "no")), "later", 550),
    ],
)
async def test_each_kind_of_verdict_has_its_word(told: Any, verdict: Any, name: str, code: int | None) -> None:
    await ask(lambda session: verdict)
    (event,) = told()
    assert (event["verdict"], event["code"]) == (name, code)


async def test_a_failure_is_an_event_of_any_kind_of_hook(told: Any) -> None:
    def fail(session: Session) -> None:
        raise RuntimeError("broken")

    await ask(fail)
    await ask(fail, kind=Observe)
    events = told()
    assert [tuple(event) for event in events] == [(*COMMON_FIELDS, *FIELDS["plugin_error"])] * 2
    assert {event["error"] for event in events} == {"RuntimeError: broken"}


async def test_calls_time_and_verdicts_are_counted(figures: Any) -> None:
    async def slow(session: Session) -> Defer:
        return Defer()

    await ask(lambda session: Reject())
    await ask(slow, waits=True)
    await ask(lambda session: Reject(), shadow=True)
    labels = ("smtpd", "mx", "guard", "smtp_rcpt")
    assert figures("pluq_plugin_calls_total") == {labels: 3}
    assert figures("pluq_plugin_seconds_total")[labels] > 0
    assert figures("pluq_plugin_verdicts_total") == {
        (*labels, "reject"): 1,
        (*labels, "defer"): 1,
        (*labels, "shadow-reject"): 1,
    }


async def test_a_failure_is_counted(figures: Any) -> None:
    await ask(lambda session: 1 / 0, skip_errors=True)
    assert figures("pluq_plugin_failures_total") == {("smtpd", "mx", "guard", "smtp_rcpt"): 1}


async def test_a_delivery_is_told_by_its_sender_and_recipients(told: Any) -> None:
    heed = Heed.of("remote", "remote")
    assert heed is not None
    delivery = Delivery("remote", 42, b"ann@example.net", [b"a@x", b"b@x"])
    chain = Decide((Step("guard", "remote_policy", lambda: Defer(), (), False, 5.0, False, False, frozenset()),), print)
    chain.notify = heed.notice
    await chain(delivery=delivery)
    (event,) = told()
    assert (event["role"], event["sender"], event["recipient"]) == ("remote", "ann@example.net", "a@x b@x")
