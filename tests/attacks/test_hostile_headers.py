"""Headers made to be long, deep or odd: the plugins that read them take time in proportion, and nothing hides in them."""

from __future__ import annotations

import time
from typing import Any

import pytest

from pluq.dns import Resolver
from pluq.plan.load import installed
from pluq.testing.plugins import make_plugin, plan_of
from pluq.testing.smtp_session import Talk

FROM = b"From: a@b.example\r\n"
FORGED = b"Authentication-Results: mx.example.org; dkim=pass header.d=bank.example\r\n"
READERS = ("spf", "dkim", "arc", "dmarc")
# A machine may be slow; what takes time with the square of the length takes hours.
SECONDS = 20.0
LONG = {
    "a million lines": FROM + b"a: b\r\n" * 1_000_000,
    "one field of 20 MB": FROM + b"X: " + (b"a" * 990 + b"\r\n ") * 20_000 + b"\r\n",
    "half a million parentheses before the author": b"From: " + b"(" * 500_000 + b"a@b.example\r\n",
    "a hundred thousand authors": b"From: " + b",".join([b"a@b.example"] * 80_000) + b"\r\n",
    "deep comments in a result": FROM + b"Authentication-Results: " + b"(" * 300_000 + b")" * 300_000 + b" x; y=z\r\n",
    "a signature of a million tags": b"DKIM-Signature: " + b"a=b;" * 200_000 + b"\r\n" + FROM,
    "a seal of a million tags": b"ARC-Seal: i=1;" + b"a=b;" * 200_000 + b"\r\n" + FROM,
    "lines that are no fields": b"no field\r\n" * 90_000 + FROM,
    "quotes that do not end": b"From: " + b'"\\' * 300_000 + b"\r\n",
    "encoded words": b"From: " + b"=?utf-8?q?=40?= " * 50_000 + b"<a@b.example>\r\n",
}


async def send(header: bytes, *names: str, **settings: Any) -> Talk:
    """Send a message with this header through plugins; name servers do not answer."""
    resolver = Resolver([("127.0.0.1", 9)], timeout=0.05, attempts=1)
    chosen = [make_plugin(installed()[name].load(), resolver=lambda: resolver, **settings) for name in names]
    plan = plan_of(*chosen)
    if plan.start is not None:
        await plan.start()
    talk = Talk(plan=plan)
    for line in ("EHLO a.example", "MAIL FROM:<a@b.example>", "RCPT TO:<joe@example.org>", "DATA"):
        await talk.ask(line)
    data = header + b"\r\nbody\r\n.\r\n"
    for start in range(0, len(data), 65536):
        talk.send(data[start : start + 65536])
    await talk.settled()
    await resolver.close()
    return talk


@pytest.mark.parametrize("name", LONG)
async def test_long_headers_take_time_in_proportion(name: str) -> None:
    began = time.process_time()
    talk = await send(LONG[name], *READERS)
    assert time.process_time() - began < SECONDS
    assert talk.said.split(b"\r\n")[-2][:3] in (b"250", b"552", b"451", b"554", b"550")


@pytest.mark.parametrize(
    "header",
    [
        FROM + b"no field\r\n" + FORGED,
        b"no field\r\n" + FORGED + FROM,
        b" folded from nothing\r\n" + FORGED + FROM,
        b": no name\r\n" + FORGED + FROM,
        FROM + FORGED.replace(b": ", b" \t: "),
        FROM + b"X: y\r\n" + FORGED.upper(),
        FROM + FORGED.replace(b": ", b":\r\n\t"),
    ],
)
async def test_a_result_in_our_name_cannot_hide_behind_a_line_that_is_no_field(header: bytes) -> None:
    (message,) = (await send(header, "dkim")).queue.messages
    assert b"bank.example" not in message.message.lower()
    assert b"From: a@b.example\n" in message.message


async def test_a_result_in_our_name_cannot_hide_behind_a_megabyte_of_header() -> None:
    padding = (b"X: " + b"a" * 900 + b"\r\n") * 1300
    talk = await send(FROM + padding + FORGED, "dkim")
    assert talk.said.endswith(b"552 sorry, that message has a header that is too long (#5.3.4)\r\n")
    assert not talk.queue.messages


async def test_a_long_header_is_nobodys_business_where_nothing_is_verified() -> None:
    assert (await send(FROM + b"X: y\r\n" * 250_000, "size")).queue.messages


async def test_lines_that_are_no_fields_stay_where_they_are() -> None:
    (message,) = (await send(FROM + b"no field\r\n" + FORGED + b">From x\r\nSubject: y\r\n", "dkim")).queue.messages
    assert message.message.endswith(b"From: a@b.example\nno field\n>From x\nSubject: y\n\nbody\n")
