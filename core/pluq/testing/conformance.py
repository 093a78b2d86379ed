"""What every plugin must hold, whatever it does. A plugin's tests get it by one class:

    class TestConformance(Conformance):
        plugin = MaxRcpt

It is driven without sockets: sessions good and bad, in shadow mode and in force, cut at every wait, a thousand times over.
Settings other than the defaults go into `settings`; a plugin that needs more overrides `make`.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Sequence
from typing import Any, ClassVar

from pluq.config.settings import declarations
from pluq.hookspecs import Plugin, hook
from pluq.plan import EMPTY, Plan
from pluq.plan.load import check_class
from pluq.testing.plugins import make_plugin, plan_of
from pluq.testing.smtp_session import Talk, blur
from pluq.testing.waits import refused_waits

MESSAGE = b"Subject: hi\r\n\r\nhello\r\n.\r\n"
HOSTILE = b'\xff\x01 <>"%{}$()`;' * 12

# A whole message, one after RSET, and commands in the wrong order.
PLAIN: Sequence[bytes] = (
    b"EHLO client.example\r\n",
    b"MAIL FROM:<ann@elsewhere.example>\r\n",
    b"RCPT TO:<joe@example.org>\r\n",
    b"RSET\r\n",
    b"RCPT TO:<joe@example.org>\r\n",
    b"HELO client.example\r\n",
    b"MAIL FROM:<>\r\n",
    b"RCPT TO:<nobody@foreign.example>\r\n",
    b"RCPT TO:<joe@example.org>\r\n",
    b"DATA\r\n",
    MESSAGE,
    b"NOOP\r\n",
    b"QUIT\r\n",
)
NASTY: Sequence[bytes] = (
    b"EHLO " + HOSTILE + b"\r\n",
    b"MAIL FROM:<" + HOSTILE + b"@elsewhere.example> X=" + HOSTILE + b"\r\n",
    b'RCPT TO:<"a\\ b"@example.org>\r\n',
    b"RCPT TO:<" + HOSTILE + b"@example.org>\r\n",
    b"DATA\r\n",
    b"From: " + HOSTILE + b"\r\nno field\r\n" + HOSTILE + b"\r\n.\r\n",
    b"QUIT\r\n",
)
REPLY_LINE = re.compile(r"[2-5][0-9]{2}[ -][ -~\x80-\U0010ffff]*")


class Resetter(Plugin[Any]):
    """A verb that makes the session forget what TLS would make it forget."""

    name = "resetter"

    @hook
    def smtp_verbs(self) -> dict[bytes, Any]:
        return {b"XRESET": self.reset}

    async def reset(self, session: Any, argument: bytes, connection: Any) -> bytes:
        await connection.reset()
        return b"250 ok\r\n"


class Conformance:
    """The tests. `plugin` is the class, `settings` what it is made with."""

    plugin: ClassVar[type[Plugin[Any]]]
    settings: ClassVar[dict[str, Any]] = {}

    def make(self) -> Plugin[Any]:
        return make_plugin(self.plugin, **self.settings)

    async def started(self, *others: Plugin[Any], mode: str = "enforce") -> Plan:
        plan = plan_of(self.make(), *others, mode=mode)
        if plan.start is not None:
            await plan.start()
        return plan

    def test_the_class_can_be_loaded_and_says_what_it_is(self) -> None:
        check_class(self.plugin.name, self.plugin)
        assert (self.plugin.__doc__ or "").strip(), "the class has no docstring; `pluq plugins` shows its first line"
        for one in declarations(self.plugin.settings_class):
            assert one.help.endswith("."), f"the help of the setting {one.name} is no sentence: {one.help!r}"

    async def test_in_shadow_mode_nobody_can_tell_that_it_is_there(self) -> None:
        shadow, without = Talk(plan=await self.started(mode="shadow")), Talk(plan=EMPTY)
        assert await carry_on(PLAIN, shadow) == await carry_on(PLAIN, without)
        assert queued(shadow) == queued(without)

    async def test_every_reply_is_well_formed_whatever_the_client_says(self) -> None:
        for script in (PLAIN, NASTY):
            for line in await converse(script, await self.started()):
                assert REPLY_LINE.fullmatch(line), line

    async def test_nothing_waits_where_all_sessions_would_wait_with_it(self) -> None:
        plan = await self.started()
        with refused_waits() as refused:
            await converse(PLAIN, plan)
        assert not refused, (
            f"{self.plugin.name} would hold up all sessions: use async, or asyncio.to_thread\n{refused[0]}"
        )

    async def test_a_client_that_hangs_up_at_any_wait_leaves_nothing_behind(self) -> None:
        for cut in range(len(PLAIN)):
            talk = Talk(plan=await self.started())
            for step in PLAIN[:cut]:
                talk.send(step)
            if talk.driver.step is not None:
                talk.driver.step.cancel()
            talk.hang_up()
            await talk.settled()
            assert talk.is_closed

    async def test_what_tls_makes_forgotten_is_forgotten(self) -> None:
        plan = await self.started(Resetter())
        fresh = await converse(PLAIN, plan)
        talk = Talk(plan=plan)
        for step in (*PLAIN[:3], b"XRESET\r\n"):
            talk.send(step)
            await talk.settled()
        talk.read()
        for step in PLAIN:
            talk.send(step)
            await talk.settled()
        again = lines_of(talk)
        assert again[-len(fresh) + 1 :] == fresh[1:]

    async def test_a_thousand_sessions_leave_no_objects(self) -> None:
        plan = await self.started()
        for _ in range(20):
            await converse(PLAIN, plan)
        gc.collect()
        before = len(gc.get_objects())
        for _ in range(1000):
            await converse(PLAIN[:9], plan)
        gc.collect()
        assert len(gc.get_objects()) - before < 1000


async def converse(script: Sequence[bytes], plan: Plan) -> list[str]:
    """Return the reply lines of a session, numbers of the moment blurred."""
    return await carry_on(script, Talk(plan=plan))


async def carry_on(script: Sequence[bytes], talk: Talk) -> list[str]:
    await talk.settled()
    for step in script:
        talk.send(step)
        await talk.settled()
    return lines_of(talk)


def queued(talk: Talk) -> list[tuple[bytes, list[bytes], bytes]]:
    """Return what was queued, without our own Received field."""
    return [(one.sender, one.recipients, one.text) for one in talk.queue.messages]


def lines_of(talk: Talk) -> list[str]:
    return [blur(line) for line in talk.said.decode("utf-8", "replace").split("\r\n")[:-1]]
