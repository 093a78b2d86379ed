"""qmail-qmqpd

Take one message by QMQP on descriptors 0 and 1, under tcpserver, whose rules must let only our own hosts connect: they may send
anything to anybody.
"""

from __future__ import annotations

import os
import time

from pluq.config import Home
from pluq.errors import ConfigError


def main() -> int:
    from pluq.commands.terminal import help_asked

    if help_asked(__doc__):
        return 0
    from pluq.qmtpd import blocking, qmqp
    from pluq.qmtpd.intake import Client

    home = Home.from_environment()
    try:
        client = Client(os.environb, home.local_dates)
    except ConfigError:
        return blocking.TROUBLE
    submitter = blocking.HomeSubmitter(home)

    async def session() -> None:
        answer = await qmqp.serve(client, submitter, blocking.read, lambda: int(time.time()))
        await blocking.write(answer)

    return blocking.serve(session())
