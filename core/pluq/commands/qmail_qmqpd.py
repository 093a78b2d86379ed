"""qmail-qmqpd: take one message by QMQP on descriptors 0 and 1, under tcpserver, which must let only our own hosts connect."""

from __future__ import annotations

import os
import time

from pluq.config import Home


def main() -> int:
    from pluq.qmtpd import blocking, qmqp
    from pluq.qmtpd.intake import Client

    home = Home.from_environment()
    submitter = blocking.HomeSubmitter(home)

    async def session() -> None:
        answer = await qmqp.serve(Client(os.environb), submitter, blocking.read, lambda: int(time.time()))
        await blocking.write(answer)

    return blocking.serve(session())
