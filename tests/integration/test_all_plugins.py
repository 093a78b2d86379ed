"""Every plugin at once, each in every role that it has hooks for: messages pass through all of them, in every direction."""

from __future__ import annotations

import datetime
import os
import re
import smtplib
import ssl
from pathlib import Path

import pytest

from pluq.hookspecs.plugin import hook_methods
from pluq.plan import EMPTY
from pluq.plan.load import installed
from pluq.testing.conformance import NASTY, PLAIN, carry_on, queued
from pluq.testing.dns import FakeDns
from pluq.testing.plugins import make_plugin, plan_of
from pluq.testing.smtp_peer import SmtpPeer
from pluq.testing.smtp_session import Talk
from pluq.testing.stack import PATIENCE, free_port

USER, PASSWORD = "ann@example.org", "pass word 7"
FAR = "user@far.example"
ROLES = {
    "mx": ("smtp_", "message_", "queue_open"),
    "queue": ("queue_",),
    "send": ("send_",),
    "local": ("local_", "forward_"),
    "remote": ("remote_",),
}
# dane and mtasts want proofs that tls does not, and tls encrypts before auth says a password.
FIRST = ("ipv6", "size", "dane", "mtasts", "tls", "auth", "eai", "spf", "dkim")
# What would turn away a stranger who comes for the first time, and is tested for itself, only watches.
WATCHING = ("greylist",)
SETTINGS = {
    "mx": """
spf.behavior = 3
dnsbl.lists = ["list.test"]
tarpit.greet_delay = 1
spp.enabled = true
qmailqueue.filters = ["bin/mark"]
badmail.mfcheck = 1
milter.servers = ["unix:/nowhere"]
milter.skip = true
""",
    "queue": 'taps.taps = ["T:^joe@:archive@example.org"]\n',
    "send": "bounce.bouncemaxbytes = 2000\n",
    "local": 'srs.domain = "srs.example"\nsrs.secrets = ["secret"]\n',
    "remote": 'tls.required = true\nbind.outgoingip = "127.0.0.1"\nsrs.domain = ""\n'
    'dane.trusted_resolver = true\narc.domain = "example.org"\n',
}


def enabled(role: str) -> list[str]:
    """Return the plugins with hooks for a role, in an order that is allowed."""
    named = [*FIRST, *sorted(set(installed()) - set(FIRST))]
    ours = [name for name in named if name in installed() and installed()[name].value.startswith("pluq_")]
    return [
        name
        for name in ours
        if any(one.startswith(ROLES[role]) for one in hook_methods(installed()[name].load()))
        and not (role == "mx" and name == "srs")
    ]


def toml(ports: dict[str, int]) -> str:
    text = ""
    for role, settings in SETTINGS.items():
        plugins = enabled(role)
        watching = "".join(f'{name}.mode = "shadow"\n' for name in WATCHING if name in plugins)
        table = f'[profile.mx]\nlisten = ["127.0.0.1:{ports["mx"]}"]\n' if role == "mx" else f"[{role}]\n"
        text += f"{table}plugins = {plugins}\n{settings}{watching}\n"
    return text + (
        f'[profile.submission]\nextends = "mx"\nlisten = ["127.0.0.1:{ports["submission"]}"]\n'
        "tls.required = true\nauth.required = true\n"
    )


def executable(path: str, text: str) -> None:
    Path(path).write_text(f"#!/bin/sh\n{text}\n")
    os.chmod(path, 0o755)


def unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.fixture
def far(tmp_path):
    """The host of others: it takes mail with TLS, and refuses one user."""
    from pluq_tls.selfsigned import make_certificate

    pair = tmp_path / "far.pem"
    pair.write_bytes(make_certificate(["far.example"], 3650, datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair)
    refusals = [None, None, b"550 5.1.1 no such user\r\n"]
    with SmtpPeer(answers={"RCPT": refusals}, capabilities=(b"SIZE 0", b"STARTTLS"), tls=context) as peer:
        yield peer


@pytest.fixture
def site(new_stack, far):
    """A stack with everything on."""
    stack = new_stack()
    stack.listens_itself = True
    stack.ports = {"mx": stack.port, "submission": free_port()}
    for name in ("archive", "mover", "ann"):
        stack.add_user(name)
    (stack.folder / "mover" / ".qmail").write_text(f"&{FAR}\n")
    stack.control("smtproutes", f":127.0.0.1:{far.port}")
    stack.control("smtpplugins", '[data]\n:echo "HX-Spp: yes"')
    executable(f"{stack.home.path}/bin/mark", "echo 'X-Filtered: yes'; cat")
    stack.run("pluq", "tls", "self-signed", "--name", "mx.example.org")
    stack.run("pluq", "auth", "passwd", USER, input=f"{PASSWORD}\n".encode())
    said = stack.run("pluq", "dkim", "keygen", "example.org").stdout.decode()
    stack.record = "".join(re.findall(r'"([^"]*)"', said)) or said
    stack.control("pluq.toml", toml(stack.ports))
    checked = stack.run("pluq", "check", check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    return stack


@pytest.mark.integration
def test_messages_pass_through_every_plugin_in_every_direction(site, far, until):
    zone = {
        "default._domainkey.example.org": [("TXT", site.record)],
        "sender.example": [("TXT", "v=spf1 ip4:127.0.0.2 -all"), ("MX", (1, "mx.sender.example"))],
        "forger.example": [("TXT", "v=spf1 -all"), ("A", "192.0.2.1")],
    }
    with FakeDns(zone) as server:
        site.start({"PLUQ_DNS_SERVER": server.text})
        signed = submitted(site, far, until)
        received(site, signed, server)
        forwarded(site, far, until)
        bounced(site, until)
        site.stop()
    assert " failed in " not in site.log.read_text(), site.told()


def submitted(site, far, until):
    """A user sends: encrypted, logged in, filtered, signed, and on with TLS to the other host."""
    with smtplib.SMTP("127.0.0.1", site.ports["submission"], timeout=PATIENCE) as client:
        client.starttls(context=unverified())
        client.login(USER, PASSWORD)
        client.sendmail(USER, [FAR], f"From: {USER}\nSubject: out\nDate: Sat, 21 Nov 2026 12:00:00 +0000\n\nhello\n")
    (message,) = until(lambda: far.messages, site.told)
    assert far.sessions[0].tls
    assert any(re.fullmatch(rb"MAIL FROM:<ann@example.org> SIZE=\d+", one) for one in far.sessions[0].commands)
    assert b"DKIM-Signature: " in message
    assert b"X-Filtered: yes\r\n" in message
    assert b"X-Spp: yes\r\n" in message
    assert b"(ann@example.org)" in message
    return message.removesuffix(b"\r\n.\r\n").replace(b"\r\n..", b"\r\n.") + b"\r\n"


def received(site, signed, server):
    """The same comes back from a stranger: looked up, judged, verified, copied, and kept."""
    stranger = ("127.0.0.2", 0)  # SPF takes 127.0.0.1 for one of us
    with smtplib.SMTP("127.0.0.1", site.ports["mx"], timeout=PATIENCE, source_address=stranger) as client:
        assert client.mail("bob@forger.example")[0] == 250
        assert client.rcpt("joe@example.org")[0] == 550
        client.rset()
        client.sendmail("bob@sender.example", ["joe@example.org"], signed)
    site.wait_mail("out")
    site.wait_mail("out", name="archive")
    (mail,) = [path.read_text() for path in (site.maildir() / "new").iterdir()]
    assert "spf=pass" in mail
    assert "dkim=pass" in mail
    assert "arc=none" in mail
    assert "dmarc=none header.from=example.org" in mail
    assert "Received-SPF: pass" in mail
    assert mail.count("X-Filtered: yes\n") == 2
    assert ("2.0.0.127.list.test", "TXT", "udp") in server.queries


def forwarded(site, far, until):
    """A user has moved away: the sender is one that we answer for."""
    with smtplib.SMTP("127.0.0.1", site.ports["mx"], timeout=PATIENCE) as client:
        client.sendmail("bob@sender.example", ["mover@example.org"], "From: bob@sender.example\nSubject: on\n\nx\n")
    until(lambda: len(far.messages) == 2, site.told)
    commands = b"\n".join(far.sessions[-1].commands)
    assert b"ARC-Seal: i=1; cv=none; " in far.messages[-1]
    assert re.search(rb"MAIL FROM:<SRS0=\S+=sender\.example=bob@srs\.example>", commands)


def bounced(site, until):
    """The other host refuses: the sender hears so, with the beginning of the message."""
    with smtplib.SMTP("127.0.0.1", site.ports["submission"], timeout=PATIENCE) as client:
        client.starttls(context=unverified())
        client.login(USER, PASSWORD)
        client.sendmail(USER, [FAR], f"From: {USER}\nSubject: back\n\n" + "line of text\n" * 1000)
    site.wait_mail("failure notice", name="ann")
    (mail,) = [path.read_text() for path in (site.maildir("ann") / "new").iterdir()]
    assert "550 5.1.1 no such user" in mail
    assert "--- End of message stripped." in mail


# -- off


def everything(**changes):
    """Return an instance of each plugin with hooks of a session."""
    return [make_plugin(installed()[name].load()) for name in enabled("mx")]


@pytest.mark.parametrize("script", [PLAIN, NASTY], ids=["plain", "nasty"])
@pytest.mark.parametrize("mode", ["off", "shadow"])
async def test_all_of_them_off_or_only_watching_leave_a_session_as_it_is_without(script, mode):
    without = Talk(plan=EMPTY)
    plugins = everything()
    plan = plan_of(*plugins, mode=mode)
    if plan.start is not None:
        await plan.start()
    talk = Talk(plan=plan)
    assert await carry_on(script, talk) == await carry_on(script, without)
    assert queued(talk) == queued(without)


def test_every_plugin_has_a_role_here():
    found = {name for role in SETTINGS for name in enabled(role)}
    ours = {name for name, entry in installed().items() if entry.value.startswith("pluq_")}
    assert found == ours
