"""Every listing of docs/writing-plugins.md works as it stands there."""

from __future__ import annotations

import asyncio
import inspect
import re
from email import message_from_bytes, policy
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from pluq import Delivery, Login, Reject, Route
from pluq.config import Home
from pluq.config.site import parse_site, read_site
from pluq.dns import Resolver
from pluq.plan.compile import compile_plan
from pluq.plan.load import load_class
from pluq.testing.conformance import PLAIN, REPLY_LINE, converse
from pluq.testing.dns import FakeDns
from pluq.testing.plugins import make_plugin, plan_of
from pluq.testing.smtp_session import Talk

PAGE = Path(__file__).parents[2] / "docs" / "writing-plugins.md"
LISTINGS = re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE.read_text(), re.DOTALL)
PLUGINS = {Path(name).stem: text for name, text in LISTINGS if name.startswith("plugins/")}
TESTS = [text for name, text in LISTINGS if name == "test"]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "control").mkdir()
    (tmp_path / "plugins").mkdir()
    for name, text in PLUGINS.items():
        (tmp_path / "plugins" / f"{name}.py").write_text(text)
    return Home(str(tmp_path))


def test_there_are_listings_to_run() -> None:
    assert len(PLUGINS) == 11
    assert len(TESTS) == 4


@pytest.mark.parametrize("name", PLUGINS)
async def test_each_plugin_works_from_the_sites_folder(name: str, home: Home) -> None:
    Path(home.control("pluq.toml")).write_text(f'[profile.mx]\nplugins = ["{name}"]\n')
    plan = compile_plan(home, read_site(home), "mx", log=lambda line: None)
    with FakeDns({"elsewhere.example": [("A", "192.0.2.1")]}) as server:
        resolver = Resolver([server.address])
        for plugin in plan.plugins:
            object.__setattr__(plugin.context, "resolver", lambda: resolver)
        for line in await converse(PLAIN, plan):
            assert REPLY_LINE.fullmatch(line), line
        await resolver.close()


@pytest.mark.parametrize("text", TESTS)
def test_each_test_of_the_page_passes(text: str, home: Home) -> None:
    names: dict[str, Any] = {}
    exec(text, names)
    classes = {cls.__name__: cls for cls in (load_class(name, home) for name in PLUGINS)}
    tests = {name: one for name, one in names.items() if name.startswith("test_")}
    assert tests
    for test in tests.values():
        wanted = inspect.signature(test).parameters
        result = test(**{name: classes[name] for name in wanted})
        if inspect.iscoroutine(result):
            asyncio.run(result)


async def test_the_domain_lookup_refuses_a_domain_without_records(home: Home) -> None:
    with FakeDns({"good.example": [("MX", (1, "mx.good.example"))]}) as server:
        resolver = Resolver([server.address])
        plugin = make_plugin(load_class("realdomain", home), resolver=lambda: resolver)
        talk = Talk(plan=plan_of(plugin))
        assert await talk.ask("MAIL FROM:<a@nowhere.example>") == "550 your domain has no mail server (#5.1.8)"
        assert await talk.ask("MAIL FROM:<a@good.example>") == "250 ok"
        await resolver.close()


def talk_with(home: Home, name: str, environment: dict[str, str] | None = None, **settings: Any) -> Talk:
    return Talk(plan=plan_of(make_plugin(load_class(name, home), **settings)), environment=environment)


async def send(talk: Talk, message: str) -> str:
    for line in ("MAIL FROM:<ann@example.org>", "RCPT TO:<joe@example.org>", "DATA"):
        await talk.ask(line)
    return await talk.ask(f"{message}\r\n.")


async def test_the_networks_are_refused(home: Home) -> None:
    refused = (ip_network("192.0.2.0/24"),)
    assert talk_with(home, "nets", refused=refused).said == b"554 not from your network (#5.7.1)\r\n"
    assert talk_with(home, "nets").said.startswith(b"220")


