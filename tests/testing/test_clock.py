"""Virtual time: it jumps, it is one clock for all, and what is real holds it."""

import asyncio
import time

import pytest

from pluq import Plugin, hook
from pluq.testing.clock import advance, run, virtual_time
from pluq.testing.dns import FakeDns, Fault
from pluq.testing.plugins import make_plugin, plan_of
from pluq.testing.smtp_session import Talk

REAL = time.monotonic


class Slow(Plugin):
    """Wait for an hour at each recipient."""

    name = "slow"
    budget = 7200.0

    @hook
    async def smtp_rcpt(self):
        await asyncio.sleep(3600)


@virtual_time
async def test_an_hour_passes_at_once_and_on_every_clock():
    real, loop = REAL(), asyncio.get_running_loop()
    before = (loop.time(), time.monotonic(), time.time())
    await asyncio.sleep(3600)
    after = (loop.time(), time.monotonic(), time.time())
    assert [later - earlier for earlier, later in zip(before, after, strict=True)] == [pytest.approx(3600)] * 3
    assert REAL() - real < 60


@virtual_time
async def test_a_time_limit_ends_at_its_moment_and_timers_keep_their_order():
    seen = []
    loop = asyncio.get_running_loop()
    loop.call_later(20, seen.append, "second")
    loop.call_later(10, seen.append, "first")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(15):
            await asyncio.Event().wait()
    assert seen == ["first"]
    await advance(10)
    assert seen == ["first", "second"]


@virtual_time
async def test_a_slow_plugin_is_tested_without_waiting():
    talk = Talk(plan=plan_of(make_plugin(Slow)))
    talk.say("MAIL FROM:<a@b>")
    began = time.monotonic()
    assert await talk.ask("RCPT TO:<joe@example.org>") == "250 ok"
    assert time.monotonic() - began == pytest.approx(3600, abs=1)


@virtual_time
async def test_work_in_a_thread_holds_the_clock():
    began = time.monotonic()
    async with asyncio.timeout(5):
        assert await asyncio.to_thread(pow, 2, 3) == 8
        await asyncio.to_thread(REAL)
    assert time.monotonic() - began < 5


@virtual_time
async def test_a_real_server_is_waited_for():
    from pluq.dns import Resolver

    with FakeDns({"a.test": [("A", "192.0.2.1")]}) as server:
        resolver = Resolver([server.address])
        assert await resolver.a("a.test") == ("192.0.2.1",)
        await resolver.close()


@virtual_time
async def test_a_server_that_does_not_answer_costs_no_real_time():
    from pluq.dns import Resolver
    from pluq.errors import TemporaryFailure

    real, began = REAL(), time.monotonic()
    with FakeDns({"a.test": Fault.TIMEOUT}) as server:
        resolver = Resolver([server.address], timeout=60)
        with pytest.raises(TemporaryFailure):
            await resolver.a("a.test")
        await resolver.close()
    assert time.monotonic() - began >= 30
    assert REAL() - real < 20


def test_the_real_clocks_are_back_afterwards():
    async def fail():
        await asyncio.sleep(10_000)
        raise KeyError

    with pytest.raises(KeyError):
        run(fail())
    assert time.monotonic is REAL
    assert abs(time.monotonic() - REAL()) < 60


@pytest.fixture
def word():
    return "given"


@virtual_time
async def test_fixtures_are_given(word):
    assert word == "given"
