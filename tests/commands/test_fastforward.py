"""fastforward and dot-forward as programs; beside the original ones where Debian's packages are installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
DEBIAN = Path("/usr/bin")
QUEUE = '#!/bin/sh\ncat > "$QUEUED/message"\ncat <&1 > "$QUEUED/envelope"\n'
TABLE = b"""
root@h.e: god@h.e, staff@h.e, "|echo $RECIPIENT; cat >> seen";
staff@h.e: ?owner-staff@h.e, ann@x.y, bob@x.y, root@h.e;
all@: ann@x.y, bob@x.y, ANN@x.y, inner@h.e;
inner@h.e: bob@x.y, carl@x.y;
@wild.e: ./list.bin;
prog@h.e: !cat\\ >\\ lines;
loop@h.e: loop@h.e, a@x.y;
nothing@h.e: ?o@h.e;
""".replace(b'"|echo $RECIPIENT; cat >> seen"', b"|true")
pytestmark = pytest.mark.skipif(not (BIN / "fastforward").exists(), reason="pluq's programs are not installed here")


class Site:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "home" / "control").mkdir(parents=True)
        queue = folder / "queue"
        queue.write_text(QUEUE)
        queue.chmod(0o755)
        self.environment = {
            "PATH": f"{BIN}:/usr/bin:/bin",
            "PLUQ_HOME": str(folder / "home"),
            "QMAILQUEUE": str(queue),
            "QUEUED": str(folder),
            "DTLINE": "Delivered-To: d\n",
            "UFLINE": "From s\n",
            "RPLINE": "Return-Path: <s>\n",
            "NEWSENDER": "new@s.e",
            "SENDER": "s@s.e",
            "USER": "joe",
            "HOST": "h.e",
        }

    def run(self, name, *arguments, stdin=b"Subject: x\n\nbody\n", folder=BIN, **environment):
        message = self.folder / "stdin"
        message.write_bytes(stdin)
        with message.open("rb") as file:
            return subprocess.run(
                [folder / name, *arguments],
                stdin=file,
                capture_output=True,
                env=self.environment | environment,
                cwd=self.folder,
                timeout=60,
                check=False,
            )

    def read(self, name):
        return (self.folder / name).read_bytes()

    def write(self, name, data):
        (self.folder / name).write_bytes(data)


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    assert site.run("setforward", "data.cdb", "data.tmp", stdin=TABLE).returncode == 0
    assert site.run("setmaillist", "list.bin", "list.tmp", stdin=b"x@l.e\n./more.bin\ny@l.e\n").returncode == 0
    assert site.run("setmaillist", "more.bin", "more.tmp", stdin=b"z@l.e\nx@l.e\n").returncode == 0
    return site


# recipient, exit code, what -n prints
EXPANSIONS = {
    "root@h.e": (0, ["run |true", "from <s@s.e>", "to <god@h.e>", "to <staff@h.e>"]),
    "ROOT@H.e": (0, ["run |true", "from <s@s.e>", "to <god@h.e>", "to <staff@h.e>"]),
    "staff@h.e": (
        0,
        ["run |true", "from <owner-staff@h.e>", "to <ann@x.y>", "to <bob@x.y>", "to <god@h.e>", "to <staff@h.e>"],
    ),
    "all@any.where": (0, ["from <s@s.e>", "to <ann@x.y>", "to <bob@x.y>", "to <ANN@x.y>", "to <carl@x.y>"]),
    "any@wild.e": (0, ["from <s@s.e>", "to <x@l.e>", "to <z@l.e>", "to <y@l.e>"]),
    "loop@h.e": (0, ["from <s@s.e>", "to <a@x.y>"]),
    "nobody@h.e": (100, ["Sorry, no mailbox here by that name. (#5.1.1)"]),
    "nothing@h.e": (100, ["Sorry, no mailbox here by that name. (#5.1.1)"]),
}


@pytest.mark.parametrize("recipient", EXPANSIONS)
def test_instructions_are_followed_to_the_addresses(site, recipient):
    done = site.run("fastforward", "-n", "data.cdb", RECIPIENT=recipient)
    assert done.returncode == EXPANSIONS[recipient][0]
    assert sorted(done.stderr.decode().splitlines()) == sorted(EXPANSIONS[recipient][1])


@pytest.mark.skipif(not (DEBIAN / "fastforward").exists(), reason="Debian's fastforward is not installed")
@pytest.mark.parametrize("recipient", EXPANSIONS)
@pytest.mark.parametrize("options", ["-n", "-np"])
def test_the_original_prints_the_same_from_our_database(site, recipient, options):
    ours = site.run("fastforward", options, "data.cdb", RECIPIENT=recipient)
    original = site.run("fastforward", options, "data.cdb", RECIPIENT=recipient, folder=DEBIAN)
    assert (ours.returncode, ours.stderr) == (original.returncode, original.stderr)


@pytest.mark.skipif(not (DEBIAN / "setforward").exists(), reason="Debian's fastforward is not installed")
def test_the_original_writes_and_prints_the_same_files(site):
    assert site.run("setforward", "their.cdb", "their.tmp", stdin=TABLE, folder=DEBIAN).returncode == 0
    assert site.read("their.cdb") == site.read("data.cdb")
    printed = [site.run("printforward", stdin=site.read("data.cdb"), folder=folder).stdout for folder in (BIN, DEBIAN)]
    assert printed[0] == printed[1]
    site.write("list", b"ann@x.y, Bob <bob@x.y>\n# c\n:include:more\n")
    assert site.run("newinclude", "list", folder=DEBIAN).returncode == 0
    theirs = site.read("list.bin")
    assert site.run("newinclude", "list").returncode == 0
    assert site.read("list.bin") == theirs
    printed = [site.run("printmaillist", stdin=theirs, folder=folder).stdout for folder in (BIN, DEBIAN)]
    assert printed == [b"&bob@x.y\n&ann@x.y\n./more\n"] * 2


def test_the_message_goes_to_all_at_once(site):
    done = site.run("fastforward", "-d", "data.cdb", DEFAULT="all")
    assert done.returncode == 0
    assert done.stderr.startswith(b"fastforward: qp ")
    assert site.read("message") == b"Delivered-To: d\nSubject: x\n\nbody\n"
    sender, *recipients = site.read("envelope").split(b"\0")[:-2]
    assert sender == b"Fs@s.e"
    assert sorted(recipients) == [b"TANN@x.y", b"Tann@x.y", b"Tbob@x.y", b"Tcarl@x.y"]


def test_a_bounce_keeps_its_sender(site):
    site.run("fastforward", "data.cdb", RECIPIENT="staff@h.e", SENDER="")
    assert site.read("envelope").startswith(b"F\0")


def test_programs_get_the_message_from_the_beginning(site):
    assert site.run("fastforward", "data.cdb", RECIPIENT="prog@h.e").returncode == 0
    assert site.read("lines") == b"From s\nReturn-Path: <s>\nDelivered-To: d\nSubject: x\n\nbody\n"


@pytest.mark.parametrize(("code", "expected"), [(100, 100), (64, 100), (1, 111), (99, 111)])
def test_a_program_that_fails_stops_the_delivery(site, code, expected):
    site.run("setforward", "data.cdb", "data.tmp", stdin=b"a@b: |exit\\ %d, x@y;" % code)
    assert site.run("fastforward", "data.cdb", RECIPIENT="a@b").returncode == expected
    assert not (site.folder / "envelope").exists()


def test_passing_through_leaves_the_rest_of_the_file_to_others(site):
    assert site.run("fastforward", "-p", "data.cdb", RECIPIENT="nobody@h.e").returncode == 0
    assert site.run("fastforward", "-p", "data.cdb", RECIPIENT="loop@h.e").returncode == 99


def test_a_list_that_not_everybody_may_read_is_not_read(site):
    (site.folder / "list.bin").chmod(0o640)
    done = site.run("fastforward", "-n", "data.cdb", RECIPIENT="a@wild.e")
    assert (done.returncode, done.stderr) == (111, b"fastforward: fatal: ./list.bin is not world-readable\n")


def test_a_missing_or_broken_database_is_temporary(site):
    done = site.run("fastforward", "no.cdb", RECIPIENT="a@b")
    assert (done.returncode, done.stderr) == (111, b"fastforward: fatal: unable to read no.cdb: file does not exist\n")
    site.write("data.cdb", b"x" * 100)
    assert site.run("fastforward", "data.cdb", RECIPIENT="a@b").returncode == 111


def test_a_mistake_leaves_the_old_database(site):
    before = site.read("data.cdb")
    done = site.run("setforward", "data.cdb", "data.tmp", stdin=b"a:b;c")
    assert (done.returncode, done.stderr) == (100, b"setforward: fatal: final instruction must end with semicolon\n")
    assert site.read("data.cdb") == before


def test_aliases_are_compiled_and_followed(site):
    site.write("aliases", b'postmaster: root\nroot: ann@x.y, "|true"\n')
    assert site.run("newaliases", "aliases").returncode == 0
    assert (site.folder / "aliases.cdb").stat().st_mode & 0o777 == 0o644
    # defaults are "me.me" here, so root@ is no target of postmaster's own: the database says so
    done = site.run("fastforward", "-nd", "aliases.cdb", DEFAULT="root")
    assert done.stderr.splitlines() == [b"run !true", b"from <s@s.e>", b"to <ann@x.y>"]


def test_a_database_that_is_none_is_not_printed(site):
    done = site.run("printforward", stdin=b"\xff" * 3000)
    assert (done.returncode, done.stderr) == (100, b"printforward: fatal: bad database format\n")


FORWARDS = {
    "two addresses": (b"bob@x.y, Ann <ann@x.y>\n", 99, ["forward ann@x.y", "forward bob@x.y"]),
    "a program": (b'"|vacation joe"\n', 99, ["pipe through vacation joe"]),
    "himself": (b"JOE, bob@x.y\n", 0, ["forward bob@x.y", "direct delivery"]),
    "himself with his host": (b"joe@H.E\n", 0, ["direct delivery"]),
    "somebody of his name elsewhere": (b"joe@x.y\n", 99, ["forward joe@x.y"]),
    "a program of his name": (b"|joe\n", 99, ["pipe through joe"]),
    "nothing": (b"# a comment\n\n", 0, ["skipping empty file .forward", "direct delivery"]),
    "a file": (b"/dev/null\n", 111, ["dot-forward: fatal: file delivery /dev/null not supported"]),
    "an empty address": (b"<>\n", 0, ["skipping empty file .forward", "direct delivery"]),
}


@pytest.mark.parametrize("name", FORWARDS)
def test_a_forward_file_is_obeyed(site, name):
    content, code, lines = FORWARDS[name]
    site.write(".forward", content)
    done = site.run("dot-forward", "-n", ".missing", ".forward")
    assert (done.returncode, done.stderr.decode().splitlines()) == (code, lines)
    if (DEBIAN / "dot-forward").exists():
        original = site.run("dot-forward", "-n", ".missing", ".forward", folder=DEBIAN)
        assert (original.returncode, original.stderr) == (done.returncode, done.stderr)


def test_dot_forward_forwards_and_runs(site):
    site.write(".forward", b'bob@x.y, "|cat > got"\n')
    done = site.run("dot-forward", ".forward")
    assert done.returncode == 99
    assert done.stderr.startswith(b"dot-forward: info: qp ")
    assert site.read("got") == b"From s\nReturn-Path: <s>\nDelivered-To: d\nSubject: x\n\nbody\n"
    assert site.read("message") == b"Delivered-To: d\nSubject: x\n\nbody\n"
    assert site.read("envelope") == b"Fnew@s.e\0Tbob@x.y\0\0"


def test_an_unreadable_forward_file_is_tried_again(site):
    (site.folder / ".forward").mkdir()
    assert site.run("dot-forward", ".forward").returncode == 111
    assert os.listdir(site.folder / ".forward") == []
