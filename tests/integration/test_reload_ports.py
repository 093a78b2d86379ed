"""HUP: the stack listens where control/pluq.toml says now, and nobody who is connected notices."""

import os
import signal
import smtplib
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pluq.testing.stack import PATIENCE, answers, free_port, is_alive

pytestmark = pytest.mark.integration


def profiles(stack, *tables):
    stack.control("pluq.toml", "\n".join(tables))


def profile(name, *addresses, more=""):
    return f"[profile.{name}]\nlisten = [{', '.join(f'{one!r}' for one in addresses)}]\n{more}\n"


def mx(stack, host="127.0.0.1", more=""):
    return profile("mx", f"{host}:{stack.port}", more=more)


def reload(stack):
    stack.process.send_signal(signal.SIGHUP)


def refuses(port):
    try:
        socket.create_connection(("127.0.0.1", port), PATIENCE).close()
    except ConnectionRefusedError:
        return True
    return False


def finish(client, token):
    """Send a message in a session that has begun before."""
    client.sendmail("a@example.net", ["joe@example.org"], f"Subject: {token}\n\nx\n")
    client.quit()


@pytest.fixture
def listening(new_stack):
    """A running stack with a profile on its port."""

    def start(more=""):
        stack = new_stack()
        stack.listens_itself = True
        profiles(stack, mx(stack, more=more))
        return stack.start()

    return start


@pytest.mark.parametrize("more", ["", "workers = 2"], ids=["one worker", "two workers"])
def test_a_profile_comes_and_another_goes(listening, until, more):
    stack, other = listening(more), free_port()
    before = stack.client()
    before.ehlo()

    profiles(stack, mx(stack, more=more), profile("submission", f"127.0.0.1:{other}"))
    reload(stack)
    until(lambda: answers(other), stack.told)
    assert answers(stack.port)
    between = smtplib.SMTP("127.0.0.1", other, timeout=PATIENCE)

    profiles(stack, profile("submission", f"127.0.0.1:{other}"))
    reload(stack)
    until(lambda: refuses(stack.port), stack.told)
    assert answers(other)

    finish(before, "begun before the first")
    finish(between, "begun before the second")
    stack.wait_mail("begun before the first", "begun before the second")
    stack.stop()


def test_what_has_retired_is_gone_when_its_last_session_is(listening, until):
    stack, other = listening(), free_port()
    old = stack.role_pids()["smtpd"]
    client = stack.client()
    profiles(stack, profile("mx", f"127.0.0.1:{stack.port}", f"127.0.0.1:{other}"))
    reload(stack)
    until(lambda: answers(other), stack.told)
    assert is_alive(old)
    client.quit()
    until(lambda: not is_alive(old), stack.told)


def test_an_address_may_take_the_place_of_one_that_overlaps_with_it(listening, until):
    stack = listening()
    for host in ("0.0.0.0", "127.0.0.1"):
        profiles(stack, mx(stack, host))
        old = stack.role_pids()["smtpd"]
        reload(stack)
        until(lambda old=old: not is_alive(old) and answers(stack.port), stack.told)
        reached = answers(stack.port, "127.0.0.2")
        assert reached is (host == "0.0.0.0")


def test_a_taken_port_changes_nothing_and_is_told_with_its_line(listening, until):
    stack = listening()
    free = free_port()
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        taken = stranger.getsockname()[1]
        new = profile("new", f"127.0.0.1:{free}", f"127.0.0.1:{taken}")
        profiles(stack, "", new)
        reload(stack)
        line = f"pluq.toml:3: profile.new.listen: cannot listen on 127.0.0.1:{taken}: Address already in use"
        until(lambda: line in stack.told(), stack.told)
        until(lambda: "what was read before stays in force" in stack.told(), stack.told)
    assert refuses(free)
    stack.send("as before")
    stack.wait_mail("as before")

    assert "the configuration was read again" not in stack.told()
    reload(stack)  # the stranger has gone
    until(lambda: answers(taken) and answers(free) and refuses(stack.port), stack.told)
    until(lambda: "the configuration was read again" in stack.told(), stack.told)


def test_a_port_may_leave_and_come_back_at_once(listening, until):
    stack, other = listening(), free_port()
    client = stack.client()
    for _ in range(5):
        profiles(stack, profile("mx", f"127.0.0.1:{other}"))
        reload(stack)
        until(lambda: answers(other), stack.told)
        profiles(stack, mx(stack))
        reload(stack)
        until(lambda: answers(stack.port), stack.told)
    finish(client, "through all of it")
    stack.wait_mail("through all of it")
    stack.stop()


def test_a_protocol_that_the_stack_did_not_speak_begins(listening, until):
    stack, pop = listening(), free_port()
    profiles(stack, mx(stack), profile("pop", f"127.0.0.1:{pop}", more='protocol = "pop3"'))
    reload(stack)

    def greeting():
        try:
            with socket.create_connection(("127.0.0.1", pop), PATIENCE) as sock:
                return sock.recv(100)
        except ConnectionRefusedError:
            return b""

    until(lambda: greeting().startswith(b"+OK"), stack.told)
    assert {"pop3d", "logins"} <= set(stack.role_pids())
    profiles(stack, mx(stack))
    reload(stack)
    until(lambda: "pop3d" not in stack.role_pids(), stack.told)
    assert answers(stack.port)


def test_no_client_is_refused_while_ports_change(listening, until):
    stack, other = listening("concurrency = 200\nper_address = 100"), free_port()
    more = "concurrency = 200\nper_address = 100"
    sent, is_over = [], threading.Event()

    def client(number):
        while not is_over.is_set():
            token = f"{number}-{len(sent)}"
            stack.send(token)
            sent.append(token)

    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(client, number) for number in range(4)]
        for count in range(6):
            old, before = stack.role_pids()["smtpd"], len(sent)
            addresses = [f"127.0.0.1:{port}" for port in (stack.port, other)[: 1 + (count + 1) % 2]]
            profiles(stack, profile("mx", *addresses, more=more))
            reload(stack)
            until(lambda old=old: stack.role_pids().get("smtpd") not in (None, old), stack.told)
            until(lambda before=before: len(sent) > before + 5, stack.told)
        is_over.set()
        for one in clients:
            one.result(PATIENCE)
    stack.wait_mail(*sent)
    assert len(stack.subjects()) == len(sent)


def test_a_hup_to_every_process_ends_none(listening, until):
    stack = listening()
    before = stack.role_pids()
    for pid in before.values():
        os.kill(pid, signal.SIGHUP)
    stack.send("after")
    stack.wait_mail("after")
    # The server alone may have been replaced by the one that listens as the file says.
    assert {name: pid for name, pid in stack.role_pids().items() if name != "smtpd"} == {
        name: pid for name, pid in before.items() if name != "smtpd"
    }


def test_what_takes_a_restart_is_told_at_a_reload(listening, until):
    stack = listening()
    profiles(stack, mx(stack), '[log]\nformat = "json"\n')
    reload(stack)
    until(lambda: "[log] has changed, and takes a restart; all else was taken now" in stack.told(), stack.told)
    assert "[status] has changed" not in stack.told()
    stack.stop()
