"""auth, the server's side: what is offered, how an exchange can go wrong, what a login brings, and what guessing costs."""

from __future__ import annotations

import asyncio
import base64
import hmac
import os
import statistics
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pluq import Session
from pluq.config import Home
from pluq.hookspecs import Tls as Layer
from pluq.testing.conformance import Conformance
from pluq.testing.plugins import make_plugin, plan_of
from pluq.testing.smtp_session import Dialogue, Talk, client_bytes, parse_dialogue
from pluq_auth import Auth, hashes
from pluq_auth.dialogue import Ended, Malformed, check_name
from pluq_auth.limits import MAX_ADDRESSES, Failures, address_key
from pluq_auth.offer import CRAM, PASSWORD, Offer, parse_smtpauth, split_arguments
from pluq_auth.passwd import new_line
from pluq_auth.senders import SendAs
from pluq_auth.users import PasswordFile

DIALOGUES = sorted((Path(__file__).parent / "dialogues").glob("*.txt"))
JOE = b"\0joe\0secret"
ALL = PASSWORD + CRAM


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home where joe has the password secret."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "control").mkdir()
    (folder / "control" / "passwords").write_bytes(b":seed\n" + new_line(b"joe", "secret"))
    return Home(str(folder))


async def made(home: Home, **values: Any) -> Auth:
    plugin = make_plugin(Auth, home=home, **{"delay": 0.0, "without_tls": True, **values})
    plugin.failures = Failures()
    await plugin.start()
    return plugin


async def talk(home: Home, environment: dict[str, str] | None = None, session: Any = (), **values: Any) -> Talk:
    return Talk(plan=plan_of(await made(home, **values)), environment=environment, **dict(session))


def encoded(text: bytes) -> str:
    return base64.b64encode(text).decode()


def plain(text: bytes = JOE) -> str:
    return f"AUTH PLAIN {encoded(text)}"


class TestConformance(Conformance):
    plugin = Auth


# -- what is offered


@pytest.mark.parametrize(
    ("text", "offer"),
    [
        ("-", Offer()),
        ("0", Offer()),
        ("", Offer(PASSWORD)),
        ("1", Offer(PASSWORD)),
        ("TLSREQUIRED", Offer(PASSWORD)),
        ("!x", Offer(PASSWORD)),
        ("cram", Offer(CRAM)),
        ("CRAM-md5", Offer(CRAM)),
        ("+cram", Offer(ALL)),
        ("!", Offer(PASSWORD, True)),
        ("!Cram", Offer(CRAM, True)),
        ("!+cramx", Offer(ALL, True)),
    ],
)
def test_smtpauth_means_what_it_means_to_patched_qmail(text: str, offer: Offer) -> None:
    assert parse_smtpauth(text) == offer


@pytest.mark.parametrize(
    ("arguments", "host", "argv"),
    [
        (["/bin/checkpassword", "/bin/true"], None, ["/bin/checkpassword", "/bin/true"]),
        (["mx.example.org", "/bin/checkpassword", "/bin/true"], "mx.example.org", ["/bin/checkpassword", "/bin/true"]),
        (["sh", "/bin/checkpassword"], None, ["sh", "/bin/checkpassword"]),
        (["checkpassword"], None, ["checkpassword"]),
    ],
)
def test_a_host_name_and_a_program_are_told_apart(arguments: list[str], host: str | None, argv: list[str]) -> None:
    assert split_arguments(arguments, is_program=arguments[0] == "sh") == (host, argv)


async def announced(home: Home, environment: dict[str, str] | None = None, session: Any = (), **values: Any) -> str:
    lines = (await talk(home, environment, session, **values)).say("EHLO c").splitlines()
    return next((line[4:] for line in lines if line[4:].startswith("AUTH ")), "")


