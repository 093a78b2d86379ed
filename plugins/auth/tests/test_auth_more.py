"""auth: crypt(3) hashes, AUTH_CDB, logins bound to a TLS connection, and failures counted by all processes together."""

from __future__ import annotations

import base64
import datetime
import multiprocessing
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scramp import ScramClient

from pluq.config import Home
from pluq.hookspecs import Tls
from pluq.store.cdb import write_cdb
from pluq.testing.plugins import make_plugin, plan_of
from pluq.testing.smtp_session import Talk
from pluq_auth import Auth, crypt3, hashes
from pluq_auth.binding import TYPE, binding_of, end_point
from pluq_auth.cdb import parse_entry
from pluq_auth.limits import Failures
from pluq_auth.passwd import passwd
from pluq_auth.settings import mechanism
from pluq_auth.shared import SETS, SIZE, WAYS, SharedFailures

OK = "235 ok, go ahead (#2.0.0)"
FAILED = "535 authentication failed (#5.7.1)"


def crypted(kind: str) -> bytes:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    made = subprocess.run(["openssl", "passwd", kind, "-salt", "abcdefgh", "secret"], capture_output=True, check=True)
    return made.stdout.strip()


def encoded(text: bytes) -> str:
    return base64.b64encode(text).decode()


def plain(user: str, password: str) -> str:
    return "AUTH PLAIN " + encoded(f"\0{user}\0{password}".encode())


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "control").mkdir()
    return Home(str(tmp_path))


async def talk(home: Home, environment: dict[str, str] | None = None, tls: Tls | None = None, **values: Any) -> Talk:
    plugin = make_plugin(Auth, home=home, **{"delay": 0.0, "without_tls": True, **values})
    await plugin.start()
    plugin.failures = Failures()
    one = Talk(plan=plan_of(plugin), environment=environment)
    one.session.tls = tls
    return one


# -- crypt(3)

needs_crypt = pytest.mark.skipif(not crypt3.is_known(b"$6$abcdefgh$"), reason="the system has no libcrypt")


@needs_crypt
@pytest.mark.parametrize("kind", ["-1", "-5", "-6"])
def test_hashes_of_the_system_are_understood(kind: str) -> None:
    stored = crypted(kind)
    assert hashes.complaint(stored) is None
    assert hashes.matches(stored, b"secret")
    assert not hashes.matches(stored, b"Secret")
    assert not hashes.matches(stored, b"sec\0ret")
    assert not hashes.matches(stored[:-1], b"secret")


@needs_crypt
def test_what_is_no_hash_matches_nobody() -> None:
    for stored in (b"", b"*", b"!", b"x", b"!$6$abcdefgh$", b"$zz$x", b"secret", b"a\0b"):
        assert hashes.complaint(stored) is not None or stored == b"secret", stored
        assert not hashes.matches(stored, stored), stored


@needs_crypt
@given(st.binary(max_size=60), st.binary(max_size=30))
def test_nothing_breaks_the_comparison(stored: bytes, password: bytes) -> None:
    if len(stored) < 13 or stored.startswith(b"$"):
        crypt3.matches(stored[:12], password)


@needs_crypt
async def test_the_file_of_passwords_may_hold_hashes_of_the_system(home: Home) -> None:
    Path(home.control("passwords")).write_bytes(b"joe:" + crypted("-6") + b"\n")
    assert await (await talk(home)).ask(plain("joe", "secret")) == OK
    assert await (await talk(home)).ask(plain("joe", "wrong")) == FAILED


# -- AUTH_CDB


@pytest.fixture
def database(home: Home) -> str:
    stored = crypted("-6")
    users = {
        b"joe": stored + b',QUOTA="10 MB",RBLSMTPD=""',
        b"old": stored + b',PASSWORD_EXPIRES="1000"',
        b"new": stored + b',PASSWORD_EXPIRES="99999999999"',
        b"odd": stored + b",nonsense",
    }
    write_cdb(f"{home.path}/auth.cdb", users.items())
    return "auth.cdb"


@needs_crypt
async def test_a_database_decides_and_sets_what_it_says(home: Home, database: str) -> None:
    one = await talk(
        home, {"AUTH_CDB": database, "AUTH_SET_GROUP": "staff", "AUTH_UNSET_SPFBEHAVIOR": "", "SPFBEHAVIOR": "3"}
    )
    assert "AUTH LOGIN PLAIN" in await one.ask("EHLO c.example")
    assert "GROUP" not in one.session.environment
    assert await one.ask(plain("joe", "secret")) == OK
    environment = one.session.environment
    assert (environment["QUOTA"], environment["RBLSMTPD"], environment["GROUP"]) == ("10 MB", "", "staff")
    assert "SPFBEHAVIOR" not in environment
    assert one.session.may_relay


