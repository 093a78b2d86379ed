"""Whatever name servers do, a message is answered in time, with few queries, and never refused for good because DNS was in trouble.

All plugins that look things up are on, over real DNS packets, and every name of the sender is in the hands of an attacker. Time is virtual.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pluq.dns import Budget, Resolver
from pluq.dns.resolver import MESSAGE_QUERIES, MESSAGE_SECONDS
from pluq.errors import TemporaryFailure
from pluq.hookspecs import Transaction
from pluq.plan.load import installed
from pluq.testing.clock import advance, virtual_time
from pluq.testing.dns import FakeDns, Fault
from pluq.testing.plugins import make_plugin, plan_of
from pluq.testing.smtp_session import Talk

SIGNATURE = (
    b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=evil.test; s=s%d; h=from; "
    b"bh=frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY=; b=AAAA\r\n"
)
ARC = (
    b"ARC-Seal: i=1; a=rsa-sha256; t=1; cv=none; d=evil.test; s=s1; b=AAAA\r\n"
    b"ARC-Message-Signature: i=1; a=rsa-sha256; c=relaxed/relaxed; d=evil.test; s=s2; t=1; h=from;\r\n"
    b" bh=frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY=; b=AAAA\r\n"
    b"ARC-Authentication-Results: i=1; evil.test; none\r\n"
)
MESSAGE = ARC + (
    b"".join(SIGNATURE % number for number in range(50))
    + b"From: a@evil.test\r\nSubject: x\r\n\r\nsee http://www.evil.test/x\r\n.\r\n"
)


def spf(text: str) -> list[tuple[str, Any]]:
    return [("TXT", f"v=spf1 {text}"), ("A", "192.0.2.9")]


MANY = [f"n{number}.evil.test" for number in range(200)]
ZONES: Mapping[str, Mapping[str, Any]] = {
    "nothing is answered": {"evil.test": Fault.TIMEOUT},
    "everything fails": {"evil.test": Fault.SERVFAIL},
    "everything is refused": {"evil.test": Fault.REFUSED},
    "garbage": {"evil.test": Fault.GARBAGE},
    "answers to other questions": {"evil.test": Fault.WRONG_QUESTION},
    "truncated, and no TCP": {"evil.test": Fault.TRUNCATED_NO_TCP},
    "lies come first": {"evil.test": [Fault.LIES_FIRST, *spf("-all")]},
    "includes in a circle": {
        "evil.test": spf("include:b.evil.test -all"),
        "b.evil.test": spf("include:evil.test -all"),
    },
    "a redirect to itself": {"evil.test": spf("redirect=evil.test")},
    "an alias of itself": {"evil.test": [("CNAME", "evil.test")]},
    "aliases in a circle": {"evil.test": [("CNAME", "b.evil.test")], "b.evil.test": [("CNAME", "evil.test")]},
    "ten exchangers for each of ten terms": {
        "evil.test": spf(" ".join(f"mx:m{number}.evil.test" for number in range(10)) + " -all"),
        **{
            f"m{number}.evil.test": [("MX", (1, f"m{number}x{other}.evil.test")) for other in range(10)]
            for number in range(10)
        },
        **{f"m{number}x{other}.evil.test": [("A", "192.0.2.9")] for number in range(10) for other in range(10)},
    },
    "two hundred includes": {
        "evil.test": spf(" ".join(f"include:{name}" for name in MANY)),
        **{name: spf("?all") for name in MANY},
    },
    "names that are all empty": {"evil.test": spf(" ".join(f"a:v{number}.evil.test" for number in range(20)))},
    "a record of 60 kilobytes": {"evil.test": [("TXT", ["v=spf1 " + "ip4:192.0.2.1 " * 4000 + "-all"])]},
    "two records": {"evil.test": [*spf("-all"), *spf("+all")]},
    "every include is slow": {
        "evil.test": spf(" ".join(f"include:{name}" for name in MANY[:9])),
        **dict.fromkeys(MANY[:9], Fault.TIMEOUT),
    },
    "pointers without end": {
        "evil.test": spf("ptr:evil.test -all"),
        "7.2.0.192.in-addr.arpa": [("PTR", name) for name in MANY],
        **{name: [("A", "192.0.2.8")] for name in MANY},
    },
}
# A domain whose own policy is broken may be refused for that; what is only out of reach may not.
OUT_OF_REACH = {
    "nothing is answered",
    "everything fails",
    "everything is refused",
    "garbage",
    "answers to other questions",
    "truncated, and no TCP",
    "every include is slow",
}


# Those that look something up for a message; `plugins` makes them all.
LOOKING = {"arc", "badmail", "dkim", "dmarc", "dnsbl", "rcptcheck", "spf", "surbl"}


def plugins(resolver: Resolver, behavior: int) -> list[Any]:
    return [
        plugin("badmail", resolver, mfcheck=1),
        plugin("rcptcheck", resolver),
        plugin("spf", resolver, behavior=behavior, helo=True),
        plugin("dnsbl", resolver, lists=("list.test",)),
        plugin("dkim", resolver, verify=True, max_signatures=50),
        plugin("arc", resolver),
        plugin("dmarc", resolver),
        started(plugin("surbl", resolver, zone="list.test")),
    ]


def started(one: Any) -> Any:
    one.start()
    return one


def plugin(name: str, resolver: Resolver, **settings: Any) -> Any:
    return make_plugin(installed()[name].load(), resolver=lambda: resolver, **settings)


def fallen(zone: Mapping[str, Any]) -> dict[str, Any]:
    """Return a zone in which the keys and lists are as the sender's domain is, if that is out of order."""
    fault = zone["evil.test"]
    everywhere = {} if not isinstance(fault, Fault) else fault
    names = [f"s{number}._domainkey.evil.test" for number in range(50)] + ["7.2.0.192.list.test", "_dmarc.evil.test"]
    return {**zone, **(dict.fromkeys(names, everywhere) if everywhere else {})}


