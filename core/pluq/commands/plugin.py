"""pluq plugin new NAME: a folder with a plugin that works and passes its own tests, to begin with.

    pluq plugin new [--single] [--into DIR] NAME

    NAME/pyproject.toml            makes it installable: pip install ./NAME
    NAME/README.md                 what the administrator reads
    NAME/pluq_NAME/__init__.py     the plugin: one setting, one hook
    NAME/tests/test_NAME.py        its tests, and those that every plugin must pass: python -m pytest NAME

With --single it is one file, NAME.py, for the folder plugins/ of a qmail home:
nothing is to be installed then. Either way it is active where
control/pluq.toml names it.
"""

from __future__ import annotations

import os
import re
import sys

NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")

PYPROJECT = """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "pluq-{name}"
version = "0.1.0"
description = "A plugin for the mail transfer agent pluq"
requires-python = ">=3.11"
dependencies = ["pluq"]

[project.entry-points."pluq.plugins"]
{name} = "pluq_{name}:{cls}"

[tool.hatch.build.targets.wheel]
packages = ["pluq_{name}"]

[tool.pytest.ini_options]
addopts = "--import-mode=importlib"
asyncio_mode = "auto"
asyncio_default_fixture_loop_scope = "function"
pythonpath = ["."]
"""

README = """# {name}

Refuses senders whose local part is too long.

    [profile.mx]
    plugins = ["{name}"]
    {name}.longest = 64

| setting | default | |
|---|---|---|
| `longest` | 64 | octets of a sender's local part |
"""

PLUGIN = '''"""{name}: what it does, in one line.

Say here what the plugin does, which files and variables it reads, and what happens when something it needs is not there.
"""

from __future__ import annotations

from dataclasses import dataclass

from pluq import Plugin, Reject, Session, Transaction, Verdict, hook, setting


@dataclass(frozen=True)
class Settings:
    longest: int = setting(64, unit="octets", env="{upper}_LONGEST", help="Longest local part of a sender.")


class {cls}(Plugin[Settings]):
    """Refuse senders whose local part is too long."""

    name = "{name}"

    @hook
    def smtp_mail(self, session: Session, transaction: Transaction) -> Verdict | None:
        if len(transaction.sender_local) > self.settings_for(session).longest:
            return Reject(553, "5.1.7", "sorry, your envelope sender is too long")
        return None
'''

TESTS = '''"""{name}: what it refuses, and what every plugin must hold."""

from pluq.testing.conformance import Conformance
from pluq.testing.plugins import make_plugin, plan_of
from pluq.testing.smtp_session import Talk

from pluq_{name} import {cls}


def test_a_long_sender_is_refused() -> None:
    talk = Talk(plan=plan_of(make_plugin({cls}, longest=3)))
    assert talk.say("MAIL FROM:<long@example.net>") == "553 sorry, your envelope sender is too long (#5.1.7)"
    assert talk.say("MAIL FROM:<ann@example.net>") == "250 ok"


def test_a_rule_for_one_client_wins() -> None:
    talk = Talk(plan=plan_of(make_plugin({cls}, longest=3)), environment={{"{upper}_LONGEST": "9"}})
    assert talk.say("MAIL FROM:<long@example.net>") == "250 ok"


class TestConformance(Conformance):
    plugin = {cls}
'''


def main() -> int:
    import argparse

    from pluq.commands.help_text import HelpText

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpText)
    parser.add_argument("action", choices=["new"], help="make a new plugin")
    parser.add_argument("name", help="lower-case letters, digits and underscores")
    parser.add_argument("--into", metavar="DIR", default=".", help="where to make it (default: here)")
    parser.add_argument("--single", action="store_true", help="one file, for a site's folder plugins/")
    options = parser.parse_args()
    if not NAME.fullmatch(options.name):
        sys.stderr.write(f"pluq plugin: {options.name!r}: a name has lower-case letters, digits and underscores\n")
        return 100
    if is_taken(options.name):
        sys.stderr.write(f"pluq plugin: {options.name!r} is the name of an installed plugin; choose another\n")
        return 100
    path = os.path.join(options.into, f"{options.name}.py" if options.single else options.name)
    try:
        files = write_single(path, options.name) if options.single else write_files(path, options.name)
    except FileExistsError:
        sys.stderr.write(f"pluq plugin: {path} is there already\n")
        return 100
    except OSError as error:
        sys.stderr.write(f"pluq plugin: {error.filename}: {os.strerror(error.errno or 0)}\n")
        return 111
    sys.stdout.write("".join(f"{path}\n" for path in files))
    tried = "" if options.single else f"python -m pytest {path}; pip install {path}; "
    sys.stdout.write(f"next: {tried}name it in control/pluq.toml; pluq check\n")
    return 0


def is_taken(name: str) -> bool:
    """True for the name of a plugin that is installed: a profile that names it means that one."""
    from pluq.plan.load import installed

    return name in installed()


def words_of(name: str) -> dict[str, str]:
    return {"name": name, "upper": name.upper(), "cls": "".join(part.capitalize() for part in name.split("_"))}


def write_single(path: str, name: str) -> list[str]:
    """Write a plugin that is one file. Raises OSError, FileExistsError for a file that is there."""
    with open(path, "x", encoding="utf-8") as file:
        file.write(PLUGIN.format(**words_of(name)))
    return [path]


def write_files(folder: str, name: str) -> list[str]:
    """Write the files of a new plugin; return their paths. Raises OSError, FileExistsError for a folder that is there."""
    contents = {
        "pyproject.toml": PYPROJECT,
        "README.md": README,
        f"pluq_{name}/__init__.py": PLUGIN,
        f"pluq_{name}/py.typed": "",
        f"tests/test_{name}.py": TESTS,
    }
    os.mkdir(folder)
    for path, text in contents.items():
        os.makedirs(os.path.dirname(f"{folder}/{path}"), exist_ok=True)
        with open(f"{folder}/{path}", "x", encoding="utf-8") as file:
            file.write(text.format(**words_of(name)))
    return [f"{folder}/{path}" for path in contents]
