"""The site's own users, groups, ports and host names, from its passwd, group, services and hosts files.

Where the copy has no such file, the names that qmail sites use stand for themselves with usual numbers; where it has one, that
file alone counts. Lines that cannot be parsed are passed over.

Source: passwd(5), group(5), services(5), hosts(5).
"""

from __future__ import annotations

from dataclasses import dataclass

from pluq.migrate.tree import Tree

USUAL_PORTS = {
    "smtp": 25, "mail": 25, "qmtp": 209, "pop3": 110, "pop-3": 110, "smtps": 465, "ssmtp": 465, "urd": 465, "submissions": 465,
    "submission": 587, "msa": 587, "odmr": 366, "qmqp": 628, "pop3s": 995, "imap": 143, "imaps": 993,
}  # fmt: skip
_USUAL_USERS = "alias qmaild qmaill qmailp qmailq qmailr qmails"
_FIRST_USUAL_ID = 7790


@dataclass(frozen=True, slots=True)
class Account:
    """A user: the line of passwd, and what is in it."""

    line: str
    name: str
    uid: int
    gid: int
    home: str


def _text(tree: Tree, path: str) -> str | None:
    data = tree.read(path)
    return None if data is None else data.decode("utf-8", "surrogateescape")


def parse_passwd(text: str) -> dict[str, Account]:
    """Return the accounts by name; the first line of a name counts."""
    found: dict[str, Account] = {}
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) >= 6 and fields[2].isdecimal() and fields[3].isdecimal():
            found.setdefault(fields[0], Account(line, fields[0], int(fields[2][:10]), int(fields[3][:10]), fields[5]))
    return found


def usual_accounts(home: str) -> dict[str, Account]:
    lines = ["root:x:0:0::/root:/bin/sh", "vpopmail:x:89:89::/home/vpopmail:/bin/false"]
    for number, name in enumerate(_USUAL_USERS.split(), _FIRST_USUAL_ID):
        lines.append(f"{name}:x:{number}:2108::{home + '/alias' if name == 'alias' else home}:/bin/false")
    return parse_passwd("\n".join(lines))


def parse_services(text: str) -> dict[str, int]:
    """Return the TCP ports by name and alias."""
    ports: dict[str, int] = {}
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) < 2 or not words[1].endswith("/tcp") or not words[1][:-4].isdecimal():
            continue
        for name in (words[0], *words[2:]):
            ports.setdefault(name, int(words[1][:-4][:6]))
    return ports


class Accounts:
    """Names of the site."""

    def __init__(self, tree: Tree, home: str) -> None:
        passwd, services, hosts = (_text(tree, f"/etc/{name}") for name in ("passwd", "services", "hosts"))
        self.users = usual_accounts(home) if passwd is None else parse_passwd(passwd)
        self.ports = USUAL_PORTS if services is None else {**USUAL_PORTS, **parse_services(services)}
        self.groups = self._parse_groups(_text(tree, "/etc/group") or "")
        self.hosts = self._parse_hosts(hosts or "")

    @staticmethod
    def _parse_groups(text: str) -> dict[str, int]:
        fields = [line.split(":") for line in text.splitlines()]
        return {line[0]: int(line[2][:10]) for line in fields if len(line) > 2 and line[2].isdecimal()}

    @staticmethod
    def _parse_hosts(text: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for line in text.splitlines():
            words = line.partition("#")[0].split()
            for name in words[1:]:
                found.setdefault(name.lower(), words[0])
        return found

    def port(self, name: str) -> int | None:
        """Return the number of a port that is given as number or name."""
        if name.isdecimal() and len(name) <= 5:
            return int(name)
        return self.ports.get(name)

    def group_id(self, name: str) -> int | None:
        if name in self.groups:
            return self.groups[name]
        user = self.users.get(name)
        return user.gid if user else None
