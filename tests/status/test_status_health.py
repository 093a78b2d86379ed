"""Health: what is wrong is said, and what is not wrong is not."""

from __future__ import annotations

import pytest

from pluq.config.watching import Status
from pluq.metrics.text import Sample, Totals
from pluq.status.health import checks, report, span
from pluq.status.history import History
from pluq.status.snapshot import Disk, RoleState, Snapshot, process_state

NOW = 1_800_000_000.0
WEEK = 604800


def census(**changes):
    return {
        "time": NOW - 5,
        "seconds": 0.1,
        "states": {"todo": 1, "queued": 4},
        "oldest": {"all": 3600.0, "todo": 2.0},
        **changes,
    }


def look(**changes):
    given = {
        "now": NOW,
        "version": "1",
        "totals": Totals([]),
        "roles": (RoleState("send", 7, 1, True),),
        "disk": Disk(10**9, 0.5, 0.5),
        "census": census(),
    }
    return Snapshot(**{**given, **changes})


def failing(snapshot, settings=None):
    return {check.name: check.text for check in checks(snapshot, settings or Status(), WEEK) if not check.is_well}


def certificate(days):
    labels = {"profile": "mx", "file": "control/servercert.pem"}
    return Totals([Sample("pluq_certificate_expires_seconds", labels, NOW + days * 86400)])


def test_a_stack_that_is_well_is_ok():
    assert failing(look()) == {}
    assert report(checks(look(), Status(), WEEK))["status"] == "ok"


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"roles": (RoleState("send", 7, 1, True), RoleState("smtpd", 0, 3, False))}, "roles", "down: smtpd"),
        ({"roles": ()}, "roles", "no role was started"),
        ({"disk": Disk(1, 0.04, 0.5)}, "disk", "4% of the space is free, less than 5%"),
        ({"disk": Disk(1, 0.5, 0.01)}, "inodes", "1% of the inodes is free, less than 5%"),
        ({"disk": None}, "disk", "the file system of the queue cannot be asked"),
        ({"census": {}}, "queue", "nobody has counted the queue yet"),
        ({"census": census(time=NOW - 3000)}, "queue", "nobody has counted the queue for 50 min"),
        (
            {"census": census(oldest={"all": 1000.0, "todo": 1000.0})},
            "queue",
            "a message has waited 16 min 40 s for the scheduler to look at it",
        ),
        (
            {"census": census(oldest={"all": 9 * 86400.0})},
            "queue",
            "the oldest message is 9 d old, more than 8 d",
        ),
        ({"totals": certificate(3)}, "certificate", "control/servercert.pem expires in 3 d"),
        ({"totals": certificate(-1)}, "certificate", "control/servercert.pem has expired"),
    ],
)
def test_what_is_wrong_is_said(changes, name, words):
    assert failing(look(**changes)) == {name: words}


def test_the_site_sets_its_own_limits():
    assert failing(look(census=census(oldest={"all": 120.0})), Status(queue_age=60)).keys() == {"queue"}
    assert failing(look(disk=Disk(1, 0.04, 0.5)), Status(disk_free=3)) == {}
    assert failing(look(totals=certificate(20)), Status(certificate_days=30)).keys() == {"certificate"}


def test_a_census_that_takes_long_may_be_as_old_as_that():
    assert failing(look(census=census(time=NOW - 200, seconds=15.0))) == {}


def test_times_are_said_in_their_two_largest_units():
    assert [span(value) for value in (0, 59, 61, 7260, 4 * 86400)] == ["0 s", "59 s", "1 min 1 s", "2 h 1 min", "4 d"]


def test_a_process_that_is_not_there_is_gone():
    assert process_state(2**22 + 5) == "gone"


def counted(success, deferral=0):
    return Totals(
        [
            Sample("pluq_deliveries_total", {"channel": "local", "outcome": "success"}, success),
            Sample("pluq_deliveries_total", {"channel": "local", "outcome": "deferral"}, deferral),
        ]
    )


def test_history_is_the_growth_of_each_minute_and_a_restart_is_no_growth():
    history = History()
    start = NOW - NOW % 60
    for seconds, success in ((0, 100), (10, 104), (70, 110), (80, 3), (90, 5)):
        history.add(start + seconds, counted(success))
    assert [minute.counts["success"] for minute in history.steps(start + 90, 3, 60)] == [0, 4, 8]
    assert history.sums(start + 90, 3600)["success"] == 12


def test_history_forgets_what_is_older_than_a_day():
    history = History()
    for minute in range(2000):
        history.add(NOW + minute * 60, counted(minute))
    assert len(history._minutes) == 1440
