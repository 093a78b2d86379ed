"""The options by which every verb of `pluq queue` says which messages it means."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from pluq.config import Home
    from pluq.queue.select import Selection


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Add the numbers and the filters."""
    from pluq.queue.select import parse_age

    def age(given: str) -> int:
        import argparse

        try:
            return parse_age(given)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    parser.add_argument(
        "numbers", metavar="NUMBER", type=number, nargs="*", help="the number of a message, as in the log"
    )
    pattern = "*@example.org or example.org; may be given more than once"
    parser.add_argument("--sender", metavar="PATTERN", action="append", default=[], help=f"{pattern}; <> for bounces")
    parser.add_argument("--recipient", metavar="PATTERN", action="append", default=[], help=f"not done yet; {pattern}")
    parser.add_argument("--older", metavar="AGE", type=age, help="at least so old: 90s, 15m, 2h, 3d, 1w")
    parser.add_argument("--younger", metavar="AGE", type=age, help="not so old")
    parser.add_argument("--channel", choices=("local", "remote"), help="with a recipient there who is not done")
    parser.add_argument("--held", action="store_true", help="on hold")


def number(given: str) -> int:
    """Return the number of a message; for a word that is none, what the word may have been meant for."""
    import argparse

    if given.isdecimal() and given.isascii():
        return int(given)
    hint = (
        f"; mail for it is --recipient {given}, mail from it --sender {given}" if "." in given or "@" in given else ""
    )
    raise argparse.ArgumentTypeError(f"{given!r} is no number of a message{hint}")


def add_home(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--home", metavar="DIR", help="the qmail home (default: PLUQ_HOME, else /var/qmail)")


def selection_of(options: argparse.Namespace) -> Selection:
    from pluq.queue.select import Selection, patterns

    return Selection(
        tuple(dict.fromkeys(options.numbers)),
        patterns(options.sender),
        patterns(options.recipient),
        options.older,
        options.younger,
        options.channel,
        ("held",) if options.held else (),
    )


def home_of(options: argparse.Namespace) -> Home:
    from pluq.config import Home

    return Home(os.path.abspath(options.home)) if options.home else Home.from_environment()
