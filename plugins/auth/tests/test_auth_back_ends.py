"""auth: who decides about a login: programs, the file of passwords, Dovecot."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import stat
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scramp import ScramClient

from pluq import Session
from pluq.config import Home
from pluq.errors import ConfigError
from pluq.testing.plugins import make_plugin, plan_of
from pluq.testing.smtp_session import Talk
from pluq.testing.stack import wait_until
from pluq_auth import AT_A_TIME, Auth, hashes
from pluq_auth.dialogue import Refused, Unavailable
from pluq_auth.dovecot import escape, parse_fields, unescape
from pluq_auth.limits import Failures
from pluq_auth.passwd import passwd
from pluq_auth.program import FORMS, Program
from pluq_auth.users import PasswordFile, parse_users

OK = "235 ok, go ahead (#2.0.0)"
FAILED = "535 authentication failed (#5.7.1)"


def encoded(text: bytes) -> str:
    return base64.b64encode(text).decode()


async def talk(home: Home, session: dict[str, Any] | None = None, **values: Any) -> Talk:
    plugin = make_plugin(Auth, home=home, **{"delay": 0.0, "without_tls": True, **values})
    plugin.failures = Failures()
    await plugin.start()
    return Talk(plan=plan_of(plugin), **(session or {}))


async def scram(one: Talk, name: str, password: str) -> str:
    """Log in as a client of SCRAM-SHA-256; return the last reply."""
    client = ScramClient(["SCRAM-SHA-256"], name, password)
    reply = await one.ask("AUTH SCRAM-SHA-256 " + encoded(client.get_client_first().encode()))
    client.set_server_first(base64.b64decode(reply[4:]).decode())
    reply = await one.ask(encoded(client.get_client_final().encode()))
    if not reply.startswith("334 "):
        return reply
    client.set_server_final(base64.b64decode(reply[4:]).decode())
    return await one.ask("")


# -- programs


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], str]:
    """Make an executable shell script; FOLDER stands for the test's folder."""

    def make(text: str) -> str:
        path = tmp_path / "program"
        path.write_text("#!/bin/sh\n" + text.replace("FOLDER", str(tmp_path)) + "\n")
        path.chmod(0o755)
        return str(path)

    return make


def program(*argv: str, seconds: float = 20.0) -> Program:
    return Program(argv, "qmail", seconds, "/")


@pytest.mark.parametrize(
    ("form", "password", "cram"),
    [
        ("qmail", b"u\0s\0\0", b"u\0s\0<c>\0"),
        ("jms", b"u\0s\0\0", b"u\0s\0<c>\0"),
        ("cmd5checkpw", b"u\0s\0\0", b"u\0<c>\0s\0"),
        ("indimail", b"u\0s\0\0\2\0", b"u\0<c>\0s\0\3\0"),
    ],
)
def test_each_family_of_programs_reads_its_own_order(form: str, password: bytes, cram: bytes) -> None:
    def data(challenge: bytes, mechanism: str) -> bytes:
        return b"".join(one + b"\0" for one in FORMS[form](b"u", b"s", challenge, mechanism, True))

    assert data(b"", "PLAIN") == password
    assert data(b"<c>", "CRAM-MD5") == cram
    assert FORMS["qmail"](b"u", b"s", b"", "PLAIN", False) == (b"u", b"s")
    assert FORMS["checkpassword"](b"u", b"s", b"", "PLAIN", False)[2].startswith(b"<%d." % os.getpid())


async def test_a_program_gets_the_secret_on_descriptor_3_and_nothing_of_the_client(
    script: Callable[[str], str], tmp_path: Path
) -> None:
    path = script('cd FOLDER; cat <&3 > fd3; cat > stdin; echo noise; env > env; exec "$@"')
    assert await program(path, "/bin/true").ask(b"joe\0hunter2\0", {"TCPREMOTEIP": "192.0.2.7"}) == 0
    assert (tmp_path / "fd3").read_bytes() == b"joe\0hunter2\0"
    assert (tmp_path / "stdin").read_bytes() == b""
    assert "TCPREMOTEIP=192.0.2.7" in (tmp_path / "env").read_text()
    assert "hunter2" not in (tmp_path / "env").read_text()


@pytest.mark.parametrize("code", [0, 1, 2, 3, 111])
async def test_exit_codes(script: Callable[[str], str], code: int) -> None:
    assert await program(script(f"exit {code}")).ask(b"u\0p\0", {}) == code


