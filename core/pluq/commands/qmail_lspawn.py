"""qmail-lspawn defaultdelivery: deliver what the scheduler on descriptors 0 and 1 orders, each message as its user."""

from __future__ import annotations

import os
import sys

USAGE, TROUBLE = 100, 111


def main() -> int:
    from pluq.config.home import Home

    home = Home.from_environment()
    if not os.path.isdir(f"{home.queue}/mess"):
        return TROUBLE
    if len(sys.argv) < 2:
        return USAGE
    from pluq.local.workers import run_program

    return run_program(home, os.fsencode(sys.argv[1]))