@needs_crypt
@pytest.mark.parametrize(
    ("user", "password", "reply", "why"),
    [
        ("joe", "wrong", FAILED, "(bad password)"),
        ("nobody", "secret", FAILED, "(unknown user)"),
        ("old", "secret", FAILED, "(password expired)"),
        ("new", "secret", OK, "auth-success"),
        ("odd", "secret", "454 oops, unable to read AUTH_CDB and I can't auth (#4.3.0)", "auth.cdb"),
    ],
)
async def test_each_user_of_a_database(
    home: Home, database: str, user: str, password: str, reply: str, why: str
) -> None:
    log: list[str] = []
    plugin = make_plugin(Auth, home=home, log=log.append, delay=0.0, without_tls=True, cdb=database)
    plugin.failures = Failures()
    one = Talk(plan=plan_of(plugin))
    assert await one.ask(plain(user, password)) == reply
    assert why in "".join(log)
    assert "secret" not in "".join(log)


async def test_a_database_that_is_not_there_is_nobodys_answer(home: Home) -> None:
    one = await talk(home, cdb="missing.cdb")
    assert (await one.ask(plain("joe", "secret"))).startswith("454 ")


def test_variables_are_told_from_commas_of_a_hash() -> None:
    entry = parse_entry(b'$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA,A="1,2",B=""')
    assert entry.password == b"$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA"
    assert entry.variables == {"A": "1,2", "B": ""}
    with pytest.raises(ValueError, match="expected"):
        parse_entry(b'x,A="1"rest')


# -- channel binding


@pytest.fixture
def certificate() -> bytes:
    from pluq_tls.selfsigned import make_certificate

    return make_certificate(["mx.example.org"], 3650, datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC))


def client_of(data: bytes | None) -> ScramClient:
    if data is None:
        return ScramClient(["SCRAM-SHA-256"], "joe", "secret")
    return ScramClient(["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"], "joe", "secret", channel_binding=(TYPE, data))


async def scram(one: Talk, client: ScramClient, first: str | None = None) -> str:
    first = first or client.get_client_first()
    reply = await one.ask(f"AUTH {client.mechanism_name} " + encoded(first.encode()))
    if not reply.startswith("334 "):
        return reply
    client.set_server_first(base64.b64decode(reply[4:]).decode())
    reply = await one.ask(encoded(client.get_client_final().encode()))
    if not reply.startswith("334 "):
        return reply
    client.set_server_final(base64.b64decode(reply[4:]).decode())
    return await one.ask("")


