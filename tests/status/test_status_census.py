"""The census: what lies in the queue, by state, age and destination."""

from __future__ import annotations

import os
import time

import pytest

from pluq.config import Home, current_ids
from pluq.queue.layout import QueueLayout
from pluq.queue.reader import HELD_TIME
from pluq.status.census import DESTINATIONS_MAX, Census, Message, count
from pluq.supervisor import hier

NOW = time.time()


@pytest.fixture
def layout(tmp_path):
    home = Home(str(tmp_path / "home"))
    hier.make_home(home, current_ids())
    return QueueLayout(home.queue)


def put(path, data, age=0.0):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)
    os.utime(path, (NOW - age, NOW - age))


def queued(layout, number, age=0.0, local=(), remote=(), done=()):
    put(layout.info(number), b"Fsender@example.net\0", age)
    for path, addresses in ((layout.local(number), local), (layout.remote(number), remote)):
        if addresses:
            put(path, b"".join((b"D" if one in done else b"T") + one + b"\0" for one in addresses))


def test_messages_are_counted_by_state_age_and_destination(layout):
    queued(layout, 23, 7200, remote=[b"a@x.example", b"b@X.example", b"c@y.example"], done=[b"a@x.example"])
    queued(layout, 46, 30, local=[b"joe@example.org"])
    put(layout.bounce(46), b"<x>: no\n")
    put(layout.todo(69), b"u0\0p1\0Fs@x\0Tz@z.example\0", 100)
    queued(layout, 92, 10, remote=[b"d@x.example"])
    os.utime(layout.remote(92), (HELD_TIME, HELD_TIME))
    found = count(layout, NOW, shows_addresses=False).report(0.5)
    assert found["states"] == {"todo": 1, "queued": 1, "held": 1, "bouncing": 1}
    assert found["ages"] == {"1m": 2, "5m": 1, "1h": 0, "6h": 1, "1d": 0, "4d": 0, "older": 0}
    assert found["recipients"] == {"local": 1, "remote": 3, "unknown": 1}
    assert found["oldest"]["all"] == pytest.approx(7200, abs=2)
    assert found["oldest"]["todo"] == pytest.approx(100, abs=2)
    first = found["destinations"][0]
    assert (first["domain"], first["channel"], first["messages"], first["recipients"]) == ("x.example", "remote", 2, 2)
    assert found["messages"] == []


def test_addresses_are_told_only_where_the_site_wants_them(layout):
    queued(layout, 23, 50, remote=[b"%d@x.example" % number for number in range(5)])
    (message,) = count(layout, NOW, shows_addresses=True).report(0.0)["messages"]
    assert message["sender"] == "sender@example.net"
    assert message["recipients"] == ["0@x.example", "1@x.example", "2@x.example"]
    assert message["more"] == 2


def test_a_broken_file_hides_no_other_message(layout):
    put(layout.info(23), b"no sender")
    put(layout.todo(46), b"\xff\xff")
    queued(layout, 69, local=[b"joe@example.org"])
    assert sum(count(layout, NOW, shows_addresses=False).states.values()) == 1


def test_a_queue_of_many_domains_takes_bounded_memory():
    census = Census(NOW, shows_addresses=True)
    for number in range(DESTINATIONS_MAX + 500):
        census.add(Message(number, "queued", NOW - number, b"", {"remote": [b"x@%d.example" % number]}))
    found = census.report(0.0)
    assert len(census._destinations) == DESTINATIONS_MAX + 1
    assert len(found["messages"]) == 15
    assert found["messages"][0]["number"] == DESTINATIONS_MAX + 499