@pytest.mark.parametrize(
    ("environment", "values", "expected"),
    [
        ({}, {}, "AUTH SCRAM-SHA-256 LOGIN PLAIN"),
        ({}, {"mechanisms": ("plain",)}, "AUTH PLAIN"),
        ({}, {"mechanisms": ("cram-md5",)}, ""),  # the file has nothing to compare it with
        ({"SMTPAUTH": ""}, {}, "AUTH LOGIN PLAIN"),
        ({"SMTPAUTH": "+cram"}, {}, "AUTH LOGIN PLAIN"),
        ({"SMTPAUTH": "-"}, {}, ""),
        ({}, {"passwords": "control/nothing"}, ""),
        ({}, {"without_tls": False}, ""),
        ({"FORCETLS": "0"}, {"without_tls": False}, "AUTH SCRAM-SHA-256 LOGIN PLAIN"),
        ({"FORCETLS": "1"}, {}, ""),
        ({"ALLOW_INSECURE_AUTH": "1"}, {"without_tls": False}, "AUTH SCRAM-SHA-256 LOGIN PLAIN"),
    ],
)
async def test_what_the_back_end_can_do_is_announced_and_the_environment_wins(
    users: Home, environment: dict[str, str], values: dict[str, Any], expected: str
) -> None:
    assert await announced(users, environment, **values) == expected


async def test_program_arguments_alone_offer_nothing_unless_a_host_name_says_which_patch_it_is(users: Home) -> None:
    program = {"arguments": ("/bin/checkpassword", "/bin/true")}
    assert await announced(users, {}, program) == ""
    assert await announced(users, {"SMTPAUTH": "cram"}, program) == "AUTH CRAM-MD5"
    named = {"arguments": ("mx.example.org", "/bin/checkpassword", "/bin/true")}
    assert await announced(users, {}, named) == "AUTH LOGIN PLAIN"
    assert await announced(users, {"ALLOW_CRAM": "1"}, named) == "AUTH LOGIN PLAIN CRAM-MD5"
    reversed_order = {"arguments": ("mx.example.org", "/bin/cmd5checkpw", "/bin/true")}
    assert await announced(users, {}, reversed_order) == "AUTH LOGIN PLAIN CRAM-MD5"


async def test_old_clients_get_their_own_line(users: Home) -> None:
    one = await talk(users, {"OLD_CLIENT": ""}, mechanisms=("PLAIN",))
    assert one.say("EHLO c").splitlines()[-2:] == ["250-AUTH PLAIN", "250 AUTH=PLAIN"]


async def test_before_tls_nothing_is_offered_and_nothing_is_tried(users: Home) -> None:
    one = await talk(users, without_tls=False)
    assert "AUTH" not in one.say("EHLO c")
    assert one.say(plain()) == "538 auth not available without TLS (#5.3.3)"
    assert one.say("AUTH LOGIN") == "538 auth not available without TLS (#5.3.3)"
    one.session.tls = Layer("TLSv1.3", "TLS_AES_256_GCM_SHA384")
    assert "AUTH" in one.say("EHLO c")
    assert await one.ask(plain()) == "235 ok, go ahead (#2.0.0)"


# -- exchanges


@pytest.mark.parametrize("path", DIALOGUES, ids=lambda path: path.stem)
async def test_the_exchange_goes_as_written(path: Path, users: Home) -> None:
    dialogue: Dialogue = parse_dialogue(path.read_text())
    one = await talk(users, dialogue.environment, failures=1)
    expected = one.said.decode().split("\r\n")[:-1]
    for letter, text in dialogue.steps:
        if letter == "S":
            expected.append(text)
            continue
        assert one.said.decode().split("\r\n")[:-1] == expected, f"before {text!r}"
        one.send(client_bytes(text))
        await one.settled()
    assert one.said.decode().split("\r\n")[:-1] == expected


