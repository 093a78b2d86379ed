"""qmail-qmqpc

qmail-queue for a host without a queue: gives the message to one of the servers in control/qmqpservers.

The message comes on descriptor 0, the envelope on descriptor 1; the exit code is qmail-queue's. PORT_QMQP names another port
than 628.
"""

from __future__ import annotations

import os
from functools import partial

from pluq.config import Home

NO_CONTROL = 55
NO_HOME = 61


def main() -> int:
    from pluq.commands.terminal import help_asked

    if help_asked(__doc__):
        return 0
    from pluq.errors import ConfigError
    from pluq.qmtpd.qmqpc import PORT, read_envelope, read_message, submit
    from pluq.queue.refusal import QueueRefusal
    from pluq.store.control import leading_int

    home = Home.from_environment()
    try:
        os.chdir(home.path)
    except OSError:
        return NO_HOME
    try:
        home.controls.me()
        servers = home.controls.lines("qmqpservers")
    except ConfigError:
        return NO_CONTROL
    if servers is None:
        return NO_CONTROL
    port = leading_int(os.environb.get(b"PORT_QMQP", b"")) or PORT
    try:
        spool = read_message(partial(os.read, 0))
        sender, recipients = read_envelope(partial(os.read, 1))
        submit(servers, spool, sender, recipients, port)
    except QueueRefusal as refusal:
        return refusal.code
    return 0
