"""qmail-qmtpd

Take mail by QMTP on descriptors 0 and 1, under tcpserver. control/rcpthosts and RELAYCLIENT say for whom, control/databytes and
DATABYTES how much.
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
    from pluq.qmtpd import blocking
    from pluq.qmtpd.intake import Client
    from pluq.qmtpd.qmtp import QmtpSession, read_controls

    home = Home.from_environment()
    try:
        os.chdir(home.path)
        home.controls.me()
        policy = read_controls(home).of(os.environ)
        client = Client(os.environb, home.local_dates)
    except (OSError, ConfigError):
        return blocking.TROUBLE
    submitter = blocking.HomeSubmitter(home)
    session = QmtpSession(policy, client, submitter, blocking.read, blocking.write, lambda: int(time.time()))
    return blocking.serve(session.serve())