async def test_a_megabyte_of_base64_is_refused_and_not_kept(users: Home) -> None:
    one = await talk(users)
    assert await one.ask("AUTH PLAIN " + "A" * (1 << 20)) == "500 line too long (#5.5.2)"
    assert await one.ask("AUTH PLAIN") == "334 "
    assert await one.ask("A" * (1 << 20)) == "501 malformed auth input (#5.5.4)"
    assert await one.ask("AUTH PLAIN") == "334 "
    assert await one.ask("A" * 12289) == "501 malformed auth input (#5.5.4)"
    assert await one.ask("NOOP") == "250 ok"


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-256"])
async def test_a_client_that_hangs_up_in_an_exchange_has_not_failed(users: Home, mechanism: str) -> None:
    plugin = await made(users, failures=1)
    one = Talk(plan=plan_of(plugin))
    assert (await one.ask(f"AUTH {mechanism}")).startswith("334 ")
    one.hang_up()
    await one.settled()
    assert one.is_closed
    assert len(plugin.failures) == 0


@settings(max_examples=200, deadline=None)
@given(line=st.binary(max_size=60), mechanism=st.sampled_from(["PLAIN", "LOGIN", "SCRAM-SHA-256"]))
def test_no_response_breaks_a_session(line: bytes, mechanism: str, users: Home) -> None:
    async def run() -> None:
        one = await talk(users, failures=0)
        for given_line in (base64.b64encode(line), line.replace(b"\n", b"").replace(b"\r", b"")):
            one.send(b"AUTH %b %b\r\n" % (mechanism.encode(), given_line))
            await one.settled()
        if not one.said.rsplit(b"\r\n", 2)[-2].startswith((b"5", b"334")):
            raise AssertionError(one.said)

    original = hashes.matches
    hashes.matches = lambda stored, password: False
    try:
        asyncio.run(run())
    finally:
        hashes.matches = original


def test_names_that_could_not_stand_in_an_environment_are_malformed() -> None:
    assert check_name("jörg@example.org".encode()) == "jörg@example.org".encode()
    for name in (b"", b"a\0b", b"a\nb", b"\x1b[2J", b"a\x7f", b"() { :;}; x", b"x" * 513):
        with pytest.raises(Malformed):
            check_name(name)


# -- what a login brings


async def test_whoever_logged_in_may_relay_and_is_named_in_the_place_of_his_address(users: Home) -> None:
    one = await talk(users, {"RELAYCLIENT": "@suffix", "TCPREMOTEINFO": "ident"}, {"remote_info": "ident"})
    assert await one.ask("EHLO c") and await one.ask(plain()) == "235 ok, go ahead (#2.0.0)"
    one.send(b"MAIL FROM:<a@b>\r\nRCPT TO:<x@foreign.example>\r\nDATA\r\nSubject: t\r\n\r\nx\r\n.\r\n")
    await one.settled()
    (message,) = one.queue.messages
    assert message.recipients == [b"x@foreign.example"]
    assert message.message.startswith(b"Received: (HELO c) (joe)\n  by mx.example.org with ESMTPA; ")
    assert b"Authentication-Results: mx.example.org;\n\tauth=pass smtp.auth=joe\n" in message.message
    wanted = {
        "RELAYCLIENT": "",
        "SMTPAUTHMETHOD": "plain",
        "SMTPAUTHUSER": "joe",
        "SMTP_AUTH_USER": "joe",
        "TCPREMOTEINFO": "joe",
    }
    assert wanted.items() <= message.environment.items()


async def test_a_site_may_show_its_clients_and_keep_them_from_relaying(users: Home) -> None:
    one = await talk(users, hide_client=False, relay=False)
    await one.ask(plain())
    assert one.session.login is not None
    one.send(b"MAIL FROM:<a@b>\r\nRCPT TO:<x@foreign.example>\r\nRCPT TO:<x@example.org>\r\nDATA\r\n\r\nx\r\n.\r\n")
    await one.settled()
    assert one.queue.messages[0].recipients == [b"x@example.org"]
    assert one.queue.messages[0].message.startswith(b"Received: from unknown (joe@192.0.2.7)\n")


