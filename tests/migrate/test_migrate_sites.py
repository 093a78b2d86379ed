"""Whole sites of many kinds, each one text in sites/: its files, and what must be said of it where every plugin is installed.

    @@ PATH [MODE]           a file with the lines that follow; "@@ PATH/" is a folder, "@@ PATH -> TARGET" a link
    @@ PATH cert [MODE]      a key and its certificate, as PEM
    @@ PATH cdb              a cdb of the lines KEY=VALUE that follow, \\0 for a NUL
    @@ PATH crlf | fifo      line ends are CRLF; a pipe
    %% recognised ID ...     and %% not-recognised ID ...
    %% port ADDRESS TLS AUTH: PLUGIN ...     all plugins of the profile, in any order
    %% remote PLUGIN ...     also %% queue, %% local, %% send
    %% KIND STATUS: NAME ... the items of these names, wherever they stand
    %% warning ID WORD ...   one with all of these words; %% quiet ID ... were false alarms
    %% secret TEXT           stands nowhere in the report

What stands before the first @@ says what the site is.
"""

from __future__ import annotations

import datetime
import functools
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from pluq.config import Home
from pluq.migrate.needs import ORDER
from pluq.migrate.report import installed_plugins, make_report
from pluq.migrate.survey import Survey, find_home
from pluq.migrate.tree import Tree
from pluq.migrate.write import undo, write
from pluq.plan import inspect
from pluq.store.cdb import write_cdb
from pluq_tls.selfsigned import make_certificate

SITES = sorted((Path(__file__).parent / "sites").glob("*.site"))
ROLES = ("remote", "queue", "local", "send")
KINDS = ("control", "env", "service", "user", "dotqmail")


