"""The folders and files of a qmail home, with qmail's owners and modes, and a first set of control files.

Making is repeatable: what exists is left as it is, so that it may be run on a home that is in use. The queue has 23 subfolders per
kind (conf-split); `pool` is ours and holds recycled message files, `run` the sockets of the resident roles.

Source: hier.c and config.sh of qmail, INSTALL.alias.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from pluq.config import Home, Ids
from pluq.config.programs import is_ours

SPLIT = 23
TCPTO_BYTES = 1024
ROOT = "root"

# path, owner, mode; all of group qmail
FOLDERS = (
    ("", ROOT, 0o755),
    ("control", ROOT, 0o755),
    ("users", ROOT, 0o755),
    ("bin", ROOT, 0o755),
    ("alias", "alias", 0o2755),
    ("run", ROOT, 0o755),
    ("state", ROOT, 0o755),
    ("state/smtpd", "qmaild", 0o700),
    ("state/queue", "qmailq", 0o700),
    ("state/send", "qmails", 0o700),
    ("state/remote", "qmailr", 0o700),
    ("queue", "qmailq", 0o750),
    ("queue/pid", "qmailq", 0o700),
    ("queue/intd", "qmailq", 0o700),
    ("queue/pool", "qmailq", 0o700),
    ("queue/todo", "qmailq", 0o750),
    ("queue/bounce", "qmails", 0o700),
    ("queue/mess", "qmailq", 0o750),
    ("queue/info", "qmails", 0o700),
    ("queue/local", "qmails", 0o700),
    ("queue/remote", "qmails", 0o700),
    ("queue/lock", "qmailq", 0o750),
)
SPLIT_FOLDERS = ("queue/mess", "queue/info", "queue/local", "queue/remote")
# path, owner, mode, size
FILES = (
    ("queue/lock/tcpto", "qmailr", 0o644, TCPTO_BYTES),
    ("queue/lock/sendmutex", "qmails", 0o600, 0),
)
TRIGGER = ("queue/lock/trigger", "qmails", 0o622)
# Mail to these must not get lost: whoever is not told otherwise, the administrator gets it.
ALIAS_MAILDIR = "./Maildir/"
ALIASES = ("postmaster", "mailer-daemon", "root")


@dataclass(frozen=True)
class Site:
    """What the first control files say. `deliver_to` is the .qmail line of the three aliases."""

    me: str
    local_domains: tuple[str, ...]
    deliver_to: str


def make_home(home: Home, ids: Ids) -> None:
    """Make the folders, the queue and its locks where they are missing. Raises OSError."""
    maker = Maker(home.path, ids)
    for path, owner, mode in FOLDERS:
        maker.folder(path, owner, mode)
        if path in SPLIT_FOLDERS:
            for number in range(SPLIT):
                maker.folder(f"{path}/{number}", owner, mode)
    for path, owner, mode, size in FILES:
        maker.file(path, owner, mode, bytes(size))
    maker.fifo(*TRIGGER)


def make_site(home: Home, ids: Ids, site: Site) -> None:
    """Write control files and aliases for a first start; those that exist stay as they are."""
    maker = Maker(home.path, ids)
    domain = site.me.partition(".")[2]
    lines = {
        "me": site.me,
        "defaultdomain": domain or site.me,
        "plusdomain": domain or site.me,
        "locals": "\n".join(site.local_domains),
        "rcpthosts": "\n".join(site.local_domains),
        "defaultdelivery": "./Maildir/",
    }
    for name, text in lines.items():
        maker.file(f"control/{name}", ROOT, 0o644, f"{text}\n".encode())
    for name in ALIASES:
        maker.file(f"alias/.qmail-{name}", "alias", 0o644, f"{site.deliver_to}\n".encode())
    if site.deliver_to == ALIAS_MAILDIR:
        for name in ("Maildir", "Maildir/tmp", "Maildir/new", "Maildir/cur"):
            maker.folder(f"alias/{name}", "alias", 0o700)


def make_null_client(home: Home, ids: Ids, site: Site, servers: Sequence[str]) -> None:
    """Make the home of a host without a queue, whose mail goes to `servers` by QMQP. Raises OSError."""
    maker = Maker(home.path, ids)
    for path, owner, mode in FOLDERS:
        if path in ("", "control", "bin"):
            maker.folder(path, owner, mode)
    domain = site.me.partition(".")[2] or site.me
    lines = {
        "me": site.me,
        "idhost": site.me,
        "defaultdomain": domain,
        "plusdomain": domain,
        "qmqpservers": "\n".join(servers),
    }
    for name, text in lines.items():
        maker.file(f"control/{name}", ROOT, 0o644, f"{text}\n".encode())


def is_null_client(home: Home) -> bool:
    """Say whether qmail-queue of this home is qmail-qmqpc: the host has no queue, and hands all mail on."""
    return os.path.basename(os.path.realpath(f"{home.bin}/qmail-queue")) == "qmail-qmqpc"


def write_control(home: Home, ids: Ids, name: str, text: str) -> None:
    """Write a control file that is not there yet. Raises OSError."""
    Maker(home.path, ids).file(f"control/{name}", ROOT, 0o644, text.encode())


def mark_single_user(home: Home, ids: Ids) -> None:
    """Note that root runs this home all by itself: see `Home.ids`."""
    Maker(home.path, ids).file("control/singleuser", ROOT, 0o644, b"")


def link_programs(home: Home, programs: str, queue: str = "qmail-queue") -> None:
    """Link HOME/bin to the classic programs in folder `programs`, for everything that calls them by that path.

    `queue` is the program that stands there as qmail-queue.
    """
    if queue != "qmail-queue" and not os.path.lexists(f"{home.bin}/qmail-queue"):
        os.symlink(f"{programs}/{queue}", f"{home.bin}/qmail-queue")
    for name in sorted(os.listdir(programs)):
        target = f"{programs}/{name}"
        link = f"{home.bin}/{name}"
        if is_ours(target) and not os.path.lexists(link):
            os.symlink(target, link)


@dataclass(frozen=True)
class Maker:
    """Makes things in a home that do not exist yet, with owner and mode."""

    base: str
    ids: Ids

    def folder(self, path: str, owner: str, mode: int) -> None:
        full = f"{self.base}/{path}" if path else self.base
        if not os.path.isdir(full):
            os.makedirs(full)
            self._give(full, owner, mode)

    def file(self, path: str, owner: str, mode: int, content: bytes) -> None:
        full = f"{self.base}/{path}"
        try:
            fd = os.open(full, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            return
        with open(fd, "wb") as file:
            file.write(content)
        self._give(full, owner, mode)

    def fifo(self, path: str, owner: str, mode: int) -> None:
        full = f"{self.base}/{path}"
        if not os.path.lexists(full):
            os.mkfifo(full, 0o600)
            self._give(full, owner, mode)

    def _give(self, full: str, owner: str, mode: int) -> None:
        if os.geteuid() == 0:
            os.chown(full, 0 if owner == ROOT else self.ids.uid[owner], self.ids.gid["qmail"])
        os.chmod(full, mode)