async def test_the_service_is_asked_for_mailboxes(home: Home) -> None:
    answers = {"joe@example.org": b"200", "nobody@example.org": b"404", "odd@example.org": b"500"}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = unquote((await reader.readline()).split()[1].decode())
        writer.write(b"HTTP/1.0 " + answers[path[1:]] + b" so\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    talk = talk_with(home, "mailboxes", port=server.sockets[0].getsockname()[1])
    await talk.ask("MAIL FROM:<a@b>")
    said = [await talk.ask(f"RCPT TO:<{address}>") for address in answers]
    server.close()
    said.append(await talk.ask("RCPT TO:<joe@example.org>"))
    assert [line[:3] for line in said] == ["250", "550", "451", "451"]


async def test_a_bad_word_is_put_aside_or_discarded(home: Home) -> None:
    talk = talk_with(home, "quarantine", words=("gr\u00fc\u00dfe",), mailbox="aside@example.org")
    await send(talk, "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\nhi")
    await send(talk, "Subject: hello\r\n\r\nhi")
    assert [one.recipients for one in talk.queue.messages] == [[b"aside@example.org"], [b"joe@example.org"]]
    assert b"X-Quarantined-For: joe@example.org\n" in talk.queue.messages[0].message
    talk = talk_with(home, "quarantine", words=("hello",))
    assert (await send(talk, "Subject: hello\r\n\r\nhi")).startswith("250 ok")
    assert not talk.queue.messages


async def test_the_text_stands_below_plain_and_mime_messages_of_our_own_users(home: Home) -> None:
    ours = {"RELAYCLIENT": ""}
    talk = talk_with(home, "disclaimer", ours, text="Confidential. \u00fc")
    await send(talk, "Subject: hi\r\n\r\nhello")
    mime = 'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="x"\r\n\r\n--x\r\n\r\nfirst\r\n--x\r\n\r\nsecond\r\n--x--'
    await send(talk, mime)
    for one, text in zip(talk.queue.messages, ("hello", "first"), strict=True):
        part = message_from_bytes(one.message, policy=policy.default).get_body(("plain",))
        assert part is not None and part.get_content().rstrip("\n") == f"{text}\n\n-- \nConfidential. \u00fc"
    talk = talk_with(home, "disclaimer", text="Confidential.")
    await send(talk, "Subject: hi\r\n\r\nhello")
    assert talk.queue.messages[0].text == b"Subject: hi\n\nhello\n"


async def test_relays_are_chosen_by_the_sender_as_the_page_configures_them(home: Home) -> None:
    toml = re.findall(r"```toml\n(\[remote\].*?)```", PAGE.read_text(), re.DOTALL)[0]
    site = parse_site("pluq.toml", toml.encode())
    plan = compile_plan(home, site, "remote", role="remote", log=print)
    ours, others = (Delivery("remote", 1, sender, [b"joe@example.net"]) for sender in (b"ann@Example.ORG", b"a@b"))
    assert plan.remote_route is not None and plan.remote_source is not None
    assert await plan.remote_route(delivery=ours) == Route(b"smarthost.example.net", 587)
    assert await plan.remote_source(delivery=ours, address="192.0.2.1") == ("192.0.2.25", None)
    assert await plan.remote_route(delivery=others) is None
    local = compile_plan(home, site, "local", role="local", log=print)
    assert local.local_deliver is not None
    assert await local.local_deliver(delivery=ours, instruction=b"./Maildir/", environment={}) is None
    refusal = await local.local_deliver(delivery=ours, instruction=b"|vacation", environment={})
    assert refusal == Reject(100, None, "no programs here")


async def test_the_verbs_answer_and_let_joe_in(home: Home) -> None:
    talk = talk_with(home, "xping")
    assert "XPING" in await talk.ask("EHLO client.example")
    assert await talk.ask("XPING") == "250 pong"
    assert await talk.ask("XLOGIN joe") == "334 password"
    assert await talk.ask("wrong") == "535 no (#5.7.8)"
    await talk.ask("XLOGIN joe")
    assert await talk.ask("secret") == "235 ok"
    assert talk.session.may_relay and talk.session.login == Login(b"joe", "XLOGIN")
