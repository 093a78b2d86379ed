"""qmail-getpw local: print who controls an address, by the rules of the password file."""

from __future__ import annotations

import os
import sys

USAGE, NFS_TROUBLE, NO_ALIAS, SYSTEM_TROUBLE = 100, 115, 116, 118


def main() -> int:
    from pluq.errors import TemporaryFailure
    from pluq.store.passwd import NFS, find_account
    from pluq.store.users import encode_account

    if len(sys.argv) < 2:
        return USAGE
    try:
        account = find_account(os.fsencode(sys.argv[1]))
    except TemporaryFailure as failure:
        return NFS_TROUBLE if failure.text == NFS else SYSTEM_TROUBLE
    if account is None:
        return NO_ALIAS
    sys.stdout.buffer.write(encode_account(account))
    return 0
