"""The service manager hears what sd_notify(3) promises it, and its absence disturbs nobody."""

import os
import socket

from pluq.supervisor.notify import Notifier, watchdog_seconds


def test_the_manager_hears_each_state(tmp_path):
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        notifier = Notifier({"NOTIFY_SOCKET": path})
        notifier.ready()
        notifier.reloading()
        notifier.stopping()
        assert manager.recv(200) == b"READY=1"
        reloading = manager.recv(200).split(b"\n")
        assert reloading[0] == b"RELOADING=1"
        assert reloading[1].startswith(b"MONOTONIC_USEC=")
        assert manager.recv(200) == b"STOPPING=1"


def test_an_abstract_socket_is_found():
    name = f"pluq-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name)
        Notifier({"NOTIFY_SOCKET": "@" + name}).alive()
        assert manager.recv(200) == b"WATCHDOG=1"


def test_no_manager_is_no_trouble(tmp_path):
    Notifier({}).ready()
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).ready()


def test_the_watchdog_is_fed_twice_as_often_as_asked():
    assert watchdog_seconds({"WATCHDOG_USEC": "30000000"}) == 15.0
    assert watchdog_seconds({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}) == 15.0
    assert watchdog_seconds({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}) is None
    assert watchdog_seconds({"WATCHDOG_USEC": "soon"}) is None
    assert watchdog_seconds({}) is None