@pytest.fixture
def joe(home: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    from io import StringIO

    monkeypatch.setattr("sys.stdin", StringIO("secret\n"))
    assert passwd(["--home", home.path, "joe"]) == 0
    return home


BOUND = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN")


async def test_a_login_is_tied_to_the_certificate_that_the_client_was_shown(joe: Home, certificate: bytes) -> None:
    tls = Tls("TLSv1.3", "X", certificate=certificate)
    data = end_point(certificate)
    assert data is not None
    one = await talk(joe, tls=tls, mechanisms=BOUND)
    assert "250 AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN" in await one.ask("EHLO c.example")
    assert await scram(one, client_of(data)) == OK
    assert await scram(await talk(joe, tls=tls, mechanisms=BOUND), client_of(None)) == OK


async def test_a_login_through_somebody_elses_certificate_fails(joe: Home, certificate: bytes) -> None:
    one = await talk(joe, tls=Tls("TLSv1.3", "X", certificate=certificate), mechanisms=BOUND)
    assert await scram(one, client_of(b"x" * 32)) == FAILED


async def test_a_client_that_was_told_there_is_no_binding_is_refused(joe: Home, certificate: bytes) -> None:
    one = await talk(joe, tls=Tls("TLSv1.3", "X", certificate=certificate), mechanisms=BOUND)
    client = client_of(None)
    first = client.get_client_first()
    assert first.startswith("n,,")
    assert await scram(one, client, "y" + first[1:]) == FAILED


async def test_a_binding_of_another_type_is_refused(joe: Home, certificate: bytes) -> None:
    data = end_point(certificate)
    assert data is not None
    one = await talk(joe, tls=Tls("TLSv1.3", "X", certificate=certificate), mechanisms=BOUND)
    client = client_of(data)
    first = client.get_client_first().replace(TYPE, "tls-exporter")
    assert await scram(one, client, first) == FAILED


async def test_it_is_not_offered_without_being_named_or_without_a_certificate(joe: Home, certificate: bytes) -> None:
    for tls, values in (
        (None, {"mechanisms": BOUND}),
        (Tls("TLSv1.3", "X"), {"mechanisms": BOUND}),
        (Tls("TLSv1.3", "X", certificate=certificate), {}),
    ):
        one = await talk(joe, tls=tls, **values)
        assert "PLUS" not in await one.ask("EHLO c.example")
        assert (await one.ask("AUTH SCRAM-SHA-256-PLUS")).startswith("504")


def test_what_is_no_certificate_binds_nothing() -> None:
    assert binding_of(None) is None
    assert binding_of(Tls("TLSv1.3", "X", certificate=b"nonsense")) is None


def test_the_binding_is_what_openssl_computes(tmp_path: Path, certificate: bytes) -> None:
    (tmp_path / "pem").write_bytes(certificate)
    done = subprocess.run(
        ["openssl", "x509", "-in", str(tmp_path / "pem"), "-noout", "-fingerprint", "-sha256"],
        capture_output=True,
        text=True,
        check=True,
    )
    fingerprint = bytes.fromhex(re.sub(r"^.*=|:|\s", "", done.stdout))
    assert end_point(certificate[certificate.index(b"-----BEGIN CERT") :]) == fingerprint


# -- failures of all processes


def test_all_processes_count_together(tmp_path: Path) -> None:
    path = str(tmp_path / "failures")
    with multiprocessing.get_context("fork").Pool(4) as pool:
        taken = pool.map(attempt, [path] * 40)
    assert sum(taken) == 10
    assert not SharedFailures(path).begin("192.0.2.7", 10, 600)
    assert SharedFailures(path).begin("192.0.2.8", 10, 600)


def attempt(path: str) -> bool:
    return SharedFailures(path).begin("192.0.2.7", 10, 600)


def test_a_window_ends_and_what_was_no_failure_is_taken_back(tmp_path: Path) -> None:
    now = [1_800_000_000.0]
    failures = SharedFailures(str(tmp_path / "failures"), lambda: now[0])
    assert [failures.begin("a", 2, 60) for _ in range(3)] == [True, True, False]
    failures.take_back("a")
    assert failures.begin("a", 2, 60)
    assert not failures.begin("a", 2, 60)
    now[0] += 61
    assert failures.begin("a", 2, 60)
    assert all(failures.begin("b", 0, 60) for _ in range(100))
    failures.take_back("nobody")


def test_many_addresses_never_grow_the_file_and_the_newest_are_known(tmp_path: Path) -> None:
    path = tmp_path / "failures"
    failures = SharedFailures(str(path))
    for number in range(SETS * WAYS * 2):
        failures.begin(str(number), 1, 600 + number)
    assert path.stat().st_size == SIZE
    assert not failures.begin(str(SETS * WAYS * 2 - 1), 1, 600)


@given(st.binary(max_size=200), st.integers(0, SIZE - 200))
def test_anything_may_be_in_the_file(data: bytes, offset: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/failures"
        SharedFailures(path)
        with open(path, "r+b") as file:
            file.seek(offset)
            file.write(data)
        failures = SharedFailures(path)
        for key in ("a", "b"):
            failures.begin(key, 5, 60)
            failures.take_back(key)


def test_a_file_of_another_size_is_made_anew_and_a_link_is_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "failures"
    path.write_bytes(b"short")
    assert SharedFailures(str(path)).begin("a", 1, 60)
    assert path.stat().st_size == SIZE
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(OSError, match="symbolic"):
        SharedFailures(str(tmp_path / "link"))


async def test_a_plugin_with_a_folder_shares_its_count_and_one_without_still_counts(home: Home) -> None:
    os.makedirs(f"{home.path}/state/smtpd")
    plugin = make_plugin(Auth, home=home)
    await plugin.start()
    assert isinstance(plugin.failures, SharedFailures)
    log: list[str] = []
    other = make_plugin(Auth, home=Home("/nonexistent"), log=log.append)
    await other.start()
    assert isinstance(other.failures, Failures)
    assert log == []


def test_a_mechanism_is_one_that_there_is_in_either_case() -> None:
    assert mechanism("cram-md5") == "CRAM-MD5"
    with pytest.raises(ValueError, match=r"'CRAM_MD5' is none of PLAIN, .*; did you mean 'CRAM-MD5'\?"):
        mechanism("CRAM_MD5")
