"""rcptcheck: who is refused, who is not, and what happens when nobody can know."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq import Defer, Disconnect, Reject
from pluq.children import Ended
from pluq.config import Home
from pluq.errors import TemporaryFailure
from pluq.smtpd.policy import read_rcpthosts
from pluq.store.cdb import write_cdb
from pluq.store.users import compile_assign
from pluq.testing.conformance import Conformance
from pluq.testing.plugins import make_plugin, plan_of
from pluq.testing.smtp_session import Talk, default_policy
from pluq_rcptcheck import RcptCheck, existence
from pluq_rcptcheck.existence import KEEP_SECONDS, Existence, Found
from pluq_rcptcheck.lists import default_keys, is_in_cdb, is_listed, is_valid
from pluq_rcptcheck.program import BAD_TEXT, NO_MAILBOX, NOT_RUN, OVER_LIMIT, UNVERIFIED, reply_of, verdict_of

# -- lists


@pytest.mark.parametrize(
    ("entries", "address", "valid"),
    [
        ({b"joe@a"}, b"JOE@A", True),
        ({b"-joe@a", b"@a"}, b"joe@a", False),
        ({b"joe@a", b"-joe@a"}, b"joe@a", True),
        ({b"-@a"}, b"joe@a", False),
        ({b"@a", b"-@a"}, b"joe@a", True),
        ({b"-@a"}, b"joe@sub.a", None),
        ({b"joe"}, b"joe", True),
        ({b"-joe"}, b"joe", None),
        (set(), b"joe@a", None),
    ],
)
def test_the_order_of_entries_decides(entries: set[bytes], address: bytes, valid: bool | None) -> None:
    assert is_valid(address, entries.__contains__) is valid


def test_a_list_of_all_recipients_is_asked_for_each_dash() -> None:
    assert list(default_keys(b"a-b-c@d")) == [b"a-b-c@d", b"a-b-default@d", b"a-default@d", b"@d"]
    every = {b"joe@d": b"", b"list-default@d": b"", b"gone@d": b"-", b"@all": b""}
    taken = [b"Joe@D", b"list-x-y@d", b"any@all"]
    assert [is_in_cdb(address, every.get) for address in [*taken, b"gone@d", b"ann@d", b"joe"]] == [True] * 3 + [
        False
    ] * 3


@given(st.binary(max_size=60))
def test_no_address_breaks_the_lists(address: bytes) -> None:
    is_valid(address, {b"x"}.__contains__)
    is_in_cdb(address, {b"x": b""}.get)
    is_listed(address, {b"x"}.__contains__)


# -- existence


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A host with locals, a virtual domain, percenthack and four assigned users."""
    for folder in ("control", "users", "joe", "ann", "vpop/example.com", "alias"):
        (tmp_path / folder).mkdir(parents=True)
    controls = {
        "me": "mx.example.org\n", "locals": "example.org\n", "percenthack": "example.org\n",
        "virtualdomains": "virtual.example:joe-virtual\nexample.com:example.com\nsolo@part.example:joe\n",
        "rcpthosts": "example.org\nexample.com\nvirtual.example\npart.example\n.foreign.example\n",
    }  # fmt: skip
    for name, text in controls.items():
        (tmp_path / "control" / name).write_text(text)
    ids = f"{os.getuid()}:{os.getgid()}"
    (tmp_path / "users/assign").write_text(
        f"=joe:joe:{ids}:{tmp_path}/joe:::\n+joe-:joe:{ids}:{tmp_path}/joe:-::\n"
        f"+ann:ann:{ids}:{tmp_path}/ann:-::\n"
        f"+example.com-:example.com:{ids}:{tmp_path}/vpop/example.com:-::\n"
        f"=lost:lost:{ids}:{tmp_path}/nowhere:::\n"
        f"+:alias:{ids}:{tmp_path}/alias:-::\n.\n"
    )
    compile_assign(str(tmp_path / "users/assign"), str(tmp_path / "users/cdb"))
    for name in ("joe/.qmail-list-default", "joe/.qmail-virtual-sales", "joe/.qmail-a:b", "alias/.qmail-postmaster"):
        (tmp_path / name).write_text("./Mailbox\n")
    (tmp_path / "vpop/example.com/.qmail-default").write_text(
        "| /home/vpopmail/bin/vdelivermail '' bounce-no-mailbox\n"
    )
    (tmp_path / "vpop/example.com/.qmail-info").write_text("&joe@example.org\n")
    return Home(str(tmp_path))


