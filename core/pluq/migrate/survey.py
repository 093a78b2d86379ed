"""Everything that a migration looks at, read once: control files, services, rules, words in programs, the queue.

Nothing here decides; `recognise`, `listeners`, `items` and `warnings` do. Each file is read once, bounded, and by its site's path.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from pluq.migrate.accounts import Accounts
from pluq.migrate.chain import OTHER_RULES
from pluq.migrate.rules import Rules, read_rules
from pluq.migrate.services import Finder, Launch, Service, Setting
from pluq.migrate.tree import FILE, FOLDER, MISSING, Entry, Tree

# Where qmail homes are. The home of an indimail may have links to the parts of its own in /etc/indimail.
HOMES = ("/etc/indimail", "/var/qmail", "/usr/local/qmail", "/opt/qmail", "/var/lib/qmail", "/home/qmail", "/etc/qmail")
PROGRAM_LIMIT = 2 << 20
PROGRAM_FOLDERS = (
    "/usr/local/bin", "/usr/bin", "/usr/sbin", "/usr/local/sbin", "/bin", "/sbin", "/command", "/package/host/sagredo.eu/bin",
    "/home/vpopmail/bin",
)  # fmt: skip
BACKUP = re.compile(
    r".*~|#.*#|\..*\.sw[a-z]|.*\.(bak|old|orig|save|saved|rpmsave|rpmnew|rpmorig|dpkg-\w+|ucf-\w+|tmp|new|dist|sample|default"
    r"|disabled|off|[0-9]{6,8})|.*[-_.](bak|old|orig|backup|copy)([-_.]?[0-9]+)?|.*\.bak[0-9-]*"
)


class NotASite(Exception):
    """There is no qmail home at the place that was named."""


@dataclass(frozen=True, slots=True)
class Control:
    """One name in the control directory. `data` is None where no file can be read."""

    name: str
    path: str
    entry: Entry
    data: bytes | None

    @property
    def text(self) -> str:
        return (self.data or b"").decode("utf-8", "surrogateescape")

    @property
    def line(self) -> str:
        return self.text.partition("\n")[0].rstrip(" \t\r")

    @property
    def lines(self) -> list[tuple[int, str]]:
        """The entries of a list with their line numbers: no comments, no empty lines."""
        found = []
        for number, line in enumerate(self.text.split("\n"), 1):
            line = line.rstrip(" \t\r")
            if line and not line.startswith("#"):
                found.append((number, line))
        return found

    @property
    def number(self) -> int | None:
        digits = re.match(r"[0-9]{1,20}", self.line)
        return int(digits[0]) if digits else None

    @property
    def crlf(self) -> bool:
        return self.data is not None and b"\r\n" in self.data and not self.name.endswith((".cdb", ".pem"))

    @property
    def usable(self) -> bool:
        return self.data is not None


def find_home(tree: Tree) -> str:
    """Return the qmail home below a root. Raises NotASite."""
    accounts = Accounts(tree, "/var/qmail")
    named = [accounts.users[name].home for name in ("qmaild", "qmailq") if name in accounts.users]
    for home in [*HOMES[:2], *named, *HOMES]:
        if tree.is_folder(f"{home}/control"):
            return home
    raise NotASite(f"{tree.root}: no qmail home here: no control directory in any of the places where one would be")


class Survey:
    """The facts of a site whose home is `home`, a path of the site."""

    def __init__(self, tree: Tree, home: str) -> None:
        self.tree = tree
        self.home = home
        self.control = f"{home}/control"
        self.accounts = Accounts(tree, home)
        self._words: dict[str, bytes] = {}
        self._rules: dict[str, Rules] = {}

    # -- control files

    @cached_property
    def controls(self) -> dict[str, Control]:
        """All names in the control directory."""
        folder = self.tree.entry(self.control).real
        found = {}
        for name in self.tree.names(self.control):
            entry = self.tree.entry(f"{folder}/{name}")
            found[name] = Control(name, f"{folder}/{name}", entry, self.tree.read(entry.path))
        return found

    def has(self, name: str) -> bool:
        """Say whether a control file is there and can be read."""
        return name in self.controls and self.controls[name].usable

    def folder(self, name: str) -> bool:
        return name in self.controls and self.controls[name].entry.kind == FOLDER

    def lines(self, name: str) -> list[tuple[int, str]]:
        return self.controls[name].lines if self.has(name) else []

    def number(self, name: str) -> int:
        return (self.controls[name].number or 0) if self.has(name) else 0

    # -- programs

    def program(self, name: str) -> str | None:
        """Return the path of a program of the site, None if it is not there."""
        for folder in (f"{self.home}/bin", *PROGRAM_FOLDERS, "/usr/libexec/indimail", "/usr/lib/indimail/plugins"):
            if self.tree.is_file(f"{folder}/{name}"):
                return f"{folder}/{name}"
        return None

    def words(self, name: str) -> bytes:
        """Return a program's text, b"" where there is none."""
        if name not in self._words:
            path = self.program(name)
            self._words[name] = (self.tree.read(path, PROGRAM_LIMIT) or b"") if path else b""
        return self._words[name]

    def says(self, program: str, *texts: str) -> str:
        """Return "bin/PROGRAM: TEXT" for the first of the texts that a program holds, else ""."""
        data = self.words(program)
        return next((f"bin/{program}: {text}" for text in texts if text.encode() in data), "")

    @cached_property
    def has_programs(self) -> bool:
        return self.tree.is_folder(f"{self.home}/bin") and bool(self.tree.names(f"{self.home}/bin"))

    @cached_property
    def all_words(self) -> bytes:
        """What all programs of the home hold."""
        names = self.tree.names(f"{self.home}/bin")[:200]
        return b"\n".join(self.words(name) for name in names)

    # -- services and rules

    @cached_property
    def services(self) -> list[Service]:
        return Finder(self.tree, self.accounts, self.home, self.control).find()

    @property
    def launches(self) -> Iterator[tuple[Service, Launch]]:
        for service in self.services:
            for launch in service.launches:
                yield service, launch

    def rules(self, launch: Launch) -> Rules | None:
        """Return the rules that a launch's listener reads, None if it reads none."""
        listener = launch.chain.listener
        path = listener.options.get("x") if listener else None
        if not path or (listener and listener.name in OTHER_RULES):
            return None
        path = path if path.startswith("/") else f"{launch.folder}/{path}"
        if path not in self._rules:
            self._rules[path] = read_rules(self.tree, path)
        return self._rules[path]

    def programs_in_use(self) -> Iterator[tuple[str, str]]:
        """Yield (name, place) for each program in the chains of all services."""
        for service, launch in self.launches:
            for step in launch.chain.steps:
                yield step.name, f"{service.run.lstrip('/')}"

    def uses(self, *names: str) -> str:
        """Return where one of these programs stands in a chain, "" for nowhere."""
        for name, place in self.programs_in_use():
            if name in names:
                return f"{place}: {name}"
        return ""

    def settings(self, name: str) -> Iterator[tuple[Service, Launch, Setting]]:
        for service, launch in self.launches:
            if name in launch.environment:
                yield service, launch, launch.environment[name]

    # -- queue and users

    @cached_property
    def queue_folders(self) -> list[str]:
        """The queues of the site: one, or indimail's several."""
        for base in (f"{self.home}/queue", "/var/indimail/queue", "/var/qmail/queue"):
            if not self.tree.is_folder(base):
                continue
            several = [
                f"{base}/{name}" for name in self.tree.names(base) if re.fullmatch(r"queue[0-9]+|nqueue|slowq", name)
            ]
            real = self.tree.entry(base).real
            return [real, *(path for path in several if self.tree.is_folder(path))]
        return []

    def waiting(self, queue: str) -> int:
        """Return how many messages a queue holds."""
        total = 0
        for name in self.tree.names(f"{queue}/mess"):
            if self.tree.is_folder(f"{queue}/mess/{name}"):
                total += len(self.tree.names(f"{queue}/mess/{name}"))
            else:
                total += 1
        return total

    def split_todo(self, queue: str) -> bool:
        return any(
            name.isdecimal() and self.tree.is_folder(f"{queue}/todo/{name}")
            for name in self.tree.names(f"{queue}/todo")
        )

    def text_of(self, path: str) -> str:
        return (self.tree.read(path, 1 << 20) or b"").decode("utf-8", "surrogateescape")

    @cached_property
    def alias(self) -> str:
        """The home of the user alias."""
        user = self.accounts.users.get("alias")
        return user.home if user else f"{self.home}/alias"

    def missing_program(self, path: str) -> bool:
        """Say whether a program below the home is named and not there (a copy without programs misses none)."""
        if not path.startswith(f"{self.home}/") or (path.startswith(f"{self.home}/bin/") and not self.has_programs):
            return False
        return self.tree.entry(path).kind != FILE


def relative(path: str) -> str:
    """Return a path as reports name it: below the root."""
    return path.lstrip("/") or "."


__all__ = ["MISSING", "Control", "NotASite", "Survey", "find_home", "relative"]
