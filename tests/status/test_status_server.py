"""HTTP of the status role: what it answers, and what it bears."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.status.status_site import EVIL, in_child, make_site

from pluq.config.watching import Status
from pluq.metrics import page, series
from pluq.metrics.families import BY_NAME
from pluq.status import server
from pluq.status.server import CLIENTS, HEAD_BYTES, Server, is_ours

pytest.importorskip("h11", reason="h11 is not installed")
PATIENCE = 60.0


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return make_site(
        tmp_path_factory.mktemp("status"), settings=Status(listen="127.0.0.1:8025", hosts=("mail.example.org",))
    )


@pytest.fixture
async def port(site):
    sock = socket.create_server(("127.0.0.1", 0))
    task = asyncio.create_task(Server(site, sock).serve())
    yield sock.getsockname()[1]
    task.cancel()
    sock.close()


async def exchange(port, request):
    """Return all that is answered to these bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        async with asyncio.timeout(PATIENCE):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def ask(port, path="/", method="GET", host="localhost", more=""):
    answer = await exchange(port, f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *fields = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (field.split(": ", 1) for field in fields)}
    return int(first.split()[1]), headers, body


async def test_the_page_needs_nothing_from_elsewhere_and_lets_nothing_else_run(port):
    status, headers, body = await ask(port)
    assert status == 200
    assert headers["content-type"] == "text/html; charset=utf-8"
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    page = body.decode()
    assert "http://" not in page
    assert "https://" not in page
    assert " style=" not in page
    assert page.count("<script>") == 1


async def test_what_strangers_wrote_is_escaped(port):
    _status, _headers, body = await ask(port)
    page = body.decode()
    assert EVIL not in page
    assert "&lt;script&gt;alert(&quot;mail&quot;)" in page