def look(home: Home, address: bytes) -> Found:
    return Existence(home, lambda: 0.0).look(address)


WHO = [
    (b"joe@example.org", Found.YES),
    (b"JOE@Example.ORG", Found.YES),
    (b"joe-list-x@example.org", Found.YES),
    (b"joe-a.b@example.org", Found.YES),
    (b"joe-other@example.org", Found.MISSING),
    (b"ann@example.org", Found.MISSING),
    (b"nobody@example.org", Found.MISSING),
    (b"postmaster@example.org", Found.YES),
    (b"sales@virtual.example", Found.YES),
    (b"else@virtual.example", Found.MISSING),
    (b"solo@part.example", Found.MISSING),
    (b"other@part.example", Found.FOREIGN),
    (b"joe%example.org@example.org", Found.YES),
    (b"nobody%example.org@example.org", Found.MISSING),
    (b"x%foreign.example@example.org", Found.FOREIGN),
    (b"x@foreign.example", Found.FOREIGN),
    (b"info@example.com", Found.YES),
    (b"postmaster", Found.UNSEEN),
    (b"joe-../../etc/passwd@example.org", Found.MISSING),
    (b"joe-/etc/passwd@example.org", Found.MISSING),
    (b"joe-.%2f@example.org", Found.FOREIGN),
    (b"-froot@example.org", Found.MISSING),
    (b"joe-" + b"x" * 300 + b"@example.org", Found.MISSING),
]


async def test_a_recipient_is_looked_for_once_in_a_burst_and_one_that_was_missing_each_time(home: Home) -> None:
    now, asked = 0.0, []

    class Counting(Existence):
        def look(self, address: bytes) -> Found:
            asked.append(address)
            return super().look(address)

    existence = Counting(home, lambda: now)
    for address in (b"joe@example.org", b"ann@example.org") * 2:
        await existence.find(address)
    assert asked == [b"joe@example.org", b"ann@example.org", b"ann@example.org"]
    now = KEEP_SECONDS
    assert await existence.find(b"joe@example.org") is Found.YES
    assert asked[3:] == [b"joe@example.org"]


@pytest.mark.parametrize(("address", "found"), WHO)
def test_who_is_there(home: Home, address: bytes, found: Found) -> None:
    assert look(home, address) is found


def test_it_says_what_qmail_local_would_do(home: Home) -> None:
    """The program is asked with the arguments that users/cdb gives; 100 is a bounce."""
    for address, found in WHO:
        channel, routed = existence.read_settings(home.controls).routing.route(address)
        local, _, host = routed.rpartition(b"@")
        if channel != existence.LOCAL or found not in (Found.YES, Found.MISSING):
            continue
        account = Existence(home, lambda: 0.0).account(local)
        assert account is not None
        arguments = [account.user, account.home, local, account.dash, account.ext, host, b"", b"./Mailbox"]
        program = [
            sys.executable,
            "-c",
            "import sys; from pluq.commands.qmail_local import main; sys.exit(main())",
            "-n",
        ]
        ended = subprocess.run([*program, "--", *arguments], stdin=subprocess.DEVNULL, capture_output=True)
        assert (ended.returncode == 100) is (found is Found.MISSING), (address, ended)


