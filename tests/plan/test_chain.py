"""Chains: order, verdicts, failures, budgets, cancellation."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pluq.errors import ConfigError, TemporaryFailure
from pluq.hookspecs import PLUGIN_FAILED, Accept, AuthResult, Message, Recipient, Reject, Session, Transaction
from pluq.plan.chain import Collect, Decide, Each, First, Fold, Observe, Step, resumed


def step(function: Any, **changes: Any) -> Step:
    values: dict[str, Any] = {
        "plugin": function.__name__,
        "hook": "smtp_mail",
        "function": function,
        "parameters": tuple(function.__code__.co_varnames[: function.__code__.co_argcount]),
        "waits": asyncio.iscoroutinefunction(function),
        "budget": 5.0,
        "skip_errors": False,
        "shadow": False,
        "permissions": frozenset(),
    }
    return Step(**{**values, **changes})


class Log(list[str]):
    def __call__(self, line: str) -> None:
        self.append(line)


REFUSAL = Reject(550, "5.1.1", "no")


def abstain(session: Any) -> None:
    return None


def refuse(session: Any) -> Reject:
    return REFUSAL


async def refuse_later(session: Any) -> Reject:
    await asyncio.sleep(0)
    return REFUSAL


async def abstain_without_waiting(session: Any) -> None:
    return None


async def hang(session: Any) -> None:
    await asyncio.get_running_loop().create_future()


def raise_error(session: Any) -> None:
    raise RuntimeError("secret\r\ninside")


def must_not_run(session: Any) -> None:
    raise AssertionError("asked after a verdict")


async def test_an_async_plugin_that_says_none_does_not_hide_a_later_refusal() -> None:
    chain = Decide((step(abstain), step(abstain_without_waiting), step(refuse_later), step(must_not_run)), Log())
    assert await chain(session=None) == REFUSAL


async def test_accept_ends_the_chain() -> None:
    def accept(session: Any) -> Accept:
        return Accept()

    assert await Decide((step(accept), step(refuse)), Log())(session=None) == Accept()


async def test_a_plugin_that_raises_answers_temporary_and_is_logged_in_one_line() -> None:
    log = Log()
    assert await Decide((step(raise_error), step(must_not_run)), log)(session=None) is PLUGIN_FAILED
    assert log == ["plugin raise_error failed in smtp_mail: RuntimeError: secret??inside"]


async def test_on_error_skip_asks_the_next_plugin() -> None:
    log = Log()
    assert await Decide((step(raise_error, skip_errors=True), step(refuse)), log)(session=None) == REFUSAL
    assert log[0].endswith("(skipped)")


async def test_a_plugin_that_waits_too_long_answers_temporary() -> None:
    log = Log()
    assert await Decide((step(hang, budget=0.01),), log)(session=None) is PLUGIN_FAILED
    assert "took too long" in log[0]


async def test_a_plugin_that_swallows_the_cancellation_is_closed() -> None:
    async def stubborn(session: Any) -> None:
        while True:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                continue

    assert await Decide((step(stubborn, budget=0.01),), Log())(session=None) is PLUGIN_FAILED


async def test_cancelling_the_caller_is_not_a_failure_of_the_plugin() -> None:
    log = Log()
    task = asyncio.ensure_future(Decide((step(hang),), log)(session=None))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == []


async def test_the_budget_holds_when_the_chain_is_stepped_outside_a_task() -> None:
    """As the SMTP engine does: the first step runs in a callback, the rest in a task."""
    coroutine = Decide((step(hang, budget=0.01),), Log())(session=None)
    waiting = coroutine.send(None)

    async def rest() -> Any:
        return await resumed(coroutine, waiting)

    assert await asyncio.create_task(rest()) is PLUGIN_FAILED


async def test_a_shadowed_verdict_is_logged_and_not_given() -> None:
    log = Log()
    assert await Decide((step(refuse, shadow=True),), log)(session=None) is None
    assert "would have said" in log[0]


async def test_what_a_plugin_in_shadow_mode_changes_is_changed_for_nobody_and_its_notes_stay() -> None:
    def meddle(session: Session, transaction: Transaction, message: Message) -> None:
        session.environment["RELAYCLIENT"] = ""
        session.greeting = b"other"
        transaction.sender = b"other@example.net"
        transaction.recipients.clear()
        transaction.received_fields.append(b"X: y")
        transaction.results.append(AuthResult("x", "pass"))
        transaction.notes["meddle"] = "kept"
        message.prepend(b"X: y")
        message.replace_body(b"other")

    session, message = Session(), Message.from_bytes(b"A: b\n\nbody\n")
    transaction = Transaction(b"a@b.example", recipients=[Recipient(b"joe@example.org")])
    given: dict[str, Any] = {"session": session, "transaction": transaction, "message": message}
    assert await Decide((step(meddle, shadow=True),), Log())(**given) is None
    assert session == Session()
    assert transaction == Transaction(
        b"a@b.example", recipients=[Recipient(b"joe@example.org")], notes={"meddle": "kept"}
    )
    assert message.as_bytes() == b"A: b\n\nbody\n"


async def test_what_is_no_verdict_is_a_failure() -> None:
    def wrong(session: Any) -> str:
        return "550 no"

    assert await Decide((step(wrong),), Log())(session=None) is PLUGIN_FAILED


async def test_relaying_needs_the_permission() -> None:
    def relay(session: Any) -> Accept:
        return Accept(relay=True)

    assert await Decide((step(relay),), Log())(session=None) is PLUGIN_FAILED
    assert await Decide((step(relay, permissions=frozenset({"relay"})),), Log())(session=None) == Accept(relay=True)


async def test_every_verdict_is_told_with_the_plugin_that_gave_it() -> None:
    told: list[Any] = []
    await Decide((step(refuse),), Log(), told.append)(session=None)
    assert [(event["event"], event["plugin"], event["verdict"]) for event in told] == [("verdict", "refuse", REFUSAL)]


async def test_first_takes_the_first_answer_and_collect_takes_all() -> None:
    def nothing(session: Any) -> None:
        return None

    def one(session: Any) -> list[int]:
        return [1]

    def two(session: Any) -> list[int]:
        return [2]

    steps = (step(nothing), step(one), step(two))
    assert await First(steps, Log())(session=None) == [1]
    assert await Collect(steps, Log())(session=None) == [1, 2]


async def test_fold_hands_each_answer_to_the_next() -> None:
    def add(addresses: list[str]) -> list[str]:
        return [*addresses, "b"]

    def skip(addresses: list[str]) -> None:
        return None

    assert await Fold((step(add), step(skip), step(add)), Log(), None, ("addresses",))(addresses=["a"]) == [
        "a",
        "b",
        "b",
    ]


async def test_a_control_file_that_cannot_be_read_passes_as_such() -> None:
    def unreadable(session: Any) -> None:
        raise ConfigError("control/x", "Permission denied")

    for kind in (Decide, Each, Collect):
        with pytest.raises(ConfigError):
            await kind((step(unreadable),), Log())(session=None)


async def test_a_failure_outside_a_decision_is_a_temporary_failure() -> None:
    with pytest.raises(TemporaryFailure):
        await Each((step(raise_error),), Log())(session=None)
    with pytest.raises(TemporaryFailure):
        await Collect((step(raise_error),), Log())(session=None)


async def test_observers_never_fail_the_caller() -> None:
    log = Log()
    await Observe((step(raise_error), step(abstain)), log)(session=None)
    assert len(log) == 1
