"""qmail-smtpd: receive mail by SMTP on descriptors 0 and 1.

It takes its client from tcpserver's variables (TCPREMOTEIP, TCPREMOTEHOST, TCPREMOTEINFO, TCPLOCALHOST, TCPLOCALIP), its policy
from the control files, and from the environment RELAYCLIENT, DATABYTES and QMAILQUEUE. PLUQ_PROFILE names the profile of
control/pluq.toml whose plugins it uses; without it there are none. Its arguments are the program that checks passwords, for the
plugin auth: qmail-smtpd [HOSTNAME] [CHECKPASSWORD [SUBPROGRAM [ARGUMENT...]]]

Exit status: 0 after QUIT, 1 after anything else. Source: qmail-smtpd(8).
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pluq.config.home import Home
    from pluq.plan import Plan


def main() -> int:
    from pluq.config.home import Home
    from pluq.errors import ConfigError, TemporaryFailure
    from pluq.smtpd import replies

    try:
        return serve(Home.from_environment())
    except ConfigError as error:
        if os.environ.get("PLUQ_PROFILE"):  # stock qmail-smtpd says no more than the reply
            log(str(error))
        os.write(1, replies.NO_CONTROLS)
    except TemporaryFailure:
        os.write(1, replies.TROUBLE)
    return 1


def serve(home: Home) -> int:
    """Serve one session. Raises ConfigError before the banner."""
    from functools import partial

    from pluq.queue.submit import BlockingSubmitter
    from pluq.smtpd.policy import read_policy
    from pluq.smtpd.program import Program, session_of
    from pluq.smtpd.session import Service

    profile = os.environ.get("PLUQ_PROFILE", "")
    plan = plan_of(home, profile)
    submitter = partial(BlockingSubmitter, home)
    service = Service(read_policy(home), plan, submitter, log, profile or "stock", is_terse=not profile)
    return Program(service, session_of(os.environ, service.profile, sys.argv[1:])).run()


def plan_of(home: Home, profile: str) -> Plan:
    """Return the plan of a profile; the empty one without a name."""
    from pluq.plan import EMPTY

    if not profile:
        return EMPTY
    from pluq.config.site import read_site
    from pluq.plan.compile import compile_plan

    return compile_plan(home, read_site(home), profile, log=log)


def log(text: str) -> None:
    """Write one line to descriptor 2; a reader that is gone is no reason to stop."""
    try:
        os.write(2, f"qmail-smtpd: {text}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        return