def test_users_of_vpopmail_are_those_in_its_cdb(home: Home) -> None:
    folder = f"{home.path}/vpop/example.com"
    assert look(home, b"tom@example.com") is Found.UNSEEN
    write_cdb(f"{folder}/vpasswd.cdb", [(b"tom", b"hash:1:0:Tom:/x:NOQUOTA"), (b"off", b"hash:1:16:Off:/x:NOQUOTA")])
    names = {b"Tom": Found.YES, b"tom-ext": Found.YES, b"off": Found.MISSING, b"eve": Found.MISSING}
    assert {name: look(home, name + b"@example.com") for name in names} == names


def test_a_mailbox_folder_shows_a_user_of_vpopmail_without_a_cdb(home: Home) -> None:
    Path(home.path, "vpop/example.com/tim/Maildir").mkdir(parents=True)
    assert look(home, b"tim@example.com") is Found.YES
    assert look(home, b"../../joe@example.com") is Found.UNSEEN


@pytest.mark.parametrize("closed", ["joe", "users/cdb"])
def test_what_is_closed_to_us_is_not_refused(home: Home, closed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    really_open = os.open

    def open_as_stranger(path: Any, *arguments: Any, **options: Any) -> int:
        if os.fsdecode(path).startswith(f"{home.path}/{closed}"):
            raise PermissionError(13, "closed")
        return really_open(path, *arguments, **options)

    monkeypatch.setattr(os, "open", open_as_stranger)
    assert look(home, b"joe-nobody@example.org") is Found.UNSEEN


def test_a_system_home_that_is_closed_to_us_is_not_passed_over(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(path: bytes) -> os.stat_result:
        raise PermissionError(13, "closed")

    account = existence.Account(b"eve", 1234, 1234, b"/home/eve", b"", b"")
    monkeypatch.setattr(existence, "system_account", lambda name: account if name == b"eve" else None)
    monkeypatch.setattr(existence.os, "stat", closed)
    with pytest.raises(existence.Unseen):
        existence.find_visible_account(b"eve-list")


def test_trouble_is_not_the_same_as_nobody(home: Home) -> None:
    with pytest.raises(TemporaryFailure):
        look(home, b"lost@example.org")
    Path(home.path, "users/cdb").write_bytes(b"broken")
    with pytest.raises(TemporaryFailure):
        look(home, b"joe@example.org")


def test_a_file_that_delivery_would_wait_for_is_there(home: Home) -> None:
    Path(home.path, "joe/.qmail-list-default").chmod(0o666)
    assert look(home, b"joe-list-x@example.org") is Found.YES


# -- sessions


async def talk_with(home: Home, environment: dict[str, str] | None = None, **settings: Any) -> Talk:
    plugin = make_plugin(RcptCheck, home=home, **settings)
    plugin.start()
    policy = default_policy(rcpthosts=read_rcpthosts(home))
    talk = Talk(policy=policy, plan=plan_of(plugin), environment={"PATH": "/usr/bin:/bin", **(environment or {})})
    await talk.settled()
    await talk.ask("MAIL FROM:<s@src.example>")
    return talk


async def rcpt(talk: Talk, *addresses: str) -> list[str]:
    return [await talk.ask(f"RCPT TO:<{address}>") for address in addresses]


async def test_an_unknown_recipient_is_refused_before_there_is_a_message(home: Home) -> None:
    talk = await talk_with(home)
    said = await rcpt(talk, "joe@example.org", "nobody@example.org", "postmaster", "x@other.example")
    assert [line[:3] for line in said] == ["250", "550", "250", "553"]
    assert said[1] == "550 sorry, no mailbox here by that name. (#5.1.1)"


async def test_a_lookup_that_fails_is_temporary_and_not_counted(home: Home) -> None:
    talk = await talk_with(home, brtlimit=1)
    assert await rcpt(talk, "lost@example.org", "joe@example.org") == [
        "451 unable to verify recipient (#4.3.0)",
        "250 ok",
    ]


async def test_a_client_that_guesses_is_hung_up_on(home: Home) -> None:
    talk = await talk_with(home, {"BRTLIMIT": "2"})
    said = await rcpt(talk, "a@example.org", "b@example.org", "joe@example.org")
    assert [line[:3] for line in said] == ["550", "550", "421"]
    assert talk.is_closed


async def test_clients_that_may_relay_are_not_asked(home: Home) -> None:
    Path(home.control("validrcptto")).write_text("-joe@example.org\n")
    talk = await talk_with(home, {"RELAYCLIENT": ""})
    assert await rcpt(talk, "nobody@example.org", "joe@example.org", "x@foreign.example") == ["250 ok"] * 3


async def test_good_recipients_pass_every_list(home: Home) -> None:
    Path(home.control("goodrcptto")).write_text("abuse@example.org\n@example.com\n")
    Path(home.control("validrcptto")).write_text("-@example.org\n-@example.com\n")
    talk = await talk_with(home)
    said = await rcpt(talk, "abuse@example.org", "any@example.com", "joe@example.org", "x@other.example")
    assert [line[:3] for line in said] == ["250", "250", "553", "553"]


async def test_bad_recipients_of_a_cdb_are_refused_at_rcpt_or_with_the_message(home: Home) -> None:
    write_cdb(home.control("morebadrcptto.cdb"), [(b"joe@example.org", b"")])
    said = await rcpt(await talk_with(home), "joe@example.org")
    assert said == ["553 sorry, your envelope recipient has been denied (#5.7.1)"]
    talk = await talk_with(home, morebadrcptto_at="data")
    assert await rcpt(talk, "joe@example.org") == ["250 ok"]
    assert await talk.ask("DATA") == "550 sorry, this message is not deliverable (#5.7.1)"


async def test_a_cdb_of_all_recipients_refuses_others_and_must_be_there_if_it_is_named(home: Home) -> None:
    write_cdb(home.control("all.cdb"), [(b"eve@example.org", b"")])
    talk = await talk_with(home, {"VALIDRCPTTO_CDB": "control/all.cdb", "VALIDRCPTTO_LIMIT": "1"})
    said = await rcpt(talk, "eve@example.org", "joe@example.org", "eve@example.org")
    assert [line[:3] for line in said] == ["250", "553", "421"]
    talk = await talk_with(home, {"VALIDRCPTTO_CDB": "control/none.cdb"})
    assert await rcpt(talk, "joe@example.org") == ["421 unable to read controls (#4.3.0)"]
    talk = await talk_with(home, {"VALIDRCPTTO_CDB": ""})
    assert await rcpt(talk, "joe@example.org") == ["250 ok"]


async def test_the_recipient_over_the_limit_does_not_get_the_message(home: Home) -> None:
    talk = await talk_with(home, maxrcpt=1)
    assert await rcpt(talk, "joe@example.org", "postmaster@example.org") == [
        "250 ok",
        "452 max rcpt limit exceeded (#5.7.1)",
    ]
    await talk.ask("DATA")
    await talk.ask("Subject: x\r\n\r\nhi\r\n.")
    assert talk.queue.messages[0].recipients == [b"joe@example.org"]


# -- RCPTCHECK


def script(home: Home, text: str) -> dict[str, str]:
    path = Path(home.path, "check")
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return {"RCPTCHECK": str(path)}


@pytest.mark.parametrize(
    ("ended", "verdict"),
    [
        (Ended(0, {4: b"550 x"}), None),
        (Ended(1, {4: b""}), None),
        (Ended(112, {4: b"550 x"}), None),
        (Ended(100, {4: b""}), NO_MAILBOX),
        (Ended(113, {4: b""}), OVER_LIMIT),
        (Ended(111, {4: b"550 x"}), UNVERIFIED),
        (Ended(120, {4: b""}), NOT_RUN),
        (Ended(-9, {4: b""}), NOT_RUN),
        (Ended(-9, {4: b""}, is_late=True), UNVERIFIED),
        (Ended(100, {4: b"550 no\r\n"}), Reject(550, None, b"no")),
        (Ended(113, {4: b"450 later\n"}), Defer(450, None, b"later")),
        (Ended(100, {4: b"421 bye"}), Disconnect(Defer(421, None, b"bye"))),
    ],
)
def test_what_the_exit_of_a_program_means(ended: Ended, verdict: Any) -> None:
    assert verdict_of(ended) == verdict


@pytest.mark.parametrize("text", [b"250 ok", b"550", b"600 x", b"no", b"550 a\n250 ok", b"550 ", b"5500 x"])
def test_a_text_that_is_no_refusal_is_temporary(text: bytes) -> None:
    assert reply_of(text) == BAD_TEXT


async def test_a_program_knows_whether_the_recipient_was_found(home: Home) -> None:
    talk = await talk_with(home, script(home, 'echo "$RECIPIENT $RCPTFOUND $RCPTHOSTS $HELO" >> seen'))
    await rcpt(talk, "joe@example.org", "x@sub.foreign.example")
    assert Path(home.path, "seen").read_text() == "joe@example.org 1 1 \nx@sub.foreign.example  1 \n"


async def test_a_program_sees_the_recipient_with_the_suffix_of_relayclient(home: Home) -> None:
    environment = {"RELAYCLIENT": "@relay.example", "RCPTCHECKRELAYCLIENT": "1"}
    talk = await talk_with(home, {**script(home, 'echo "$RECIPIENT" >> seen'), **environment})
    await rcpt(talk, "joe@example.org")
    assert Path(home.path, "seen").read_text() == "joe@example.org@relay.example\n"


async def test_a_list_that_cannot_be_read_ends_the_session_at_once(home: Home) -> None:
    Path(home.control("validrcptto")).mkdir()
    talk = await talk_with(home)
    assert talk.is_closed


@pytest.mark.parametrize("value", ["", "x"])
async def test_a_limit_in_a_variable_without_a_number_is_none_as_in_qmail(home: Home, value: str) -> None:
    talk = await talk_with(home, {"BRTLIMIT": value}, brtlimit=1)
    said = await rcpt(talk, "a@example.org", "b@example.org", "joe@example.org")
    assert [line[:3] for line in said] == ["550", "550", "250"]


async def test_a_program_that_sleeps_is_killed(home: Home) -> None:
    talk = await talk_with(home, script(home, "sleep 60"), seconds=0.3)
    assert await rcpt(talk, "joe@example.org") == ["421 unable to verify recipient (#4.3.0)"]


async def test_addresses_are_values_and_never_commands(home: Home) -> None:
    talk = await talk_with(home, script(home, 'echo "$RECIPIENT" >> seen'), existence=False)
    for box in ("`touch hacked`", "$(touch hacked)", "|touch hacked", ";touch hacked;", "-f"):
        assert await rcpt(talk, f"{box}@example.org") == ["250 ok"]
    assert await rcpt(talk, '"() { :;}; touch hacked"@example.org') == ["555 syntax error (#5.5.4)"]
    assert not list(Path(home.path).rglob("*hacked*"))


class TestConformance(Conformance):
    plugin = RcptCheck

    @pytest.fixture(autouse=True)
    def with_home(self, home: Home) -> None:
        self.home = home

    def make(self) -> Any:
        return make_plugin(RcptCheck, home=self.home)


def test_a_program_that_cannot_be_run_is_told_before_it_turns_everybody_away(tmp_path: Path) -> None:
    home = Home(str(tmp_path))
    assert make_plugin(RcptCheck, home=home).check() == []
    assert make_plugin(RcptCheck, home=home, program="/bin/true").check() == []
    (fault,) = make_plugin(RcptCheck, home=home, program="bin/nothere").check()
    assert fault == "test: rcptcheck.program: bin/nothere cannot be run"
