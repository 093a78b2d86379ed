"""quota: what a maildirsize file says, when messages are counted again, and what becomes of mail for a full Maildir."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq import Accept, Defer, Delivery, Message, Verdict
from pluq.testing.conformance import Conformance
from pluq.testing.plugins import make_plugin
from pluq_quota import OVER, OVER_FOR_NOW, UNKNOWN, Quota
from pluq_quota.maildirsize import READ_BYTES, Usage, fits, is_deleted, parse, size_in_name

TEXT = b"Subject: hi\n\nhello\n"
OLD = 1_000_000_000
ENVIRONMENT = {"RPLINE": "Return-Path: <s@x>\n", "DTLINE": "Delivered-To: joe@h\n"}
WHOLE = b"Return-Path: <s@x>\nDelivered-To: joe@h\n" + TEXT


# -- values


@pytest.mark.parametrize(
    ("data", "limits", "usage", "lines"),
    [
        (b"1000S\n", b"1000S", Usage(), 0),
        (b"1000S\n   10 1\n  -5  -1\n7 2", b"1000S", Usage(12, 2), 3),
        (b"1000S\nrubbish\n5\n 5 x\n", b"1000S", Usage(10, 0), 3),
        (b"", b"", Usage(), 0),
    ],
)
def test_sums_are_added_up(data: bytes, limits: bytes, usage: Usage, lines: int) -> None:
    sizes = parse(data)
    assert (sizes.limits, sizes.usage, sizes.lines, sizes.is_long) == (limits, usage, lines, False)


@given(data=st.binary(max_size=READ_BYTES))
def test_any_file_can_be_read(data: bytes) -> None:
    sizes = parse(data)
    fits(sizes.limits, sizes.usage)


@pytest.mark.parametrize(
    ("limits", "size", "count", "good"),
    [
        (b"100S", 100, 9, True),
        (b"100S", 101, 0, False),
        (b"100", 101, 0, False),
        (b"100X", 101, 0, False),
        (b"5C", 1 << 40, 5, True),
        (b"5C", 0, 6, False),
        (b"100S,5C", 100, 5, True),
        (b"100S,5C", 100, 6, False),
        (b"5C,100S", 101, 5, False),
        (b"", 1 << 40, 1 << 20, True),
        (b"no limit", 1 << 40, 1, True),
        (b"9" * 5000 + b"S", 1 << 40, 1, True),
        (b"0S", 1, 1, False),
    ],
)
def test_limits(limits: bytes, size: int, count: int, good: bool) -> None:
    assert fits(limits, Usage(size, count)) is good


@pytest.mark.parametrize(
    ("name", "size", "deleted"),
    [
        (b"1.2.h,S=300", 300, False),
        (b"1.2.h,S=300:2,ST", 300, True),
        (b"1.2.h,W=1,S=300,X=2:2,S", 300, False),
        (b"1.2.h:2,T,S=300", None, True),
        (b"1.2.h,S=1,S=300,W=2:2,S=5", 300, False),
        (b"1.2.h,S=300:2,STa", 300, True),
        (b"1.2.h,S=300:2,aT", 300, False),
        (b"1.2.h,S=300:2,P:2,T", 300, False),
        (b"1.2.hT", None, False),
    ],
)
def test_what_a_name_tells(name: bytes, size: int | None, deleted: bool) -> None:
    assert (size_in_name(name), is_deleted(name)) == (size, deleted)


# -- deliveries


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    for part in ("tmp", "new", "cur"):
        (tmp_path / "Maildir" / part).mkdir(parents=True)
    yield tmp_path


def limit(home: Path, text: str, age: int = OLD) -> None:
    (home / "Maildir/maildirsize").write_text(text)
    os.utime(home / "Maildir/maildirsize", (age, age))


def deliver(home: Path, path: str = "./Maildir/", over: str = "bounce") -> Verdict | None:
    (home / "message").write_bytes(TEXT)
    with open(home / "message", "rb") as file:
        delivery = Delivery("local", 0, b"s@x", [b"joe@h"], message=Message(file, len(TEXT)))
        plugin = make_plugin(Quota, role="local", over=over)
        return plugin.local_deliver(delivery, os.fsencode(path), {**ENVIRONMENT, "HOME": str(home)})


def sizes(home: Path) -> str:
    return (home / "Maildir/maildirsize").read_text()


def delivered(home: Path, box: str = "Maildir") -> list[bytes]:
    names = os.listdir(home / box / "new")
    assert all(name.endswith(f",S={len(WHOLE)}") for name in names)
    assert os.listdir(home / "Maildir/tmp") == []
    return [(home / box / "new" / name).read_bytes() for name in names]


def test_a_maildir_without_the_file_takes_everything(home: Path) -> None:
    assert deliver(home) == Accept()
    assert delivered(home) == [WHOLE]
    assert not (home / "Maildir/maildirsize").exists()


@pytest.mark.parametrize("path", ["./Maildir/", "{home}/Maildir/"])
def test_a_delivery_appends_its_size(home: Path, path: str) -> None:
    limit(home, "1000S\n100 1\n")
    assert deliver(home, path.format(home=home)) == Accept()
    assert sizes(home) == f"1000S\n100 1\n{len(TEXT)} 1\n"
    assert delivered(home) == [WHOLE]


def test_mail_for_a_full_maildir_bounces_or_waits(home: Path) -> None:
    (home / "Maildir/cur/1,S=990:2,S").touch()
    for over, verdict in (("bounce", OVER), ("defer", OVER_FOR_NOW)):
        limit(home, "1000S\n5000 5\n")
        assert deliver(home, over=over) == verdict
        assert sizes(home) == "1000S\n990 1\n"
    assert delivered(home) == []


def test_a_count_of_the_last_minutes_is_believed(home: Path) -> None:
    (home / "Maildir/maildirsize").write_text("1000S\n990 1\n")
    assert deliver(home) == OVER
    (home / "Maildir/maildirsize").write_text("1000S\n990 1\n0 0\n")
    assert deliver(home) == Accept()
    assert sizes(home) == f"1000S\n0 0\n{len(TEXT)} 1\n"


@pytest.mark.parametrize("text", ["", "\n", "\n5 1\n"])
def test_a_file_that_limits_nothing_stays_as_it_is(home: Path, text: str) -> None:
    limit(home, text)
    assert [deliver(home), deliver(home)] == [Accept(), Accept()]
    assert sizes(home) == text


def test_a_fifo_in_the_place_of_the_file_does_not_hold_the_delivery(home: Path) -> None:
    os.mkfifo(home / "Maildir/maildirsize")
    assert deliver(home) == Accept()
    assert delivered(home) == [WHOLE]


def test_a_long_file_is_written_anew(home: Path) -> None:
    limit(home, "1000S\n" + "1 1\n-1 -1\n" * 600)
    (home / "Maildir/new/1.without-size").write_bytes(b"12345")
    assert deliver(home) == Accept()
    assert sizes(home) == f"1000S\n5 1\n{len(TEXT)} 1\n"


def test_folders_count_and_what_was_thrown_away_does_not(home: Path) -> None:
    for folder in (".Sub", ".Trash"):
        for part in ("tmp", "new", "cur"):
            (home / "Maildir" / folder / part).mkdir(parents=True)
        (home / "Maildir" / folder / "cur/1,S=500").touch()
    (home / "Maildir/cur/2,S=500:2,T").touch()
    (home / "Maildir/.Sub/maildirfolder").touch()
    limit(home, "600S\n9999 9\n")
    assert deliver(home, "./Maildir/.Sub/") == Accept()
    assert sizes(home) == f"600S\n500 1\n{len(TEXT)} 1\n"


def test_what_cannot_be_known_puts_the_delivery_off(home: Path) -> None:
    (home / "Maildir/maildirsize").mkdir()
    assert deliver(home) == UNKNOWN
    missing = deliver(home, "./Missing/")
    assert isinstance(missing, Defer) and missing.text == "Unable to chdir to maildir. (#4.2.1)"
    assert delivered(home) == []


@pytest.mark.parametrize("line", ["./Mailbox", "|cat /tmp/", "&joe@h/"])
def test_other_instructions_are_left_to_the_core(home: Path, line: str) -> None:
    assert deliver(home, line) is None


class TestConformance(Conformance):
    plugin = Quota
