"""qmail-qmtpd

Take mail by QMTP on descriptors 0 and 1, under tcpserver. control/rcpthosts and RELAYCLIENT say for whom, control/databytes and
DATABYTES how much.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from pluq.config import Home
from pluq.errors import ConfigError

if TYPE_CHECKING:
    from pluq.qmtpd.qmtp import Policy


def main() -> int:
    from pluq.commands.terminal import help_asked

    if help_asked(__doc__):
        return 0
    from pluq.qmtpd import blocking
    from pluq.qmtpd.intake import Client
    from pluq.qmtpd.qmtp import QmtpSession

    home = Home.from_environment()
    try:
        os.chdir(home.path)
        home.controls.me()
        policy = read_policy(home)
    except (OSError, ConfigError):
        return blocking.TROUBLE
    submitter = blocking.HomeSubmitter(home)
    session = QmtpSession(
        policy, Client(os.environb), submitter, blocking.read, blocking.write, lambda: int(time.time())
    )
    return blocking.serve(session.serve())


def read_policy(home: Home) -> Policy:
    """Return what the control files and this connection's environment allow. Raises ConfigError."""
    from pluq.qmtpd.qmtp import Policy
    from pluq.smtpd import policy  # the same files say the same to both servers

    settings = policy.Policy(
        greeting=b"",
        rcpthosts=policy.read_rcpthosts(home),
        databytes=policy.unsigned(home.controls.number("databytes", 0)),
    )
    return Policy(
        databytes=settings.size_limit(os.environ),
        relay_suffix=os.environb.get(b"RELAYCLIENT"),
        is_ours=settings.rcpthosts.allows,
    )
