"""spp: every letter, every section, and programs that misbehave."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq import Defer, Reject, Session
from pluq.config import Home
from pluq.testing.conformance import REPLY_LINE, Conformance
from pluq.testing.plugins import make_plugin, plan_of
from pluq.testing.smtp_session import Talk
from pluq_spp import Spp
from pluq_spp.output import commands, refusal
from pluq_spp.sections import Section, parse_sections
from pluq_spp.state import Answer, State


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "control").mkdir()
    (tmp_path / "control" / "rcpthosts").write_text("example.org\n")
    return Home(str(tmp_path))


async def talk_with(home: Home, file: str, environment: dict[str, str] | None = None, **settings: Any) -> Talk:
    Path(home.control("smtpplugins")).write_text(file)
    plugin = make_plugin(Spp, home=home, **settings)
    plugin.start()
    talk = Talk(plan=plan_of(plugin), environment={"ENABLE_SPP": "1", "PATH": "/usr/bin:/bin", **(environment or {})})
    await talk.settled()
    talk.read()
    return talk


async def dialogue(talk: Talk, *lines: str) -> list[str]:
    return [await talk.ask(line) for line in lines]


async def test_in_shadow_mode_no_program_is_run(home: Home, tmp_path: Path) -> None:
    Path(home.control("smtpplugins")).write_text(
        f"[connection]\n:touch {tmp_path}/ran\n[mail]\n:touch {tmp_path}/ran\n"
    )
    plugin = make_plugin(Spp, home=home)
    plugin.start()
    talk = Talk(plan=plan_of(plugin, mode="shadow"), environment={"ENABLE_SPP": "1", "PATH": "/usr/bin:/bin"})
    assert await talk.ask("MAIL FROM:<a@b.example>") == "250 ok"
    assert not (tmp_path / "ran").exists()


def test_sections_go_by_their_first_letter() -> None:
    found = parse_sections(
        [b":lost", b"[mail]", b"a b", b":c", b"[Rcpt]", b"no", b"[mx]", b"d", b"[]", b"no", b"[p]", b"e"]
    )
    assert found == {Section.MAIL: ("a b", ":c", "d"), Section.PASS: ("e",)}


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (b"550 no", Reject(550, None, b"no", once=True)),
        (b"450-later", Defer(450, None, b"later", once=True)),
        (b"554", Reject(554, None, b"", once=True)),
        (b"refused", None),
        (b"99 x", None),
        (b"5501", None),
        (b"", None),
    ],
)
def test_a_refusal_is_a_reply_or_nothing(text: bytes, verdict: Any) -> None:
    assert refusal(text) == verdict


@given(st.lists(st.binary(max_size=40)))
def test_no_output_breaks_the_reader_or_the_header(lines: list[bytes]) -> None:
    answer = Answer(Session(), State({}))
    answer.obey("x", b"\n".join(b"H" + line for line in lines) + b"\n" + b"\n".join(lines))
    for field in answer.state.fields:
        assert field.endswith(b"\n")
        assert all(line[:1] in (b" ", b"\t") for line in field[:-1].split(b"\n")[1:])


def test_the_first_last_word_counts() -> None:
    assert list(commands(b"P250-a\r\n\nE550 no\nP250 never\n")) == [(b"P", b"250-a"), (b"E", b"550 no")]
    assert list(commands(b"E550 unterminated")) == [(b"E", b"550 unterminated")]


async def test_only_connections_with_the_variable_have_programs(home: Home) -> None:
    for environment, expected in [({}, "550 x"), ({"ENABLE_SPP": "0"}, "250 ok"), ({"NOSPP": ""}, "250 ok")]:
        talk = await talk_with(home, "[mail]\n:echo E550 x\n", environment)
        assert await talk.ask("MAIL FROM:<a@b>") == expected
    plugin = make_plugin(Spp, home=home)
    plugin.start()
    assert Talk(plan=plan_of(plugin)).say("MAIL FROM:<a@b>") == "250 ok"


async def test_a_missing_list_ends_the_session_where_it_is_asked_for(home: Home) -> None:
    plugin = make_plugin(Spp, home=home, enabled=True)
    plugin.start()
    talk = Talk(plan=plan_of(plugin))
    await talk.settled()
    assert talk.said == b"421 unable to read controls (#4.3.0)\r\n"
    assert talk.is_closed


async def test_a_pass_program_runs_once_for_a_recipient_that_is_let_in(home: Home) -> None:
    talk = await talk_with(
        home, '[pass]\n:echo "$SMTPRCPTTO $SMTPRCPTCOUNT" >> seen\n:test $SMTPRCPTCOUNT = 2 && echo E550 full\n'
    )
    said = await dialogue(
        talk, "MAIL FROM:<a@b>", "RCPT TO:<x@foreign.example>", "RCPT TO:<j@example.org>", "RCPT TO:<k@example.org>"
    )
    assert [line[:3] for line in said] == ["250", "553", "250", "550"]
    assert Path(home.path, "seen").read_text() == "j@example.org 1\nk@example.org 2\n"


async def test_rcpthosts_is_asked_of_the_recipient_that_the_client_named(home: Home) -> None:
    talk = await talk_with(home, '[rcpt]\n:echo "C$SMTPRCPTTO.example"\n:echo "HX-To: $SMTPRCPTTO"\n')
    assert (await dialogue(talk, "MAIL FROM:<a@b>", "RCPT TO:<j@example.org>"))[1] == "250 ok"
    talk = await talk_with(home, "[rcpt]\n:echo Cann@example.org\n")
    assert (await dialogue(talk, "MAIL FROM:<a@b>", "RCPT TO:<j@foreign.example>"))[1].startswith("553")


async def test_programs_see_what_other_plugins_found_of_the_sender(home: Home) -> None:
    talk = await talk_with(home, "[rcpt]\n:echo E550 $SPFRESULT\n")
    await talk.ask("MAIL FROM:<a@b>")
    assert talk.smtp.transaction is not None
    talk.smtp.transaction.queue_environment["SPFRESULT"] = "softfail"
    assert await talk.ask("RCPT TO:<j@example.org>") == "550 softfail"


async def test_a_program_that_hangs_up_needs_no_words(home: Home) -> None:
    talk = await talk_with(home, "[mail]\n:echo R\n")
    assert (await talk.ask("MAIL FROM:<a@b>")).startswith("451 qmail-spp failure")
    assert talk.is_closed


async def test_a_program_cannot_make_the_client_a_relay_by_a_variable(home: Home) -> None:
    talk = await talk_with(home, "[connection]\n:echo SRELAYCLIENT=; echo SFOO=bar\n[mail]\n:env > env\n")
    assert (await dialogue(talk, "MAIL FROM:<a@b>", "RCPT TO:<j@foreign.example>"))[1].startswith("553")
    seen = Path(home.path, "env").read_text().splitlines()
    assert "RELAYCLIENT=" in seen
    assert "FOO=bar" in seen


async def test_variables_reach_the_queue_program_and_can_be_taken_back(home: Home) -> None:
    talk = await talk_with(
        home, "[mail]\n:echo SFOO=bar; echo UBAR; echo UDATABYTES\n", {"BAR": "x", "DATABYTES": "1000"}
    )
    await dialogue(talk, "MAIL FROM:<a@b>", "RCPT TO:<j@example.org>", "DATA", "hi\r\n.")
    environment = talk.queue.messages[0].environment
    assert environment["FOO"] == "bar"
    assert environment["SMTPMAILFROM"] == "a@b"
    assert "BAR" not in environment
    assert "DATABYTES" not in environment


async def test_fields_can_be_folded_and_never_end_the_header(home: Home) -> None:
    talk = await talk_with(home, "[data]\n:printf 'HX-A: 1\\nH  more\\nH\\nHbad name: x\\nHX-B: 2\\n'\n")
    await dialogue(talk, "MAIL FROM:<a@b>", "RCPT TO:<j@example.org>", "DATA", "Subject: t\r\n\r\nhi\r\n.")
    assert talk.queue.messages[0].text == b"X-A: 1\n  more\nX-B: 2\nSubject: t\n\nhi\n"


async def test_a_refusal_for_later_stands_until_rset(home: Home) -> None:
    talk = await talk_with(home, "[helo]\n:printf 'LM450-first\\nLM450 second\\n'\n")
    said = await dialogue(talk, "HELO c", "MAIL FROM:<a@b>", "MAIL FROM:<a@b>", "RSET", "MAIL FROM:<a@b>")
    assert said[1:] == ["450-first\r\n450 second"] * 2 + ["250 flushed", "250 ok"]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (":kill -9 $$", "child crashed"),
        (":echo E550 x; kill -9 $$", "child crashed"),
        ("plugins/none", "can't execute"),
        (":exit 120", "can't execute"),
        (":sleep 30", "took too long"),
        (":echo E", "refused without a reply"),
    ],
)
async def test_a_program_that_fails_makes_one_temporary_reply(home: Home, entry: str, reason: str) -> None:
    talk = await talk_with(home, f"[mail]\n{entry}\n", seconds=1.0 if reason == "took too long" else 60)
    assert await talk.ask("MAIL FROM:<a@b>") == f"451 qmail-spp failure: {entry}: {reason} (#4.3.0)"
    assert await talk.ask("RCPT TO:<j@example.org>") == "503 MAIL first (#5.5.1)"


async def test_whoever_waits_for_a_place_gets_one(home: Home) -> None:
    talks = [await talk_with(home, "[mail]\n:sleep 0.05\n", concurrency=1) for _ in range(2)]
    for talk in talks:
        talk.send(b"MAIL FROM:<a@b>\r\n")
    for talk in talks:
        await talk.settled()
        assert talk.read() or talk.said.endswith(b"250 ok\r\n")


HOSTILE = [
    "`touch hacked`@x.example",
    "$(touch hacked)@x.example",
    "${run{touch hacked}}@x.example",
    "|touch hacked@x.example",
    "a;touch hacked;@x.example",
    "-froot@x.example",
    '"a b"@x.example',
]


@pytest.mark.parametrize("sender", HOSTILE)
async def test_what_a_stranger_says_is_a_value_and_never_a_command(home: Home, sender: str) -> None:
    talk = await talk_with(home, '[mail]\n:echo "HX-From: $SMTPMAILFROM"; env > env\n')
    assert await talk.ask(f"MAIL FROM:<{sender}>") == "250 ok"
    seen = Path(home.path, "env").read_text()
    assert f"SMTPMAILFROM={sender.replace(chr(34), '')}\n" in seen
    assert not list(Path(home.path).rglob("*hacked*"))


async def test_what_an_old_shell_would_run_is_refused(home: Home) -> None:
    talk = await talk_with(home, "[helo]\n:true\n[mail]\n:true\n[rcpt]\n:true\n")
    said = await dialogue(
        talk, "HELO () { :;}; touch hacked", 'MAIL FROM:<"() { :;}; touch hacked"@x>', "MAIL FROM:<a@b>",
        'RCPT TO:<"() { :;}; x"@example.org>',
    )  # fmt: skip
    assert said == ["555 syntax error (#5.5.4)", "555 syntax error (#5.5.4)", "250 ok", "555 syntax error (#5.5.4)"]


async def test_whatever_a_program_prints_the_client_gets_lines(home: Home) -> None:
    talk = await talk_with(home, "[mail]\n:printf 'P250-a\\033[31m\\r\\nE550 b\\001\\r\\n'\n")
    for line in (await talk.ask("MAIL FROM:<a@b>")).split("\r\n"):
        assert REPLY_LINE.fullmatch(line), line


async def test_a_slow_program_holds_up_no_other_session(home: Home) -> None:
    held = f"{home.path}/held"
    os.mkfifo(held)
    slow = await talk_with(home, f"[mail]\n:cat {held}\n", seconds=60)
    slow.send(b"MAIL FROM:<a@b>\r\n")
    quick = await talk_with(home, "[mail]\n:true\n")
    assert await quick.ask("MAIL FROM:<a@b>") == "250 ok"
    assert not slow.read()
    Path(held).write_text("")  # it ends
    slow.hang_up()
    await slow.settled()


def test_check_names_programs_that_are_not_there(home: Home) -> None:
    Path(home.control("smtpplugins")).write_text("[mail]\nplugins/none\n:true\n")
    (fault,) = make_plugin(Spp, home=home).check()
    assert fault.endswith("control/smtpplugins: plugins/none: not a program that can be run")


class TestConformance(Conformance):
    plugin = Spp
