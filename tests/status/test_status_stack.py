"""Figures, health and the page of a running stack, and its log as objects."""

from __future__ import annotations

import base64
import json
import os
import signal
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from pluq.log.objects import COMMON_FIELDS, FIELDS
from pluq.testing.stack import Stack, free_port, wait_until

pytest.importorskip("h11", reason="h11 is not installed")
pytestmark = pytest.mark.integration

SITE = """
[profile.mx]
listen = ["127.0.0.1:{port}"]
plugins = ["size", "badmail"]
size.databytes = 2000

[status]
listen = "127.0.0.1:{status}"

[log]
format = "{form}"
"""


class Watched(Stack):
    """A stack with a status page."""

    def __init__(self, folder, form="both"):
        super().__init__(folder)
        self.listens_itself = True
        self.status_port = free_port()
        self.control("pluq.toml", SITE.format(port=self.port, status=self.status_port, form=form))
        self.control("rcpthosts", "example.org")
        self.control("badmailfrom", "spam@example.net")

    def get(self, path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.status_port}{path}", timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def figure(self, series):
        """Return the value of a series, 0 where there is none."""
        lines = self.get("/metrics")[1].splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{series} ")), 0.0)

    def wait_figure(self, series, value):
        wait_until(lambda: self.figure(series) == value, lambda: f"{series} {value}, it is {self.figure(series)}")

    def events(self, name):
        """Return the objects in the log of one kind."""
        lines = self.log.read_text(errors="replace").splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [one for one in found if one["event"] == name]


