"""tcp-env: the environment of a connection, on a real socket."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pluq.commands.tcp_env import endpoint, user_of
from pluq.testing.dns import FakeDns, Fault

PROGRAM = Path(sys.executable).parent / "tcp-env"
pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="pluq's programs are not installed here")


@pytest.fixture(params=["127.0.0.1", "::1"])
def connection(request):
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    try:
        listener = socket.create_server((request.param, 0), family=family)
    except OSError:
        pytest.skip(f"no {request.param} here")
    with listener, socket.create_connection(listener.getsockname()[:2]) as client:
        server, _ = listener.accept()
        with server:
            yield client, server


def run(server, *argv, **environment):
    done = subprocess.run(
        [PROGRAM, *argv, "env"],
        stdin=server.fileno(),
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"]} | environment,
        timeout=60,
        check=True,
    )
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if line.startswith(("TCP", "PROTO")))


def test_both_ends_are_described(connection):
    client, server = connection
    name = "1.0.0.127.in-addr.arpa" if server.family == socket.AF_INET else f"1.{'0.' * 31}ip6.arpa"
    with FakeDns({name: [("PTR", "LocalHost.Example")]}) as dns:
        seen = run(server, "-R", PLUQ_DNS_SERVER=dns.text, TCPREMOTEINFO="stale")
    address = server.getsockname()[0]
    assert seen == {
        "PROTO": "TCP",
        "TCPLOCALIP": address,
        "TCPLOCALPORT": str(server.getsockname()[1]),
        "TCPLOCALHOST": "localhost.example",
        "TCPREMOTEIP": address,
        "TCPREMOTEPORT": str(client.getsockname()[1]),
        "TCPREMOTEHOST": "localhost.example",
    }


def test_a_name_that_nobody_knows_is_left_out_and_a_broken_server_named(connection):
    _, server = connection
    name = "1.0.0.127.in-addr.arpa" if server.family == socket.AF_INET else f"1.{'0.' * 31}ip6.arpa"
    with FakeDns({}) as dns:
        assert "TCPREMOTEHOST" not in run(server, "-R", PLUQ_DNS_SERVER=dns.text, TCPREMOTEHOST="stale")
    with FakeDns({name: Fault.SERVFAIL}) as dns:
        assert run(server, "-R", PLUQ_DNS_SERVER=dns.text)["TCPREMOTEHOST"] == "softdnserror"


def test_what_tcpserver_has_set_stays():
    with socket.socket(socket.AF_UNIX) as other:
        assert run(other, PROTO="TCP", TCPREMOTEIP="192.0.2.1") == {"PROTO": "TCP", "TCPREMOTEIP": "192.0.2.1"}


def test_without_a_connection_nothing_is_run():
    done = subprocess.run([PROGRAM, "echo", "hi"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (111, b"")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"6193, 23 : USERID : UNIX : joe\r\n", b"joe"),
        (b"6193,23:USERID:UNIX:a:b c\n", b"a:bc"),
        (b"6193, 23 : ERROR : NO-USER\r\n", b""),
    ],
)
def test_the_ident_answer_ends_in_the_user(answer, expected):
    assert user_of(answer) == expected


def test_an_ipv4_address_in_ipv6_form_is_written_as_ipv4():
    assert endpoint(("::ffff:192.0.2.1", 25, 0, 0)) == ("192.0.2.1", 25)
    assert endpoint(("fe80::1%eth0", 25, 0, 2)) == ("fe80::1", 25)
