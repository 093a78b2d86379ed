"""qmail-popup hostname checkpassword program [argument ...]

Greet a POP3 client on descriptors 0 and 1 and take its login (USER and PASS, or APOP). Then run the rest of the command line with
name, password and timestamp on descriptor 3; checkpassword becomes the program, qmail-pop3d, if the password is right.
"""

from __future__ import annotations

import os
import sys
import time

FAILED = 1  # every end of the login is the same to tcpserver

# RFC 2449; with a profile, which is a site's word that it wants more than qmail's own replies.
CAPABILITIES = (b"USER", b"TOP", b"UIDL")


def main() -> int:
    from pluq.commands.terminal import help_asked

    if help_asked(__doc__):
        return 0
    from pluq.pop3.authorization import Authorization
    from pluq.pop3.descriptors import Descriptors, Gone
    from pluq.pop3.dialogue import converse, error
    from pluq.pop3.login import check_password

    client = Descriptors()
    try:
        if len(sys.argv) < 3:
            client.write(error(b"usage: popup hostname subprogram"))
            return FAILED
        unique = b"%d.%d" % (os.getpid(), int(time.time()))
        capabilities = CAPABILITIES if os.environ.get("PLUQ_PROFILE") else ()
        session = Authorization(os.fsencode(sys.argv[1]), unique, capabilities)
        converse(session, client.read, client.write)
        if session.login is not None:
            refusal = check_password(sys.argv[2:], session.login.checkpassword())
            if refusal is not None:
                client.write(error(refusal))
    except Gone:
        pass
    return FAILED
