"""qmail-remote host sender recip [ recip ... ]: send the message on descriptor 0 by SMTP.

What became of it is written to descriptor 1 as records that end with NUL: r, h or s for each recipient, then K, Z or D for the
message; the exit code is always 0. control/pluq.toml may name plugins for `[remote]`. Source: qmail-remote(8).
"""

from __future__ import annotations

import os
import sys

from pluq.commands.terminal import complain, help_asked, print_bytes
from pluq.config import Home
from pluq.errors import ConfigError
from pluq.remote import report


def main() -> int:
    if help_asked(__doc__):
        return 0
    try:
        records = send([os.fsencode(word) for word in sys.argv[1:]])
    except Exception as error:
        # Any other code than 111 would bounce the message for a fault of ours.
        complain("qmail-remote: ", f"{type(error).__name__}: {error}")
        return 111
    print_bytes([report.join_records(records)])
    return 0


def send(arguments: list[bytes]) -> list[bytes]:
    """Deliver as the arguments say and return the records."""
    if len(arguments) < 3:
        return [report.BAD_USAGE]
    home = Home.from_environment()
    try:
        os.chdir(home.path)
    except OSError:
        return [report.NO_HOME]
    host, sender, *recipients = arguments

    import asyncio

    return asyncio.run(deliver(home, host, sender, recipients))


async def deliver(home: Home, host: bytes, sender: bytes, recipients: list[bytes]) -> list[bytes]:
    """Make one attempt with the settings and plugins of the home."""
    from pluq.dns import Resolver
    from pluq.remote.deliver import Deliverer, Job
    from pluq.remote.letter import Letter
    from pluq.remote.plugins import load_plan
    from pluq.remote.settings import RemoteSettings
    from pluq.remote.tcpto import TcpTo

    try:
        settings = RemoteSettings.read(home.controls)
        plan = load_plan(home, complain)
        letter = Letter.from_stdin()
    except ConfigError:
        return [report.BAD_CONTROLS]
    except OSError:
        return [report.CANNOT_READ]
    if plan.start is not None:
        await plan.start()
    resolver = Resolver.from_system()
    deliverer = Deliverer(lambda: settings, lambda: resolver, TcpTo(f"{home.queue}/lock/tcpto"), plan)
    try:
        return await deliverer.deliver(Job(0, sender, recipients, host, letter))
    finally:
        letter.close()
        await resolver.close()
