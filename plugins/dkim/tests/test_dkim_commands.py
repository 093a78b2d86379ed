"""dkim: the commands, and the plugin within whole sessions."""

from __future__ import annotations

import asyncio
import re
import stat
import time
from pathlib import Path

import pytest

from pluq import Message, Session
from pluq.config import Home
from pluq.dns import Resolver
from pluq.signatures.finding import Code
from pluq.testing.dns import FakeDns, Fault
from pluq.testing.plugins import make_plugin, plan_of
from pluq.testing.remote_home import RemoteHome, make_job
from pluq.testing.smtp_peer import SmtpPeer
from pluq.testing.smtp_session import Talk
from pluq_dkim import Dkim
from pluq_dkim.commands import check, keygen
from pluq_dkim.verify import Policy, verify_message


def published(record: str) -> tuple[str, str]:
    """Return the name and the text in a line of a zone file."""
    return record.split(". ")[0], "".join(re.findall(r'"([^"]*)"', record))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "control").mkdir()
    return Home(str(tmp_path))


@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
def test_a_new_key_is_private_and_its_record_is_right(
    home: Home, kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert keygen(["Example.org", "--type", kind, "--selector", "s1", "--home", home.path]) == 0
    path = Path(home.control("domainkeys/example.org/s1"))
    out, err = capsys.readouterr()
    assert str(path) in err
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert path.with_name("s1.pub").read_text() == out
    assert out.startswith("s1._domainkey.example.org. IN TXT ")
    assert all(len(one) <= 255 for one in re.findall(r'"([^"]*)"', out))
    name, text = published(out)
    with FakeDns({name: [("TXT", text)]}) as server:
        monkeypatch.setenv("PLUQ_DNS_SERVER", server.text)
        assert check(["example.org", "s1", "--home", home.path]) == 0
    assert "the record is that of the private key" in capsys.readouterr().out


def test_a_key_is_never_overwritten(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert keygen(["example.org", "--type", "ed25519", "--home", home.path]) == 0
    path = Path(home.control("domainkeys/example.org/default"))
    before = path.read_bytes(), path.with_name("default.pub").read_bytes()
    capsys.readouterr()
    assert keygen(["example.org", "--type", "ed25519", "--home", home.path]) == 100
    assert (path.read_bytes(), path.with_name("default.pub").read_bytes()) == before
    out, err = capsys.readouterr()
    assert out == ""
    assert "never overwritten" in err


@pytest.mark.parametrize(
    "arguments",
    [["../etc"], ["localhost"], ["a b.test"], ["example.org", "--selector", "../x"], ["example.org", "--bits", "512"]],
)
def test_what_is_no_domain_no_selector_or_no_good_key_is_refused(home: Home, arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        keygen([*arguments, "--home", home.path])
    assert not Path(home.control("domainkeys")).exists()


def test_check_says_what_is_wrong(
    home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(zone: object) -> tuple[int, str]:
        with FakeDns({"default._domainkey.example.org": zone}) as server:  # type: ignore[dict-item]
            monkeypatch.setenv("PLUQ_DNS_SERVER", server.text)
            status = check(["example.org", "--home", home.path])
        return status, capsys.readouterr().err

    status, said = ask([])
    assert (status, "no private key; pluq dkim keygen example.org" in said) == (100, True)
    keygen(["example.org", "--home", home.path])
    right = published(capsys.readouterr().out)[1]
    keygen(["other.test", "--home", home.path])
    wrong = published(capsys.readouterr().out)[1]
    for zone, expected, words in (
        ([("TXT", right)], 0, ""),
        ([("TXT", wrong)], 100, "is not that of the private key; publish:"),
        ([], 100, "no such record; publish:"),
        ([("TXT", "v=DKIM1; p=")], 100, "p= empty"),
        (Fault.SERVFAIL, 111, "default._domainkey.example.org"),
    ):
        status, said = ask(zone)
        assert (status, words in said) == (expected, True), said


# -- whole sessions


MESSAGE = b"From: joe@example.org\r\nTo: ann@example.net\r\nSubject: hi\r\n\r\nhello\r\n..dot\r\n.\r\n"


async def send(talk: Talk, recipient: bytes, message: bytes) -> bytes:
    """Send from outside of any task, as a protocol does."""
    script = b"EHLO x\r\nMAIL FROM:<joe@example.org>\r\nRCPT TO:<%b>\r\nDATA\r\n" % recipient
    for part in (script, message, b"QUIT\r\n"):
        asyncio.get_running_loop().call_soon(talk.send, part)
        await asyncio.sleep(0)
        await talk.settled()
    return talk.said


async def test_what_one_host_signs_at_submission_passes_at_the_next(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    keygen(["example.org", "--home", home.path])
    name, text = published(capsys.readouterr().out)
    sending = Talk(plan=plan_of(make_plugin(Dkim, home=home)), environment={"RELAYCLIENT": ""})
    assert b"250 ok" in await send(sending, b"ann@example.net", MESSAGE)
    (queued,) = sending.queue.messages
    assert queued.text.startswith(b"DKIM-Signature: v=1; a=rsa-sha256;")

    wire = queued.message.replace(b"\n.", b"\n..").replace(b"\n", b"\r\n") + b".\r\n"
    with FakeDns({name: [("TXT", text)]}) as server:
        resolver = Resolver([server.address])
        for message, result in (
            (wire, b"dkim=pass header.d=example.org"),
            (wire.replace(b"hello", b"hallo"), b"dkim=fail "),
        ):
            receiving = Talk(plan=plan_of(make_plugin(Dkim, resolver=lambda: resolver)))
            assert b"250 ok" in await send(receiving, b"joe@example.org", message)
            (taken,) = receiving.queue.messages
            assert b"Authentication-Results: mx.example.org;\n\t" + result in taken.message
        await resolver.close()


async def test_a_key_that_cannot_be_used_ends_the_session_and_nothing_is_queued(home: Home) -> None:
    logged: list[str] = []
    plugin = make_plugin(Dkim, home=home, key="/nowhere/key")
    talk = Talk(plan=plan_of(plugin, log=logged.append), environment={"RELAYCLIENT": ""})
    said = await send(talk, b"ann@example.net", MESSAGE)
    assert said.splitlines()[-1].startswith(b"421 ")
    assert talk.queue.messages == []
    assert "/nowhere/key" in logged[0]


async def test_nothing_is_looked_up_for_a_message_without_signature() -> None:
    plugin = make_plugin(Dkim, resolver=lambda: Resolver([]))
    talk = Talk(plan=plan_of(plugin))
    await send(talk, b"joe@example.org", MESSAGE)
    (taken,) = talk.queue.messages
    assert b"\n\tdkim=none\n" in taken.message
    assert plugin.settings_for(Session()).verify


@pytest.mark.parametrize("size", [0, 300_000])
async def test_a_delivery_is_signed_on_its_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], size: int
) -> None:
    remote = RemoteHome(tmp_path / "remote")
    keygen(["example.org", "--home", remote.home.path])
    name, text = published(capsys.readouterr().out)
    content = b"From: joe@example.org\nSubject: hi\n\n.dot\n" + b"line  of text \n" * (size // 14)
    with SmtpPeer() as peer:
        remote.relay_to(peer)
        plan = plan_of(make_plugin(Dkim, home=remote.home, role="remote"))
        records = await remote.deliverer(plan=plan).deliver(make_job(content, b"joe@example.org"))
        assert records[-1].startswith(b"K")
        (wire,) = peer.sessions[0].messages
    received = wire.removesuffix(b".\r\n").replace(b"\r\n..", b"\r\n.").replace(b"\r\n", b"\n")
    assert received.endswith(content)
    with FakeDns({name: [("TXT", text)]}) as server:
        resolver = Resolver([server.address])
        found = await verify_message(Message.from_bytes(received), resolver, Policy(), time.time())
        await resolver.close()
    assert [one.code for one in found] == [Code.GOOD]


async def test_a_delivery_with_a_key_that_cannot_be_used_is_deferred(tmp_path: Path) -> None:
    remote = RemoteHome(tmp_path / "remote")
    logged: list[str] = []
    with SmtpPeer() as peer:
        remote.relay_to(peer)
        plugin = make_plugin(Dkim, home=remote.home, role="remote", key="/nowhere/key")
        deliverer = remote.deliverer(plan=plan_of(plugin, log=logged.append))
        records = await deliverer.deliver(make_job(b"From: joe@example.org\n\nhi\n"))
        assert peer.sessions == []
    assert records[-1].startswith(b"Z")
    assert "/nowhere/key" in logged[0]
