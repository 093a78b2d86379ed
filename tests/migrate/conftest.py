"""Small sites in temporary folders: a table of paths and texts, and what the migration says of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pluq.config.settings import declarations, setting
from pluq.migrate.report import make_report
from pluq.migrate.survey import Survey, find_home
from pluq.migrate.tree import Tree

PASSWD = """root:x:0:0:root:/root:/bin/sh
alias:x:7790:2108::/var/qmail/alias:/bin/false
qmaild:x:7791:2108::/var/qmail:/bin/false
vpopmail:x:89:89::/home/vpopmail:/bin/false
"""
BASE = {
    "etc/passwd": PASSWD,
    "etc/services": "smtp 25/tcp\nsmtps 465/tcp\nsubmission 587/tcp\n",
    "var/qmail/control/me": "mail.example.org\n",
    "var/qmail/control/rcpthosts": "example.org\n",
    "var/qmail/alias/.qmail-postmaster": "ana@example.org\n",
    "etc/tcp.smtp": '127.:allow,RELAYCLIENT=""\n:allow\n',
}
FORKS = {
    "netqmail": "214 netqmail home page",
    "sagredo": "ENABLE_SPP FORCETLS SMTPAUTH control/servercert.pem",
    "jms1": "AUTH_CDB FORCE_TLS control/servercert.pem",
    "qmailtoaster": "badloadertypes REPLY554 control/servercert.pem",
    "notqmail": "214 notqmail home page",
    "indimail": "indimail-mta",
    "qmail-ldap": "ldapserver",
    "qmail": "http://pobox.com/~djb/qmail.html",
}


@dataclass(frozen=True)
class Spf:
    behavior: int = setting(0, control="spfbehavior", env="SPFBEHAVIOR", help="")


@dataclass(frozen=True)
class Auth:
    required: bool = setting(False, env="REQUIRE_AUTH", help="")
    without_tls: bool = setting(False, env="FORCETLS", parse_env=lambda text: text == "0", help="")
    program: tuple[str, ...] = setting((), help="")
    mechanisms: tuple[str, ...] = setting((), help="")
    force_sender: bool = setting(False, help="")


DECLARED = {"spf": declarations(Spf), "auth": declarations(Auth)}
ALL_PLUGINS = [
    "ipv6",
    "size",
    "tls",
    "auth",
    "popauth",
    "eai",
    "tarpit",
    "acl",
    "dnsbl",
    "greylist",
    "badmail",
    "spf",
    "batv",
    "rcptcheck",
    "ratelimit",
    "spp",
    "dkim",
    "surbl",
    "qfilter",
    "qmailqueue",
    "taps",
    "envrules",
    "dane",
    "bind",
    "qmtp",
    "srs",
    "bounce",
    "quota",
]


def build(root: Path, files: Mapping[str, str | bytes], fork: str = "netqmail") -> Path:
    """Make a site: BASE, a qmail-smtpd with the words of a fork, and the files; a text "-> TARGET" is a link."""
    everything = {**BASE, "var/qmail/bin/qmail-smtpd": FORKS[fork], "var/qmail/bin/qmail-queue": "", **files}
    for name, content in everything.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content.startswith("-> "):
            path.symlink_to(content[3:])
        else:
            path.write_text(content)
        if path.is_file() and not path.is_symlink() and "/bin/" in name:
            path.chmod(0o755)
    return root


class Found:
    """A report, with what tests ask of it."""

    def __init__(self, report: dict[str, Any]) -> None:
        self.report = report
        self.recognised = {one["id"] for one in report["recognised"]}
        self.warnings = {one["id"] for one in report["warnings"]}

    def profile(self, port: int) -> dict[str, Any]:
        (found,) = [p for p in self.report["profiles"] if any(a.endswith(f":{port}") for a in p["listen"])]
        return dict(found)

    def role(self, name: str) -> dict[str, Any]:
        return next(dict(p) for p in self.report["profiles"] if p["name"] == name)

    def status(self, kind: str, name: str) -> str:
        return str(next(i["status"] for i in self.report["items"] if (i["kind"], i["name"]) == (kind, name)))

    def details(self, warning: str) -> str:
        return "\n".join(one["detail"] for one in self.report["warnings"] if one["id"] == warning)


@pytest.fixture
def migrate(tmp_path: Path) -> Callable[..., Found]:
    """Build a site and return what is found; by default every plugin counts as installed."""

    def run(files: Mapping[str, str | bytes], fork: str = "netqmail", plugins: list[str] | None = None) -> Found:
        tree = Tree(str(build(tmp_path / "site", files, fork)))
        catalogue = {name: DECLARED.get(name, ()) for name in (ALL_PLUGINS if plugins is None else plugins)}
        return Found(make_report(Survey(tree, find_home(tree)), catalogue))

    return run


@pytest.fixture
def build_site(tmp_path: Path) -> Callable[..., Path]:
    return lambda files, fork="netqmail": build(tmp_path / "site", files, fork)