async def test_mail_without_a_login_is_refused_where_one_is_required(users: Home) -> None:
    for environment, values in (
        ({}, {"required": True}),
        ({"REQUIRE_AUTH": ""}, {}),
        ({"REQUIREAUTH": ""}, {}),
        ({"SMTPAUTH": "!"}, {}),
    ):
        one = await talk(users, environment, **values)
        assert one.send(b"MAIL FROM:<a@b>\r\n") == b"530 Authorization required (#5.7.1) \r\n"
        assert one.send(b"MAIL nonsense\r\n") == b"530 Authorization required (#5.7.1) \r\n"
        assert await one.ask(plain()) == "235 ok, go ahead (#2.0.0)"
        assert one.say("MAIL FROM:<a@b>") == "250 ok"


async def test_required_without_a_back_end_lets_nobody_in(users: Home) -> None:
    one = await talk(users, required=True, passwords="control/nothing")
    assert one.say("MAIL FROM:<a@b>").startswith("530 ")
    assert one.say(plain()) == "503 auth not available (#5.3.3)"


@pytest.mark.parametrize(
    ("sender", "allowed"),
    [
        (b"joe@example.org", True),
        (b"JOE@example.org", False),
        (b"", False),
        (b"sales@example.org", True),
        (b"Sales@Example.Org", True),
        (b"any@shop.example", True),
        (b"any@not-shop.example", False),
        (b"list@lists.example", True),
        (b"eve@example.org", False),
    ],
)
def test_a_login_may_send_as_itself_and_as_the_table_says(sender: bytes, allowed: bool) -> None:
    lines = (
        "joe@example.org:sales@example.org",
        "joe@example.org:@shop.example",
        "*:@lists.example",
        "eve:eve@example.org",
    )
    assert SendAs(lines).allows(b"joe@example.org", sender) is allowed
    assert SendAs(["joe@example.org:<>"]).allows(b"joe@example.org", b"")
    assert not SendAs(()).allows(b"", b"")


def test_a_table_line_that_cannot_be_read_is_told() -> None:
    with pytest.raises(ValueError, match="expected LOGIN:SENDER"):
        SendAs(["joe"])
    assert make_plugin(Auth, send_as=("joe",)).check() == ["sendas: expected LOGIN:SENDER, not 'joe'"]


async def test_only_a_login_is_held_to_its_sender(users: Home) -> None:
    one = await talk(users, {"FORCEAUTHMAILFROM": "1"})
    assert one.say("MAIL FROM:<a@b>") == "250 ok"
    one.say("RSET")
    await one.ask(plain())
    assert one.say("MAIL FROM:<a@b>") == "503 from and auth not the same (#5.5.1)"
    assert one.say("MAIL FROM:<joe>") == "250 ok"


@pytest.mark.parametrize(
    ("parameter", "info"),
    [("joe", "joe"), ("a+3Db", "a=b"), ("a+2bb", "a+b"), ("<>", "unknown"), ("a+0Ab+00", "a?b?"), ("+ZZ", "+ZZ")],
)
async def test_who_submitted_elsewhere_is_noted_where_nothing_better_is_known(
    users: Home, parameter: str, info: str
) -> None:
    one = await talk(users)
    assert one.say(f"MAIL FROM:<a@b> AUTH={parameter}") == "250 ok"
    assert one.session.remote_info == one.session.environment["TCPREMOTEINFO"] == info
    assert one.session.login is None
    assert not one.session.may_relay


async def test_each_message_may_name_its_own_submitter_until_somebody_logs_in(users: Home) -> None:
    one = await talk(users)
    seen = []
    for parameter in (" AUTH=joe", " AUTH=ann", ""):
        one.say(f"MAIL FROM:<a@b>{parameter}")
        seen.append(one.session.remote_info)
        one.say("RSET")
    await one.ask(plain())
    one.say("MAIL FROM:<a@b> AUTH=ann")
    assert [*seen, one.session.remote_info] == ["joe", "ann", "ann", "joe"]


