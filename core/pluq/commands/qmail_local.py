"""qmail-local [-nN] user homedir local dash ext domain sender defaultdelivery: deliver the message on descriptor 0.

With -n it says what would be done and does nothing.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pluq.errors import PluqError
    from pluq.local.order import Order

ARGUMENTS = 8
DONE, PERMANENT, TEMPORARY = 0, 100, 111


def main() -> int:
    from pluq.commands.options import Options
    from pluq.errors import ConfigError, PermanentFailure, TemporaryFailure
    from pluq.local.order import Order

    doing = True
    options = Options(sys.argv, "nN")
    for letter, _ in options:
        if letter == "?":
            return usage()
        doing = letter == "N"
    arguments = [os.fsencode(word) for word in options.rest]
    if len(arguments) != ARGUMENTS or not arguments[1].startswith(b"/"):
        return usage()
    order = Order(*arguments)
    os.umask(0o077)
    try:
        report = run(order) if doing else show(order)
    except (TemporaryFailure, ConfigError) as failure:
        return say(failure, TEMPORARY)
    except PermanentFailure as failure:
        return say(failure, getattr(failure, "exit_code", PERMANENT))
    sys.stdout.buffer.write(report)
    return DONE


def usage() -> int:
    from pluq.local.deliver import USAGE

    sys.stderr.write(f"{USAGE}\n")
    return PERMANENT


def say(failure: PluqError, code: int) -> int:
    """Write the reason, where it is ours to say: a program's failure has no text."""
    if str(failure):
        sys.stderr.buffer.write(f"{failure}\n".encode("utf-8", "surrogateescape"))
    return code


def run(order: Order) -> bytes:
    from pluq.config.home import Home
    from pluq.errors import TemporaryFailure
    from pluq.local.deliver import Surroundings, follow, prepare
    from pluq.local.plugins import site_choices
    from pluq.store.oserror import error_text

    ready = prepare(order, 0)
    try:
        os.fchdir(ready.folder)  # programs start in the home
    except OSError as error:
        raise TemporaryFailure(
            f"Unable to switch to {os.fsdecode(order.home)}: {error_text(error.errno)}. (#4.3.0)"
        ) from error
    home = Home.from_environment()
    return follow(ready, Surroundings(home, os.environ, **site_choices(home)))


def show(order: Order) -> bytes:
    """Write what would be done, line by line; return the counts."""
    from pluq.local import dotqmail
    from pluq.local.deliver import Counts
    from pluq.local.instructions import parse

    folder = dotqmail.open_home(order.home)
    if dotqmail.check_home(folder):
        sys.stderr.write("Warning: home directory is sticky.\n")
    found = dotqmail.find(order, folder)
    counts = Counts()
    for instruction in parse(found.text, found.forward_only):
        counts.add(instruction.kind)
        sys.stdout.buffer.write(b"%b %b\n" % (instruction.kind.value.encode(), instruction.shown))
        sys.stdout.buffer.flush()
    return counts.report()