async def test_metrics_are_in_the_text_format(port):
    status, headers, body = await ask(port, "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'pluq_deliveries_total{channel="remote",outcome="deferral"} 5120\n' in body.decode()


async def test_health_says_what_and_why(port):
    status, headers, body = await ask(port, "/health")
    found = json.loads(body)
    assert headers["content-type"] == "application/json"
    assert (status, found["status"]) == (200, "ok")
    assert {check["name"] for check in found["checks"]} >= {"roles", "disk", "inodes", "queue", "certificate"}


async def test_health_is_503_when_a_role_is_down(tmp_path):
    answer = make_site(tmp_path, down=("smtpd",)).answer("GET", "/health", None)
    assert answer.status == 503
    assert json.loads(answer.body)["checks"][0] == {"name": "roles", "ok": False, "text": "down: smtpd"}


def test_a_role_that_was_taken_over_cannot_forge_the_page(tmp_path):
    site = make_site(tmp_path)

    def forge():
        site._board.enter("qmtpd")
        mine = page()
        for name in (
            "pluq_deliveries_total",
            "pluq_refused_total",
            "pluq_plugin_calls_total",
            "pluq_connections_total",
        ):
            labels = {label: f"{EVIL}'\"{label}" for label in BY_NAME[name].labels}
            mine.add(series(name, **labels), 1e300)
            mine.add(series(name, **labels), -1e300)
        mine.put(series("pluq_role_pid", role="smtpd"), 1e18)
        mine.put(series("pluq_disk_free_ratio", what="space"), -1)

    in_child(forge)
    answer = site.answer("GET", "/", None)
    assert answer.status == 200
    assert EVIL not in answer.body.decode()
    assert site.answer("GET", "/metrics", None).status == 200
    assert site.answer("GET", "/health", None).status == 200


def test_a_page_that_cannot_be_made_is_told_and_the_others_go_on(tmp_path, monkeypatch, capfd):
    site = make_site(tmp_path)
    monkeypatch.setattr(server.page, "render", lambda *given: 1 / 0)
    assert site.answer("GET", "/", None).status == 500
    assert "status: /: ZeroDivisionError" in capfd.readouterr().err
    assert site.answer("GET", "/health", None).status == 200


async def test_head_has_no_body(port):
    status, headers, body = await ask(port, method="HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 1000


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
async def test_nothing_can_be_changed(port, method):
    status, headers, _body = await ask(port, method=method)
    assert status == 405
    assert headers["allow"] == "GET, HEAD"


async def test_there_is_nothing_else(port):
    for path in ("/../control/me", "//", "/queue", "/metrics/"):
        assert (await ask(port, path))[0] == 404


@pytest.mark.parametrize("host", ["evil.example", "mail.example.org.evil.example:8025", "", "127.0.0.1.evil.example"])
async def test_a_name_that_a_stranger_could_point_here_is_refused(port, host):
    assert (await ask(port, host=host))[0] == 421


@pytest.mark.parametrize(
    "host", ["localhost:8025", "127.0.0.1", "[::1]:8025", "mail.example.org", "MAIL.example.org:80"]
)
async def test_our_own_names_are_taken(port, host):
    assert (await ask(port, host=host))[0] == 200


async def test_a_head_that_is_too_long_is_refused(port):
    status, _headers, _body = await ask(port, more=f"X-Long: {'a' * (HEAD_BYTES + 5000)}\r\n")
    assert status == 431


async def test_what_is_no_http_is_refused(port):
    assert (await exchange(port, b"EHLO example.net\r\n\r\n")).startswith(b"HTTP/1.1 400 ")


async def test_a_client_that_drips_is_dropped(port, monkeypatch):
    monkeypatch.setattr(server, "REQUEST_SECONDS", 1.0)
    assert await exchange(port, b"GET / HTTP/1.1\r\nX-Slow: ") == b""


async def test_a_client_that_takes_nothing_is_dropped(port, monkeypatch):
    monkeypatch.setattr(server, "REQUEST_SECONDS", 1.0)
    assert await exchange(port, b"") == b""


async def test_a_client_beyond_the_limit_is_dropped_and_the_next_is_served(port):
    idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CLIENTS)]
    assert await exchange(port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") == b""
    for _reader, writer in idle:
        writer.close()
    answer = b""
    async with asyncio.timeout(PATIENCE):
        while not answer.startswith(b"HTTP/1.1 200"):  # until it has noticed that they are gone
            answer = await exchange(port, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")


async def test_behind_a_unix_socket_the_proxy_looks_after_names(site, tmp_path):
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "s"))
    sock.listen()
    task = asyncio.create_task(Server(site, sock).serve())
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
    writer.write(b"GET /health HTTP/1.1\r\nHost: status.example.net\r\n\r\n")
    async with asyncio.timeout(PATIENCE):
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
    writer.close()
    task.cancel()
    sock.close()


class Sent:
    """The writing end of a client that is not there."""

    def __init__(self):
        self.data = b""
        self.transport = self

    def write(self, data):
        self.data += data

    async def drain(self):
        pass

    def can_write_eof(self):
        return False

    def close(self):
        pass

    abort = close


@settings(deadline=None, max_examples=150)
@given(st.one_of(st.binary(max_size=300), st.binary(max_size=60).map(lambda data: b"GET / HTTP/1.1\r\nHost: " + data)))
def test_whatever_comes_is_answered_or_dropped(data):
    class Nothing:
        def answer(self, method, target, host):
            return server.Answer.text(404, "nothing")

    async def one():
        reader, sent = asyncio.StreamReader(), Sent()
        reader.feed_data(data)
        reader.feed_eof()
        await server.Client(Nothing(), reader, sent, True).serve()
        assert sent.data == b"" or sent.data.startswith(b"HTTP/1.1 ")

    asyncio.run(one())


@given(st.text(max_size=40))
def test_only_addresses_and_listed_names_are_ours(host):
    if is_ours(host, ()):
        name = host.rpartition(":")[0] or host
        assert host.lower().startswith("localhost") or ":" in host or name.replace(".", "").isdigit()
