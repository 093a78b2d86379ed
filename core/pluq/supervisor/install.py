"""pluq install: put programs, man pages and boot scripts into a qmail home, and take them out again.

Staged: below DESTDIR everything has the place that it will have; accounts need not exist there and then. Owners are set by whoever
runs as root where the accounts are, so a package's installation script runs the same command without DESTDIR. It can be repeated at
any time, and sets owners and modes right.

What is found in the place of a new file and is not ours (a qmail that was compiled here) is kept in HOME/before-pluq under the same
path, owner and mode, and comes back when pluq is removed. A new file takes the place of an old one in one step, so no program is ever
missing. HOME/installed-by-pluq lists what was put where. Mail, queue, control files, users and aliases are not ours to remove.

Source: INSTALL and instpackage.c, instchown.c of notqmail.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from pluq.config import Home, Ids
from pluq.config.programs import is_ours
from pluq.supervisor.hier import ROOT
from pluq.supervisor.manifest import Entry

LIST = "installed-by-pluq"
KEPT = "before-pluq"
KEPT_SUFFIX = ".before-pluq"
# Where programs look for sendmail.
SENDMAIL = ("/usr/sbin/sendmail", "/usr/lib/sendmail")
UNIT_FOLDER = "/usr/lib/systemd/system"
STOCK_HOME = "/var/qmail"
# Only the folders of one's own files are removed, and only when they are empty.
OWN_FOLDERS = ("man/man1", "man/man5", "man/man7", "man/man8", "man", "boot", "bin")


@dataclass
class Installer:
    """Installs into `destdir` + home. `ids` with `single` have no qmail users: owners stay what they are."""

    home: Home
    ids: Ids
    destdir: str = ""
    _installed: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self._installed = set(self._read_list())

    @property
    def base(self) -> str:
        return self.destdir + self.home.path

    # -- installing

    def install(self, entries: Iterable[Entry]) -> None:
        """Make everything that is missing, replace what is ours, set owners and modes. Raises OSError."""
        for entry in entries:
            path = f"{self.base}/{entry.path}" if entry.path else self.base
            if entry.source is not None:
                self._put(entry.path, path, self._content(entry), entry)
            elif entry.kind == stat.S_IFDIR:
                os.makedirs(path, exist_ok=True)
            elif not os.path.lexists(path):
                make(path, entry)
            self._give(path, entry)
        self._write_list()

    def link_sendmail(self) -> None:
        """Lead everybody who calls sendmail to ours. Raises OSError."""
        for link in SENDMAIL:
            path = self.destdir + link
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if os.path.lexists(path) and link not in self._installed:
                os.rename(path, path + KEPT_SUFFIX)
            replace(path, lambda new: os.symlink(f"{self.home.bin}/sendmail", new))
            self._installed.add(link)
        self._write_list()

    def install_unit(self, source: str) -> None:
        """Install the systemd unit for this home. Raises OSError."""
        name = f"{UNIT_FOLDER}/{os.path.basename(source)}"
        os.makedirs(self.destdir + UNIT_FOLDER, exist_ok=True)
        with open(source, "rb") as file:
            content = file.read()
        write(self.destdir + name, self._with_home(content), 0o644)
        self._installed.add(name)
        self._write_list()

    def _content(self, entry: Entry) -> bytes:
        assert entry.source is not None
        with open(entry.source, "rb") as file:
            content = file.read()
        return self._with_home(content) if entry.path.startswith("boot/") else content

    def _with_home(self, content: bytes) -> bytes:
        return content.replace(STOCK_HOME.encode(), os.fsencode(self.home.path))

    def _put(self, name: str, path: str, content: bytes, entry: Entry) -> None:
        if os.path.lexists(path) and not self._is_ours(name, path):
            self._keep(name, path)
        write(path, content, entry.mode)
        self._installed.add(name)

    def _is_ours(self, name: str, path: str) -> bool:
        return is_ours(path) if name.startswith("bin/") else name in self._installed

    def _keep(self, name: str, path: str) -> None:
        """Keep what was there before us; only the first time, for later ones are not of that installation."""
        kept = f"{self.base}/{KEPT}/{name}"
        os.makedirs(os.path.dirname(kept), exist_ok=True)
        if not os.path.lexists(kept):
            os.link(path, kept, follow_symlinks=False)

    def _give(self, path: str, entry: Entry) -> None:
        """Set owner and mode. A link in the home is the administrator's; one in the queue could be anybody's who got hold of qmailq."""
        may_follow = entry.kind == stat.S_IFDIR and not entry.path.startswith("queue/")
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC | (0 if may_follow else os.O_NOFOLLOW))
        try:
            if stat.S_ISLNK(os.fstat(fd).st_mode):
                raise OSError(errno.ELOOP, "a link", path)
            opened = f"/proc/self/fd/{fd}"
            if os.geteuid() == 0 and not self.ids.single:
                os.chown(opened, 0 if entry.owner == ROOT else self.ids.uid[entry.owner], self.ids.gid["qmail"])
            os.chmod(opened, entry.mode)
        finally:
            os.close(fd)

    # -- removing

    def remove(self) -> list[str]:
        """Take out what was installed, put back what was kept; return what is left alone because it has been replaced since."""
        left = []
        for name in sorted(self._installed):
            path = self.destdir + name if name.startswith("/") else f"{self.base}/{name}"
            if name.startswith("bin/") and os.path.lexists(path) and not is_ours(path):
                left.append(path)
                continue
            self._restore(name, path)
        remove_if_there(f"{self.base}/{LIST}")
        for folder in OWN_FOLDERS:
            remove_if_empty(f"{self.base}/{KEPT}/{folder}")
            remove_if_empty(f"{self.base}/{folder}")
        remove_if_empty(f"{self.base}/{KEPT}")
        return left

    def _restore(self, name: str, path: str) -> None:
        kept = path + KEPT_SUFFIX if name.startswith("/") else f"{self.base}/{KEPT}/{name}"
        if os.path.lexists(kept):
            os.rename(kept, path)
        else:
            remove_if_there(path)

    # -- the list

    def _read_list(self) -> Sequence[str]:
        try:
            with open(f"{self.base}/{LIST}") as file:
                return file.read().splitlines()
        except FileNotFoundError:
            return ()

    def _write_list(self) -> None:
        os.makedirs(self.base, exist_ok=True)
        text = "".join(f"{name}\n" for name in sorted(self._installed))
        write(f"{self.base}/{LIST}", text.encode(), 0o644)


def make(path: str, entry: Entry) -> None:
    """Make a lock or the trigger."""
    if entry.kind == stat.S_IFIFO:
        os.mkfifo(path, 0o600)
    else:
        write(path, bytes(entry.size), 0o600)


def write(path: str, content: bytes, mode: int) -> None:
    """Write a file in one step: who opens it finds the old one or the new one."""

    def create(new: str) -> None:
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(content)
            os.fchmod(fd, mode)

    replace(path, create)


def replace(path: str, create: Callable[[str], None]) -> None:
    """Have something new created beside `path`, and put it there."""
    new = f"{path}.new"
    remove_if_there(new)
    create(new)
    os.rename(new, path)


def remove_if_there(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def remove_if_empty(folder: str) -> None:
    try:
        os.rmdir(folder)
    except OSError:
        return  # not there, or somebody has something in it