@pytest.fixture
def folder():
    """A folder that every user may pass through, as a home must be; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="pluq-test.") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture
def stack(folder):
    one = Watched(folder)
    yield one.start()
    if one.runs:
        one.stop()


def test_figures_and_events_of_mail_that_came_was_refused_and_was_delivered(stack):
    for number in range(3):
        stack.send(f"hello {number}")
    with stack.client() as client:
        client.helo("client.example")
        client.mail("spam@example.net")
        assert client.rcpt("joe@example.org")[0] == 553
        client.rset()
        client.mail("a@example.net")
        assert client.rcpt("x@elsewhere.example")[0] == 553
    stack.wait_mail("hello 0", "hello 1", "hello 2")
    stack.wait_figure('pluq_deliveries_total{channel="local",outcome="success"}', 3)
    stack.wait_figure('pluq_accepted_total{profile="mx",tls="no",login="no"}', 3)
    stack.wait_figure('pluq_refused_total{profile="mx",reason="rcpthosts"}', 1)
    stack.wait_figure("pluq_commits_total", 3)
    stack.wait_figure("pluq_messages_ended_total", 3)
    stack.wait_figure('pluq_connections{profile="mx"}', 0)
    stack.wait_figure('pluq_delivery_seconds_count{channel="local"}', 3)
    assert stack.figure('pluq_plugin_calls_total{role="smtpd",profile="mx",plugin="badmail",hook="smtp_rcpt"}') > 0
    stack.stop()
    accepted = stack.events("accepted")
    assert [(one["sender"], one["recipients"]) for one in accepted] == [("sender@example.net", ["joe@example.org"])] * 3
    refused = stack.events("refused")
    assert {one["recipient"] for one in refused} >= {"x@elsewhere.example"}
    assert [one["status"] for one in stack.events("delivery")] == ["success"] * 3
    assert len(stack.events("connect")) == len(stack.events("disconnect")) >= 4
    assert "body of hello" not in stack.log.read_text()


def test_every_event_has_the_documented_fields(stack):
    stack.send("hello")
    stack.send("to nobody", to="nobody@example.org")
    stack.wait_mail("hello")
    wait_until(lambda: stack.events("bounce"), "a bounce")
    stack.stop()
    for name, fields in FIELDS.items():
        for event in stack.events(name):
            assert tuple(event) == (*COMMON_FIELDS, *fields), name
    seen = {name for name in FIELDS if stack.events(name)}
    assert seen >= {"connect", "disconnect", "accepted", "new", "info", "start", "delivery", "status", "bounce", "end"}


def test_the_lines_are_the_same_whatever_else_is_told(folder):
    told = {}
    for form in ("json", "qmail"):
        (folder / form).mkdir()
        one = Watched(folder / form, form).start()
        one.send("hello")
        one.wait_mail("hello")
        one.stop()
        told[form] = [line.split() for line in one.log.read_text().splitlines()]
    assert all(words[0].startswith("{") for words in told["json"])
    assert ["end", "msg"] in [words[:2] for words in told["qmail"]]
    assert not any(words[0].startswith("{") for words in told["qmail"])


def test_a_role_that_dies_is_seen_and_its_figures_go_on(stack):
    stack.send("before")
    stack.wait_mail("before")
    accepted = 'pluq_accepted_total{profile="mx",tls="no",login="no"}'
    stack.wait_figure(accepted, 1)
    wait_until(lambda: stack.get("/health")[0] == 200, "health")
    os.kill(stack.role_pids()["smtpd"], signal.SIGKILL)
    stack.wait_figure('pluq_role_starts_total{role="smtpd"}', 2)
    wait_until(lambda: stack.get("/health")[0] == 200, "health")
    stack.send("after")
    stack.wait_figure(accepted, 2)


def test_health_is_503_while_a_role_is_down(stack):
    wait_until(lambda: stack.get("/health")[0] == 200, "health")
    for _ in range(6):  # each early death makes the pause before the next start longer: 3 seconds in the end
        pid = wait_until(lambda: stack.role_pids().get("rspawn"), "rspawn")
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid: stack.role_pids().get("rspawn") != pid, "its end")
    assert wait_until(lambda: stack.get("/health")[0] == 503 and stack.get("/health")[1], "503")
    wait_until(lambda: stack.get("/health")[0] == 200, "health again")


def test_mail_goes_on_when_the_status_roles_are_dead(stack):
    pids = stack.role_pids()
    for role in ("status", "census"):
        os.kill(pids[role], signal.SIGSTOP)
    for number in range(5):
        stack.send(f"hello {number}")
    stack.wait_mail(*(f"hello {number}" for number in range(5)))
    for role in ("status", "census"):
        os.kill(pids[role], signal.SIGKILL)
    wait_until(lambda: stack.figure('pluq_deliveries_total{channel="local",outcome="success"}') == 5, "the figures")


@pytest.mark.skipif(os.getuid() != 0, reason="needs root: roles as users of their own")
def test_the_status_role_may_do_nothing(stack):
    pids = stack.role_pids()
    ids = stack.home.ids()
    told = {role: Path(f"/proc/{pids[role]}/status").read_text() for role in ("status", "census")}
    assert f"Uid:\t{ids.uid['qmaill']}\t" in told["status"]
    assert f"Gid:\t{ids.gid['nofiles']}\t" in told["status"]
    assert "Groups:\t \n" in told["status"]
    assert "NoNewPrivs:\t1" in told["status"]
    assert f"Uid:\t{ids.uid['qmails']}\t" in told["census"]
    sockets = [os.readlink(f"/proc/{pids['census']}/fd/{fd}") for fd in os.listdir(f"/proc/{pids['census']}/fd")]
    assert not [one for one in sockets if one.startswith("socket:")], "the census hears nobody"


def test_a_queue_that_waits_is_shown(stack):
    stack.wait_figure('pluq_concurrency{channel="local"}', 10)  # it is 0 as well until the scheduler has begun
    stack.control("concurrencylocal", "0")
    stack.process.send_signal(signal.SIGHUP)
    wait_until(lambda: 'pluq_concurrency{channel="local"} 0' in stack.get("/metrics")[1], "no room")
    stack.send("waits")
    stack.wait_figure('pluq_queue_messages{state="todo"}', 1)
    status, page = stack.get("/")
    assert status == 200
    assert "example.org" in page
    stack.control("concurrencylocal", "10")
    stack.process.send_signal(signal.SIGHUP)
    stack.wait_mail("waits")
    stack.wait_figure('pluq_queue_messages{state="todo"}', 0)


def test_a_hup_ends_no_role(stack):
    before = stack.role_pids()
    stack.control("concurrencylocal", "3")
    stack.process.send_signal(signal.SIGHUP)
    stack.wait_figure('pluq_concurrency{channel="local"}', 3)
    stack.send("after")
    stack.wait_mail("after")
    assert stack.role_pids() == before


def test_the_end_of_a_certificate_and_shares_of_tls_are_known(folder):
    pytest.importorskip("cryptography", reason="cryptography is not installed")
    one = Watched(folder)
    text = SITE.format(port=one.port, status=one.status_port, form="json")
    one.control("pluq.toml", text.replace('["size", "badmail"]', '["size", "tls"]'))
    one.run("pluq", "tls", "self-signed")
    one.start()
    with one.client() as client:
        client.starttls()
        client.sendmail("a@example.net", ["joe@example.org"], "Subject: encrypted\n\nx\n")
    one.wait_mail("encrypted")
    one.wait_figure('pluq_accepted_total{profile="mx",tls="TLSv1.3",login="no"}', 1)
    expires = one.figure('pluq_certificate_expires_seconds{profile="mx",file="control/servercert.pem"}')
    assert expires > time.time() + 86400
    assert "control/servercert.pem expires in" in one.get("/health")[1]
    one.stop()
    assert [event["tls"] for event in one.events("accepted")] == ["TLSv1.3"]


def test_neither_passwords_nor_what_carries_them_get_into_the_log(folder):
    pytest.importorskip("cryptography", reason="cryptography is not installed")
    one = Watched(folder)
    text = SITE.format(port=one.port, status=one.status_port, form="both")
    one.control("pluq.toml", text.replace('["size", "badmail"]', '["size", "tls", "auth"]\nauth.delay = 0.1'))
    one.run("pluq", "tls", "self-signed")
    one.run("pluq", "auth", "passwd", "ann@example.org", input=b"correct horse\n")
    one.start()
    with one.client() as client:
        client.starttls()
        client.ehlo()
        for password in ("battery staple", "correct horse"):
            told = base64.b64encode(f"\0ann@example.org\0{password}".encode()).decode()
            code = client.docmd("AUTH", f"PLAIN {told}")[0]
        assert code == 235
        client.sendmail("ann@example.org", ["joe@example.org"], "Subject: logged in\n\nthe body\n")
    one.wait_mail("logged in")
    one.wait_figure('pluq_refused_total{profile="mx",reason="auth"}', 1)
    one.wait_figure('pluq_accepted_total{profile="mx",tls="TLSv1.3",login="PLAIN"}', 1)
    one.stop()
    assert [event["reason"] for event in one.events("refused")] == ["auth"]
    assert [event["user"] for event in one.events("accepted")] == ["ann@example.org"]
    log = one.log.read_text(errors="replace")
    for secret in ("correct horse", "battery staple", told, "the body", "logged in"):
        assert secret not in log