async def send(talk: Talk) -> list[str]:
    """Send the message; return the replies from MAIL on."""
    lines = ("EHLO evil.test", "MAIL FROM:<a@evil.test>", "RCPT TO:<joe@example.org>", "DATA")
    replies = [await talk.ask(line) for line in lines][1:]
    if replies[-1].startswith("354"):
        talk.send(MESSAGE)
        await talk.settled()
        replies.append(talk.said.decode().splitlines()[-1])
    return replies


@pytest.mark.parametrize("behavior", [1, 3])
@pytest.mark.parametrize("name", ZONES)
@virtual_time
async def test_a_message_is_answered_in_time_with_few_queries(name: str, behavior: int) -> None:
    with FakeDns(fallen(ZONES[name])) as server:
        resolver = Resolver([server.address, server.address, server.address])
        plan = plan_of(*plugins(resolver, behavior))
        talk = Talk(plan=plan, remote_ip="192.0.2.7")
        began = time.monotonic()
        replies = await send(talk)
        took = time.monotonic() - began
        asked = len(server.queries)
        await resolver.close()
    assert took <= MESSAGE_SECONDS + 1, replies
    assert asked <= MESSAGE_QUERIES
    if name in OUT_OF_REACH:
        assert not any(reply.startswith(("550", "553", "554")) for reply in replies), replies
        assert replies[0].startswith("451") or behavior == 1


@virtual_time(patience=2.0)
async def test_a_sender_cannot_use_up_what_the_block_list_needs() -> None:
    zone = {
        **ZONES["ten exchangers for each of ten terms"],
        "7.2.0.192.list.test": [("A", "127.0.0.2"), ("TXT", "spam")],
    }
    with FakeDns(zone) as server:
        resolver = Resolver([server.address])
        plan = plan_of(plugin("spf", resolver, behavior=1), plugin("dnsbl", resolver, lists=("list.test",)))
        replies = await send(Talk(plan=plan, remote_ip="192.0.2.7"))
        await resolver.close()
    assert replies[1].startswith(("451 spam", "553 spam"))


@virtual_time
async def test_only_time_that_is_waited_counts_and_once_for_all_who_wait() -> None:
    budget = Transaction(b"").dns_budget
    await advance(3600)
    assert budget.left == pytest.approx(MESSAGE_SECONDS)
    part = budget.part(10, 5.0)
    with part.waiting() as left, budget.waiting():
        assert left == pytest.approx(5.0)
        await advance(4)
        assert part.left == pytest.approx(1.0)
    assert budget.left == pytest.approx(MESSAGE_SECONDS - 4)
    with part.waiting():
        await advance(2)
    with pytest.raises(TemporaryFailure):
        part.spend()
    budget.spend()


def test_a_part_is_bounded_by_the_whole() -> None:
    budget = Budget(3, 10.0)
    part = budget.part(2, 20.0)
    assert part.left == pytest.approx(10.0)
    part.spend()
    budget.spend()
    part.spend()
    for one in (part, budget):
        with pytest.raises(TemporaryFailure):
            one.spend()
    with contextlib.suppress(TemporaryFailure):
        part.spend()
    assert budget.queries < 0


def test_every_plugin_that_looks_something_up_for_a_message_is_here() -> None:
    assert {one.name for one in plugins(Resolver([]), 3)} == LOOKING
    found = set()
    for name, entry in installed().items():
        folder = Path(sys.modules[entry.load().__module__].__file__ or "").parent
        asks = any("dns_budget" in path.read_text() for path in folder.glob("*.py"))
        if entry.value.startswith("pluq_") and asks:
            found.add(name)
    assert found == LOOKING