async def test_a_crash_and_a_program_that_hangs_are_no_answer(script: Callable[[str], str], tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="problem with child"):
        await program(script("kill -9 $$")).ask(b"u\0p\0", {})
    path = script("sleep 100 & echo $! > FOLDER/pid; wait")
    began = time.monotonic()
    with pytest.raises(Unavailable):
        await program(path, seconds=0.5).ask(b"u\0p\0", {})
    assert time.monotonic() - began < 50
    wait_until(lambda: is_gone(int((tmp_path / "pid").read_text())), "the end of what it started")


def is_gone(pid: int) -> bool:
    """Say whether a process has ended, also where nobody has waited for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


async def test_a_client_that_goes_ends_its_program(script: Callable[[str], str], tmp_path: Path) -> None:
    asking = asyncio.ensure_future(program(script("echo $$ > FOLDER/pid; exec sleep 100")).ask(b"u\0p\0", {}))
    await asyncio.to_thread(
        wait_until, lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "a start"
    )
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_a_program_that_is_not_there_refuses_everybody(tmp_path: Path) -> None:
    logged: list[str] = []
    one = await talk(Home(str(tmp_path)), log=logged.append, program=(str(tmp_path / "nothing"),))
    assert await one.ask("AUTH PLAIN " + encoded(b"\0joe\0secret")) == FAILED
    assert logged[-1].endswith(f"user=<joe> {tmp_path}/nothing: No such file or directory")
    assert make_plugin(Auth, program=("/nonexistent/checkpw",)).check() == [
        "auth.program: /nonexistent/checkpw cannot be run"
    ]


async def test_the_program_of_the_configuration_decides(script: Callable[[str], str], tmp_path: Path) -> None:
    path = script('test "$(tr "\\000" / <&3)" = joe/secret/ && exec "$@"')
    one = await talk(Home(str(tmp_path)), program=(path, "/bin/true"), protocol="qmail", smtpauth="")
    assert await one.ask("AUTH PLAIN " + encoded(b"\0joe\0wrong")) == FAILED
    assert await one.ask("AUTH PLAIN " + encoded(b"\0joe\0" + b"x" * 600)) == "501 malformed auth input (#5.5.4)"
    assert await one.ask("AUTH PLAIN " + encoded(b"\0joe\0secret")) == OK


async def test_crashes_are_temporary_and_do_not_count_as_guesses(script: Callable[[str], str], tmp_path: Path) -> None:
    one = await talk(Home(str(tmp_path)), program=(script("kill -9 $$"),), failures=1)
    for _ in range(3):
        reply = await one.ask("AUTH PLAIN " + encoded(b"\0joe\0secret"))
        assert reply == "454 oops, problem with child and I can't auth (#4.3.0)"


async def test_exit_3_of_indimail_accepts_without_relaying(script: Callable[[str], str], tmp_path: Path) -> None:
    one = await talk(Home(str(tmp_path)), program=(script("exit 3"),), protocol="indimail")
    assert await one.ask("AUTH PLAIN " + encoded(b"\0joe\0secret")) == OK
    assert one.session.login is not None
    assert not one.session.may_relay


# -- the file of passwords


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "control").mkdir()
    return Home(str(tmp_path))


def set_password(home: Home, monkeypatch: pytest.MonkeyPatch, user: str, password: str, *more: str) -> int:
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO(password + "\n"))
    return passwd(["--home", home.path, *more, user])


async def test_a_password_that_was_set_lets_its_user_in_by_every_mechanism(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set_password(home, monkeypatch, "joe@example.org", "pässwörd") == 0
    text = "\0joe@example.org\0pässwörd".encode()
    assert await (await talk(home)).ask("AUTH PLAIN " + encoded(text)) == OK
    one = await talk(home)
    await one.ask("AUTH LOGIN")
    await one.ask(encoded(b"joe@example.org"))
    assert await one.ask(encoded("pässwörd".encode())) == OK
    one = await talk(home)
    assert await scram(one, "joe@example.org", "pässwörd") == OK
    assert one.session.login is not None
    assert one.session.login.user == b"joe@example.org"
    assert await scram(await talk(home), "joe@example.org", "wrong") == FAILED
    assert await scram(await talk(home), "nobody", "pässwörd") == FAILED


async def test_a_server_that_runs_sees_changes_and_defers_while_the_file_is_broken(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_password(home, monkeypatch, "joe", "old")
    one = await talk(home, failures=0)
    login = {word: "AUTH PLAIN " + encoded(b"\0joe\0" + word) for word in (b"old", b"new")}
    assert await one.ask(login[b"new"]) == FAILED
    set_password(home, monkeypatch, "joe", "new")
    assert await one.ask(login[b"old"]) == FAILED
    path = Path(home.control("passwords"))
    good = path.read_bytes()
    path.write_bytes(good + b"eve:plaintext\n")
    assert await one.ask(login[b"new"]) == "454 oops, unable to read the passwords and I can't auth (#4.3.0)"
    path.write_bytes(good)
    assert await one.ask(login[b"new"]) == OK


def test_the_file_is_closed_to_others_and_other_users_stay(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for user in ("ann", "joe", "ann"):
        assert set_password(home, monkeypatch, user, "secret") == 0
    path = home.control("passwords")
    assert stat.S_IMODE(os.stat(path).st_mode) & 0o137 == 0
    lines = Path(path).read_bytes().splitlines()
    assert [line.partition(b":")[0] for line in lines] == [b"", b"joe", b"ann"]
    assert b"secret" not in Path(path).read_bytes()
    assert passwd(["--home", home.path, "--delete", "joe"]) == 0
    assert list(parse_users(path, Path(path).read_bytes()).by_name) == [b"ann"]
    assert passwd(["--home", home.path, "--delete", "joe"]) == 100
    assert os.listdir(home.control_dir) == ["passwords"]


@pytest.mark.parametrize(
    ("user", "password"), [("a:b", "x"), ("#a", "x"), ("a\nb", "x"), ("", "x"), ("a", ""), ("a", "x" * 257)]
)
def test_what_cannot_be_stored_is_refused(
    home: Home, monkeypatch: pytest.MonkeyPatch, user: str, password: str
) -> None:
    assert set_password(home, monkeypatch, user, password) == 100
    assert not os.path.exists(home.control("passwords"))


def test_a_faulty_file_is_not_written_over_and_check_names_the_line(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(home.control("passwords")).write_bytes(b"# users\njoe:$zz$salt$hash\n")
    assert set_password(home, monkeypatch, "ann", "secret") == 111
    assert Path(home.control("passwords")).read_bytes() == b"# users\njoe:$zz$salt$hash\n"
    (fault,) = make_plugin(Auth, home=home).check()
    assert fault == f"{home.control('passwords')}:2: no password hash that is known here"


@pytest.mark.parametrize(
    "line",
    [
        b"joe",
        b"joe:$scrypt$ln=30,r=8,p=1$c2FsdA$aGFzaA",
        b"joe:$scrypt$ln=0,r=8,p=1$c2FsdA$aGFzaA",
        b"joe:$scrypt$x",
        b"joe:" + hashes.decoy() + b":4096,abc",
        b"joe:" + hashes.decoy() + b":1,YQ==,YQ==,YQ==",
    ],
)
def test_lines_that_make_no_sense_are_errors(line: bytes) -> None:
    with pytest.raises(ConfigError, match="passwords:1"):
        parse_users("passwords", line)


@given(st.binary(max_size=200))
def test_no_file_breaks_the_reader(data: bytes) -> None:
    with contextlib.suppress(ConfigError):
        parse_users("passwords", data)


def test_hashes_of_other_programs_are_understood_where_their_libraries_are_installed() -> None:
    argon2, bcrypt = pytest.importorskip("argon2"), pytest.importorskip("bcrypt")
    for stored in (argon2.PasswordHasher().hash("secret").encode(), bcrypt.hashpw(b"secret", bcrypt.gensalt(4))):
        assert hashes.complaint(stored) is None
        assert hashes.matches(stored, b"secret")
        assert not hashes.matches(stored, b"wrong")
        assert not hashes.matches(stored, b"x" * 100)


async def test_a_flood_of_logins_computes_two_hashes_at_a_time(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    running, most = 0, 0

    def slow(stored: bytes, password: bytes) -> bool:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.02)
        running -= 1
        return False

    monkeypatch.setattr(hashes, "matches", slow)
    file = PasswordFile("passwords", lambda path: b"", print, asyncio.Semaphore(AT_A_TIME))
    users = parse_users("passwords", b"")
    asked = [file.compare(users, b"joe", b"x") for _ in range(10)]
    assert all(isinstance(one, Refused) for one in await asyncio.gather(*asked, return_exceptions=True))
    assert most <= 2


# -- Dovecot


@given(st.binary())
def test_values_survive_dovecots_escapes_in_one_field_of_one_line(value: bytes) -> None:
    assert unescape(escape(value)) == value
    assert not {b"\t"[0], b"\n"[0], b"\r"[0], 0} & set(escape(value))


@given(st.lists(st.binary()))
def test_any_fields_are_parsed(fields: list[bytes]) -> None:
    parse_fields(fields)


HELLO = b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\nMECH\tANONYMOUS\nSPID\t1\nCUID\t2\nCOOKIE\tx\nDONE\n"


class FakeDovecot:
    """Answers each line that begins with AUTH or CONT with the next of `answers`."""

    def __init__(self, answers: list[bytes], hello: bytes = HELLO) -> None:
        self.answers = answers
        self.hello = hello
        self.heard: list[bytes] = []
        self.tasks: list[asyncio.Task[None]] = []

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tasks.append(asyncio.ensure_future(self.serve(reader, writer)))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self.hello)
        while line := await reader.readline():
            self.heard.append(line.rstrip(b"\n"))
            if line.startswith((b"AUTH", b"CONT")) and self.answers:
                writer.write(self.answers.pop(0))
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    @contextlib.asynccontextmanager
    async def running(self, path: Path) -> AsyncIterator[None]:
        server = await asyncio.start_unix_server(self.accept, path)
        try:
            yield
        finally:
            server.close()
            await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_dovecot_is_told_what_we_know_and_names_the_user(tmp_path: Path) -> None:
    dovecot = FakeDovecot([b"OK\t1\tuser=joe@example.org\n"])
    async with dovecot.running(tmp_path / "sock"):
        one = await talk(Home(str(tmp_path)), {"remote_ip": "192.0.2.7", "local_port": 587}, dovecot="sock")
        assert "250 AUTH PLAIN LOGIN" in one.say("EHLO c")
        assert await one.ask("AUTH PLAIN AGpvZQBzZWNyZXQ=") == OK
    assert one.session.login is not None
    assert one.session.login.user == b"joe@example.org"
    fields = dovecot.heard[-1].split(b"\t")
    assert fields[:4] == [b"AUTH", b"1", b"PLAIN", b"service=smtp"]
    assert {b"rip=192.0.2.7", b"lport=587"} <= set(fields)
    assert fields[-1] == b"resp=AGpvZQBzZWNyZXQ="
    assert b"secured" not in fields


async def test_challenges_and_responses_pass_through(tmp_path: Path) -> None:
    dovecot = FakeDovecot([b"CONT\t1\tVXNlcm5hbWU6\n", b"CONT\t1\tUGFzc3dvcmQ6\n", b"OK\t1\tuser=joe\n"])
    async with dovecot.running(tmp_path / "sock"):
        one = await talk(Home(str(tmp_path)), dovecot="sock")
        assert await one.ask("AUTH LOGIN") == "334 VXNlcm5hbWU6"
        assert await one.ask("am9l") == "334 UGFzc3dvcmQ6"
        assert await one.ask("c2VjcmV0") == OK
    assert dovecot.heard[-2:] == [b"CONT\t1\tam9l", b"CONT\t1\tc2VjcmV0"]


@pytest.mark.parametrize(
    ("answers", "reply"),
    [
        ([b"FAIL\t1\tuser=joe\n"], FAILED),
        ([b"FAIL\t2\tuser=other\nFAIL\t1\n"], FAILED),
        ([b"FAIL\t1\tuser=joe\ttemp\n"], "454 "),
        ([b"OK\t1\n"], "501 "),
        ([b"nonsense\n" * 200], "454 "),
        ([b"x" * 100_000], "454 "),
    ],
)
async def test_dovecots_refusals(tmp_path: Path, answers: list[bytes], reply: str) -> None:
    async with FakeDovecot(answers).running(tmp_path / "sock"):
        one = await talk(Home(str(tmp_path)), dovecot="sock")
        assert (await one.ask("AUTH PLAIN AGpvZQBzZWNyZXQ=")).startswith(reply)
        assert one.session.login is None


async def test_a_response_that_would_add_a_field_is_not_passed_on(tmp_path: Path) -> None:
    dovecot = FakeDovecot([])
    async with dovecot.running(tmp_path / "sock"):
        one = await talk(Home(str(tmp_path)), dovecot="sock")
        assert await one.ask("AUTH PLAIN x\tuser=root") == "501 malformed auth input (#5.5.4)"
    assert not any(line.startswith(b"AUTH") for line in dovecot.heard)


@pytest.mark.parametrize("hello", [b"", b"VERSION\t2\t0\nDONE\n", b"VERSION\t1\t2\n" + b"SPID\t1\n" * 200])
async def test_a_dovecot_that_is_not_there_or_does_not_speak_our_language_is_no_answer(
    tmp_path: Path, hello: bytes
) -> None:
    fake = FakeDovecot([b""], hello)
    async with fake.running(tmp_path / "sock"):
        one = await talk(Home(str(tmp_path)), dovecot="sock", timeout_program=0.3, smtpauth="")
        assert "AUTH" not in one.say("EHLO c")
    gone = await talk(Home(str(tmp_path)), dovecot="nothing", mechanisms=("PLAIN",))
    assert "AUTH" not in gone.say("EHLO c")
    assert make_plugin(Auth, home=Home(str(tmp_path)), dovecot="nothing").check() == [
        f"{tmp_path}/nothing: there is no socket of Dovecot"
    ]
    assert isinstance(gone.session, Session)