def read_site(path: Path) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the files (header, text) and the expectations of a site."""
    text, *expectations = re.split(r"^%% ", path.read_text(), flags=re.MULTILINE)
    files = [block.partition("\n")[::2] for block in re.split(r"^@@ ", text, flags=re.MULTILINE)[1:]]
    return files, [line.strip() for line in expectations]


@functools.cache
def certificate() -> str:
    return make_certificate(["mail.example.org"], 30, datetime.datetime.now(datetime.UTC)).decode()


def make_file(root: Path, header: str, text: str) -> None:
    link, arrow, target = header.partition(" -> ")
    name, _, option = link.partition(" ")
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if arrow:
        path.symlink_to(target.strip())
    elif name.endswith("/"):
        path.mkdir(exist_ok=True)
    elif option.startswith("cert"):
        make_file(root, f"{name} {option[5:]}", certificate())
    elif option == "fifo":
        os.mkfifo(path)
    elif option == "cdb":
        write_cdb(
            str(path),
            [
                (k, v)
                for line in text.replace("\\0", "\0").encode().split(b"\n")
                if line
                for k, _, v in [line.partition(b"=")]
            ],
        )
    else:
        path.write_bytes((text.replace("\n", "\r\n") if option == "crlf" else text).encode())
        path.chmod(int(option, 8) if option.isdigit() else 0o755 if "bin/" in name or name.endswith("/run") else 0o644)


def build(root: Path, site: Path) -> list[str]:
    """Make a site below root, with what no text can hold: an empty queue. Return what is expected of it."""
    files, expectations = read_site(site)
    for header, text in files:
        make_file(root, header.strip(), text)
    return expectations


class Judge:
    """What a report must say: each line of expectations gives a complaint, or none."""

    def __init__(self, report: dict[str, Any]) -> None:
        self.report = report
        self.recognised = {one["id"] for one in report["recognised"]}

    def complaint(self, line: str) -> str:
        what, _, rest = line.partition(" ")
        if what in ROLES:
            return self._differ({name for one in self._named(what) for name in one["plugins"]}, rest)
        if what in KINDS:
            return self._items(what, rest)
        return str(getattr(self, "_" + what.replace("-", "_"))(rest))

    def _named(self, name: str) -> list[dict[str, Any]]:
        return [one for one in self.report["profiles"] if one["name"] == name]

    @staticmethod
    def _differ(found: set[str], wanted: str) -> str:
        names = set(wanted.split())
        return f"missing {sorted(names - found)}, too much {sorted(found - names)}" if names != found else ""

    def _recognised(self, rest: str) -> str:
        return " ".join(sorted(set(rest.split()) - self.recognised))

    def _not_recognised(self, rest: str) -> str:
        return " ".join(sorted(set(rest.split()) & self.recognised))

    def _port(self, rest: str) -> str:
        where, _, plugins = rest.partition(": ")
        address, tls, auth = where.rstrip(":").split()
        found = [one for one in self.report["profiles"] if address in one["listen"]]
        if len(found) != 1:
            return f"{len(found)} profiles listen there, of {[one['listen'] for one in self.report['profiles']]}"
        if (found[0]["tls"], found[0]["auth"]) != (tls, auth):
            return f"tls {found[0]['tls']}, auth {found[0]['auth']}"
        return self._differ(set(found[0]["plugins"]), plugins)

    def _ports(self, rest: str) -> str:
        return self._differ({address for one in self.report["profiles"] for address in one["listen"]}, rest)

    def _items(self, kind: str, rest: str) -> str:
        status, _, names = rest.partition(": ")
        wrong = []
        for name in names.split():
            found = [one for one in self.report["items"] if one["kind"] == kind and one["name"] == name]
            if not found or any(one["status"] != status for one in found):
                wrong.append(f"{name} {[(one['status'], one['detail'], one['source']) for one in found]}")
        return "; ".join(wrong)

    def _warning(self, rest: str) -> str:
        id_, *words = rest.split()
        details = [one["detail"] for one in self.report["warnings"] if one["id"] == id_]
        return "" if any(all(word in detail for word in words) for detail in details) else f"only {details}"

    def _quiet(self, rest: str) -> str:
        return "; ".join(f"{w['id']}: {w['detail']}" for w in self.report["warnings"] if w["id"] in rest.split())

    def _secret(self, rest: str) -> str:
        return "it is there" if rest in json.dumps(self.report, ensure_ascii=False) else ""


@pytest.mark.parametrize("site", SITES, ids=lambda path: path.stem)
def test_a_site_is_understood(site: Path, tmp_path: Path) -> None:
    expectations = build(tmp_path, site)
    tree = Tree(str(tmp_path))
    survey = Survey(tree, find_home(tree))
    # What a site needs does not change with what is installed.
    report = make_report(survey, dict.fromkeys(ORDER, ()) | dict(installed_plugins()))
    judge = Judge(report)
    complaints = [f"{line}: {why}" for line in expectations if (why := judge.complaint(line))]
    complaints += [
        f"{i['name']} is {i['status']} without a reason"
        for i in report["items"]
        if i["status"] != "carried" and not i["detail"]
    ]
    complaints += [
        f"{i['source']} is not there"
        for i in report["items"]
        if not os.path.lexists(tmp_path / i["source"].partition(":")[0])
    ]
    complaints += [w["detail"] for w in report["warnings"] if w["id"] == "x-toml"]
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize("site", SITES, ids=lambda path: path.stem)
def test_what_is_written_passes_the_check_of_its_settings(site: Path, tmp_path: Path) -> None:
    build(tmp_path, site)
    tree = Tree(str(tmp_path))
    survey = Survey(tree, find_home(tree))
    control = tree.host(tree.entry(survey.control).real)
    before = sorted(os.listdir(control))
    write(control, make_report(survey, installed_plugins())["toml"])
    home = Home(tree.host(survey.home))
    # What the site names by absolute paths lies in a copy of it.
    assert [fault for fault in inspect.faults(home) if not re.search("can(not)? be run|is not there$", fault)] == []
    undo(control)
    assert sorted(os.listdir(control)) == before