async def test_what_tcpserver_says_of_the_client_counts_more_than_what_the_client_says(users: Home) -> None:
    one = await talk(users)
    one.session.remote_info = "ident"
    one.say("MAIL FROM:<a@b> AUTH=joe")
    assert one.session.remote_info == "ident"


async def test_a_user_whom_the_rules_name_is_hidden_like_one_who_logged_in(users: Home) -> None:
    one = await talk(users, {"SMTPAUTHUSER": "joe"})
    one.say("MAIL FROM:<a@b>")
    assert one.session.hides_client


# -- guessing


async def test_a_wrong_password_costs_time_and_says_nothing(users: Home) -> None:
    one = await talk(users, delay=0.3)
    began = time.monotonic()
    assert await one.ask(plain(b"\0joe\0wrong")) == "535 authentication failed (#5.7.1)"
    assert time.monotonic() - began >= 0.3
    assert await one.ask(plain(b"\0nobody\0wrong")) == "535 authentication failed (#5.7.1)"
    assert one.say("RCPT TO:<x@foreign.example>").startswith("503 ")


async def test_a_thousand_guesses_over_ten_connections_are_twenty(users: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[bytes] = []
    monkeypatch.setattr(hashes, "matches", lambda stored, password: tried.append(password))
    plugin = await made(users)
    replies = []
    for connection in range(10):
        one = Talk(plan=plan_of(plugin))
        for number in range(100):
            replies.append(await one.ask(plain(b"\0joe\0%d" % (connection * 100 + number))))
            if one.is_closed:
                break
    assert len(tried) == 20
    assert replies.count("535 authentication failed (#5.7.1)") == 20
    assert replies.count("421 too many failed logins, try again later (#4.7.0)") == 10
    other = Talk(plan=plan_of(plugin), remote_ip="192.0.2.8")
    monkeypatch.undo()
    assert await other.ask(plain()) == "235 ok, go ahead (#2.0.0)"


async def test_guesses_at_the_same_time_count_before_they_are_answered(users: Home) -> None:
    plugin = await made(users, failures=3)
    talks = [Talk(plan=plan_of(plugin)) for _ in range(5)]
    answers = [await one.ask("AUTH PLAIN") for one in talks]
    assert [answer[:3] for answer in answers] == ["334", "334", "334", "421", "421"]
    for one in talks[:3]:
        assert await one.ask("*") == "501 auth exchange canceled (#5.0.0)"
    assert await Talk(plan=plan_of(plugin)).ask(plain()) == "235 ok, go ahead (#2.0.0)"


def test_the_count_ends_with_its_window_and_takes_bounded_memory() -> None:
    now = [0.0]
    failures = Failures(lambda: now[0])
    assert [failures.begin("a", 2, 60) for _ in range(3)] == [True, True, False]
    now[0] = 59.0
    assert not failures.begin("a", 2, 60)
    now[0] = 60.0
    assert failures.begin("a", 2, 60)
    assert all(failures.begin("b", 0, 60) for _ in range(100))
    for number in range(MAX_ADDRESSES + 100):
        failures.begin(str(number), 2, 60)
    assert len(failures) == MAX_ADDRESSES
    failures.take_back("nobody")


def test_an_ipv6_customer_is_one_address() -> None:
    assert address_key("2001:db8:1:2::3") == address_key("2001:db8:1:2:ffff::") != address_key("2001:db8:1:3::")
    assert address_key("::ffff:192.0.2.1") == address_key("192.0.2.1") == "192.0.2.1"
    assert address_key("unknown") == "unknown"


async def test_an_unknown_user_takes_as_long_as_a_wrong_password(users: Home) -> None:
    plugin = await made(users)
    file = plugin.back_end(Session())
    assert isinstance(file, PasswordFile)

    async def seconds(name: bytes) -> float:
        began = time.process_time()
        with pytest.raises(Ended):
            await file.compare(file.users(), name, b"wrong")
        return time.process_time() - began

    pairs = [(await seconds(b"joe"), await seconds(b"nobody")) for _ in range(7)]
    known, unknown = (statistics.median(column) for column in zip(*pairs, strict=True))
    assert 0.5 < known / unknown < 2


async def test_a_user_without_an_account_gets_the_same_scram_salt_every_time(users: Home) -> None:
    def salt(reply: str) -> str:
        return base64.b64decode(reply[4:]).decode().split(",s=")[1]

    hello = {name: encoded(b"n,,n=%b,r=abcdefgh" % name) for name in (b"joe", b"nobody", b"other")}
    seen: dict[bytes, set[str]] = {name: set() for name in hello}
    for _ in range(2):
        for name, first in hello.items():
            one = await talk(users)
            seen[name].add(salt(await one.ask(f"AUTH SCRAM-SHA-256 {first}")))
            await one.ask("*")
    assert all(len(salts) == 1 for salts in seen.values())
    assert len(set.union(*seen.values())) == 3


async def test_what_was_proved_before_tls_is_forgotten(users: Home) -> None:
    from pluq_tls import Tls

    class Starts(Tls):
        async def starttls(self, session: Session, argument: bytes, connection: Any) -> bytes | None:
            connection.reply(b"220 ready\r\n")
            await connection.start_tls(None)
            return None

    plan = plan_of(make_plugin(Starts), await made(users))
    one = Talk(plan=plan)
    assert await one.ask(plain()) == "235 ok, go ahead (#2.0.0)"
    one.send(b"MAIL FROM:<a@b>\r\nSTARTTLS\r\n" + plain().encode() + b"\r\n")
    await one.settled()
    assert one.session.tls is not None
    assert one.session.login is None
    assert one.session.remote_info is None
    assert not one.session.may_relay
    assert {"SMTPAUTHUSER", "SMTP_AUTH_USER", "TCPREMOTEINFO"}.isdisjoint(one.session.environment)
    assert one.say("RCPT TO:<x@foreign.example>") == "503 MAIL first (#5.5.1)"


async def test_passwords_and_digests_are_in_no_log(users: Home) -> None:
    lines: list[str] = []
    plugin = make_plugin(Auth, home=users, log=lines.append, delay=0.0, without_tls=True)
    plugin.failures = Failures()
    await plugin.start()
    one = Talk(plan=plan_of(plugin, log=lines.append), log=lines.append)
    for password in (b"hunter2", b"secret"):
        await one.ask(plain(b"\0joe\0" + password))
    text = "\n".join(lines)
    assert "auth-failed type=plain" in text
    assert "auth-success type=plain" in text
    for secret in (b"hunter2", b"secret"):
        assert secret.decode() not in text
        assert encoded(b"\0joe\0" + secret) not in text


def digest(challenge: bytes, password: bytes = b"secret") -> bytes:
    return hmac.new(password, challenge, "md5").hexdigest().encode()


async def test_the_name_of_a_cram_response_is_all_that_stands_before_the_last_blank() -> None:
    from pluq_auth.dialogue import Dialogue
    from pluq_auth.mechanisms import cram

    class Client:
        def reply(self, line: bytes) -> None: ...

        async def read_line(self) -> bytes:
            return base64.b64encode(b"joe doe  00")

    assert await cram(Dialogue(Client(), None), b"<1@x>") == (b"joe doe ", b"00")


def test_cram_challenges_are_never_the_same() -> None:
    from pluq_auth.mechanisms import new_challenge

    made_now = {new_challenge("mx.example.org") for _ in range(1000)}
    assert len(made_now) == 1000
    assert all(one.startswith(b"<%d" % os.getpid()) and one.endswith(b"@mx.example.org>") for one in made_now)
    assert digest(made_now.pop()) != digest(made_now.pop())
