"""chkuser: its checks, its words, and what switches them off."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq.config import Home
from pluq.dns import Resolver
from pluq.smtpd.policy import read_rcpthosts
from pluq.store.cdb import write_cdb
from pluq.store.users import compile_assign
from pluq.testing.clock import virtual_time
from pluq.testing.dns import FakeDns, Fault
from pluq.testing.plugins import make_plugin, plan_of
from pluq.testing.smtp_session import Talk, default_policy
from pluq_rcptcheck import RcptCheck
from pluq_rcptcheck.chkuser import is_well_formed, number

ON = {"CHKUSER_START": "ALWAYS"}
ZONE = {
    "good.example": [("MX", (1, "mx.good.example"))],
    "host.example": [("A", "192.0.2.1")],
    "null.example": [("MX", (0, "."))],
    "slow.example": Fault.SERVFAIL,
    "far.example": [("MX", (1, "mx.far.example"))],
}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    for folder in ("control", "users", "joe", "vpop"):
        (tmp_path / folder).mkdir()
    control = {"me": "example.org", "locals": "example.org", "rcpthosts": "example.org\nvpop.example\n"}
    control["virtualdomains"] = "vpop.example:vpop"
    for name, text in control.items():
        (tmp_path / "control" / name).write_text(f"{text}\n")
    (tmp_path / "vpop" / ".qmail-default").write_text("|/home/vpopmail/bin/vdelivermail '' bounce-no-mailbox\n")
    write_cdb(str(tmp_path / "vpop" / "vpasswd.cdb"), [(b"ann", b"x:0:0::::")])
    lines = [
        f"=joe:joe:1000:1000:{tmp_path}/joe:::",
        f"+joe-:joe:1000:1000:{tmp_path}/joe:-::",
        f"+vpop-:vpop:1000:1000:{tmp_path}/vpop:-::",
        f"+:alias:1000:1000:{tmp_path}/joe:-::",
        ".",
    ]
    (tmp_path / "users" / "assign").write_text("".join(f"{line}\n" for line in lines))
    compile_assign(str(tmp_path / "users" / "assign"), str(tmp_path / "users" / "cdb"))
    return Home(str(tmp_path))


@pytest.fixture
def server() -> Iterator[FakeDns]:
    with FakeDns(ZONE) as running:
        yield running


class Asked:
    """A session with the plugin, and its log."""

    def __init__(self, home: Home, server: FakeDns, environment: dict[str, str], **settings: Any) -> None:
        self.log: list[str] = []
        self.resolver = Resolver([server.address], attempts=1)
        plugin = make_plugin(RcptCheck, home=home, resolver=lambda: self.resolver, log=self.log.append, **settings)
        plugin.start()
        policy = default_policy(rcpthosts=read_rcpthosts(home))
        self.talk = Talk(plan=plan_of(plugin), policy=policy, environment=environment)

    async def say(self, *lines: str) -> list[str]:
        said = [await self.talk.ask(line) for line in lines]
        await self.resolver.close()
        return said


async def mail(home: Home, server: FakeDns, sender: str, **more: str) -> str:
    (said,) = await Asked(home, server, ON | more).say(f"MAIL FROM:<{sender}>")
    return said


async def rcpt(home: Home, server: FakeDns, *addresses: str, **more: str) -> list[str]:
    asked = Asked(home, server, ON | more)
    return (await asked.say("MAIL FROM:<a@good.example>", *(f"RCPT TO:<{one}>" for one in addresses)))[1:]


@pytest.mark.parametrize(
    ("sender", "reply"),
    [
        ("a@good.example", "250 ok"),
        ("a@host.example", "250 ok"),
        ("", "250 ok"),
        ("a@nowhere.example", "550 5.1.8 sorry, can't find a valid MX for sender domain (chkuser)"),
        ("a@null.example", "550 5.1.8 sorry, can't find a valid MX for sender domain (chkuser)"),
        ("a@slow.example", "451 4.4.0 DNS temporary failure (chkuser)"),
        ("a b@good.example", "553 5.1.7 sorry, sender syntax not allowed (chkuser)"),
        ("a@good_example", "553 5.1.7 sorry, sender syntax not allowed (chkuser)"),
        ("#@[]", "553 5.1.7 sorry, sender syntax not allowed (chkuser)"),
    ],
)
@virtual_time
async def test_senders(home: Home, server: FakeDns, sender: str, reply: str) -> None:
    assert await mail(home, server, f'"{sender[:3]}"{sender[3:]}' if " " in sender else sender) == reply


@pytest.mark.parametrize(
    ("sender", "switch"),
    [
        ("a@nowhere.example", "CHKUSER_SENDER_MX_NOCHECK"),
        ("#@[]", "CHKUSER_DOUBLEBOUNCE"),
        ("a@nowhere.example", "RELAYCLIENT"),
    ],
)
@virtual_time
async def test_each_check_of_the_sender_has_its_switch(home: Home, server: FakeDns, sender: str, switch: str) -> None:
    assert await mail(home, server, sender, **{switch: "", "CHKUSER_SENDER_FORMAT_NOCHECK": ""}) == "250 ok" or (
        switch == "CHKUSER_DOUBLEBOUNCE" and await mail(home, server, sender, **{switch: ""}) == "250 ok"
    )


@virtual_time
async def test_other_variables_may_switch_it_off(home: Home, server: FakeDns) -> None:
    bad = "a@nowhere.example"
    assert await mail(home, server, bad, CHKUSER_DISABLE_VARIABLE="TRUSTED", TRUSTED="") == "250 ok"
    assert (await mail(home, server, bad, CHKUSER_DISABLE_VARIABLE="TRUSTED")).startswith("550")
    assert await mail(home, server, bad, CHKUSER_SENDER_NOCHECK_VARIABLE="TRUSTED", TRUSTED="") == "250 ok"
    for value in ("NONE", "none", ""):
        assert await mail(home, server, bad, CHKUSER_START=value) == "250 ok"


@virtual_time
async def test_recipients(home: Home, server: FakeDns) -> None:
    assert await rcpt(
        home, server, "joe@example.org", "joe-nobody@example.org", "ann@vpop.example", "bob@vpop.example"
    ) == [
        "250 ok",
        "550 5.1.1 sorry, no mailbox here by that name (chkuser)",
        "250 ok",
        "550 5.1.1 sorry, no mailbox here by that name (chkuser)",
    ]
    assert await rcpt(home, server, "x@far.example", "x@nowhere.example", "x@slow.example", "nodomain", "a@b_c") == [
        "553 5.7.1 sorry, that domain isn't in my list of allowed rcpthosts (chkuser)",
        "550 5.1.2 sorry, can't find a valid MX for rcpt domain (chkuser)",
        "451 4.4.0 DNS temporary failure (chkuser)",
        "550 5.1.2 sorry, you must specify a domain (chkuser)",
        "553 5.1.3 sorry, rcpt syntax not allowed (chkuser)",
    ]


@virtual_time
async def test_domain_asks_only_where_unknown_users_are_left_to_vpopmail(home: Home, server: FakeDns) -> None:
    said = await rcpt(
        home, server, "joe-nobody@example.org", "bob@vpop.example", "ann@vpop.example", CHKUSER_START="DOMAIN"
    )
    assert [line[:3] for line in said] == ["250", "550", "250"]


@virtual_time
async def test_limits_and_logins(home: Home, server: FakeDns) -> None:
    said = await rcpt(home, server, *["joe@example.org"] * 3, CHKUSER_RCPTLIMIT="2")
    assert said[2] == "550 5.5.3 sorry, reached maximum number of recipients allowed in one session (chkuser)"
    said = await rcpt(home, server, "joe-x@example.org", "joe@example.org", CHKUSER_WRONGRCPTLIMIT="1")
    assert said[1] == "550 5.5.3 sorry, you are violating our security policies (chkuser)"
    said = await rcpt(home, server, "joe@example.org", CHKUSER_MUSTAUTH="")
    assert said == ["530 5.7.0 Authentication required (chkuser)"]


@virtual_time
async def test_wrong_recipients_wait_longer_each_time_and_are_logged(home: Home, server: FakeDns) -> None:
    asked = Asked(home, server, ON)
    await asked.talk.ask("MAIL FROM:<a@good.example>")
    waits = []
    for number_of in range(3):
        began = time.monotonic()
        await asked.talk.ask(f"RCPT TO:<joe-x{number_of}@example.org>")
        waits.append(time.monotonic() - began)
    await asked.resolver.close()
    assert waits == [pytest.approx(1.0, abs=0.2), pytest.approx(1.3, abs=0.2), pytest.approx(1.6, abs=0.2)]
    assert sum("CHKUSER rejected rcpt: from <a@good.example|" in line for line in asked.log) == 3


@virtual_time
async def test_good_recipients_and_a_cdb_of_them_are_not_checked(home: Home, server: FakeDns) -> None:
    write_cdb(home.control("goodrcptto.cdb"), [(b"joe-x@example.org", b""), (b"@vpop.example", b"")])
    said = await rcpt(home, server, "joe-x@example.org", "bob@vpop.example", "joe-y@example.org")
    assert [line[:3] for line in said] == ["250", "250", "550"]


@given(st.binary(max_size=80))
def test_no_address_breaks_the_form(address: bytes) -> None:
    if is_well_formed(address):
        assert b" " not in address
        assert b"@" in address
        assert b"." in address


def test_limits_that_are_no_numbers_are_none() -> None:
    assert [number(text) for text in (None, "", "x", "-1", "9" * 20, "7")] == [0, 0, 0, 0, 0, 7]


@pytest.mark.parametrize(
    ("address", "without", "with_it"),
    [("дом@good.example", False, True), ("дом(@good.example", False, False), ("a@good.example", True, True)],
)
def test_letters_of_any_script_are_allowed_after_smtputf8(address: str, without: bool, with_it: bool) -> None:
    assert (is_well_formed(address.encode()), is_well_formed(address.encode(), is_utf8=True)) == (without, with_it)
