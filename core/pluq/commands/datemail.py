"""datemail [ arg ... ]

Like sendmail, with the same arguments, but the message gets a Date field in local time.
"""

from __future__ import annotations

import sys
from typing import NoReturn

from pluq.commands.programs import run_program
from pluq.commands.terminal import help_asked
from pluq.config import Home


def main() -> int:
    if help_asked(__doc__):
        return 0
    return send(Home.from_environment())


def send(home: Home) -> NoReturn:
    run_program(home, "predate", [f"{home.bin}/sendmail", *sys.argv[1:]], "datemail: fatal: unable to run predate")
