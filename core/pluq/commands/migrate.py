"""pluq migrate: what becomes of a qmail site, and the pluq.toml that keeps it as it is.

    pluq migrate HOME [--json] [--write | --undo] [--root DIR]

HOME is a qmail home, or the root of a copied file system that holds one. Nothing of the site is run, and nothing is changed
without --write; --undo takes back what --write did. Exit 0 when a report was made, however bad the site; 100 when HOME is no qmail
site; 111 for a temporary fault.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pluq.migrate.survey import Survey


def main() -> int:
    import argparse
    import json

    from pluq.commands.help_text import HelpText
    from pluq.errors import PluqError
    from pluq.migrate import report, write
    from pluq.migrate.survey import NotASite

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpText)
    parser.add_argument("home", metavar="HOME", help="a qmail home, or the root of a copied file system")
    parser.add_argument("--json", action="store_true", help="answer with one JSON object")
    parser.add_argument("--root", metavar="DIR", help="the root of the file system that HOME belongs to")
    change = parser.add_mutually_exclusive_group()
    change.add_argument("--write", action="store_true", help="write control/pluq.toml, with a backup")
    change.add_argument("--undo", action="store_true", help="take back what --write did")
    options = parser.parse_args()
    try:
        survey = find_site(options.home, options.root)
        control = survey.tree.host(survey.tree.entry(survey.control).real)
        if options.undo:
            sys.stderr.write(f"pluq migrate: {write.undo(control)}\n")
            warn_of_journal(os.path.join(os.path.dirname(control), "queue"))
            return 0
        found = report.make_report(survey, report.installed_plugins())
        if options.write:
            sys.stderr.write(f"pluq migrate: wrote {write.write(control, found['toml'])}\n")
        sys.stdout.write(json.dumps(found, indent=1) + "\n" if options.json else report.readable(found))
        return 0
    except NotASite as error:
        sys.stderr.write(f"pluq migrate: {error}\n")
        return 100
    except (OSError, PluqError) as error:
        sys.stderr.write(f"pluq migrate: {error}\n")
        return 100 if options.undo and not isinstance(error, OSError) else 111


def warn_of_journal(queue: str) -> None:
    """Say that a killed queue daemon left mail in its journal, which a qmail would not see."""
    from pluq.queue.layout import QueueLayout
    from pluq.queue.recovery import is_needed

    if is_needed(QueueLayout(queue)):
        sys.stderr.write(
            f"pluq migrate: {queue}/pool has the journal of a queue daemon that runs, or was killed: stop pluq, then let"
            " `pluq queue check --repair` put its mail into the queue before qmail starts\n"
        )


def find_site(home: str, root: str | None) -> Survey:
    """Return the survey of the site at HOME. Raises NotASite."""
    from pluq.migrate.survey import HOMES, NotASite, Survey, find_home
    from pluq.migrate.tree import Tree

    path = os.path.realpath(home)
    if root is not None:
        tree = Tree(os.path.realpath(root))
        if path != tree.root and not path.startswith(tree.root.rstrip("/") + "/"):
            raise NotASite(f"{home} is not below {root}")
        inside = "/" + path[len(tree.root.rstrip("/")) :].strip("/")
        return Survey(tree, inside if tree.is_folder(f"{inside}/control") else find_home(tree))
    if not os.path.isdir(path):
        raise NotASite(f"{home} is no folder")
    if not os.path.isdir(f"{path}/control"):
        return Survey(tree := Tree(path), find_home(tree))
    # A home of a copied file system ends like the home that it was; any other belongs to this machine.
    known = next((one for one in HOMES if path.endswith(one)), None)
    return Survey(Tree(path.removesuffix(known) or "/"), known) if known else Survey(Tree("/"), path)
