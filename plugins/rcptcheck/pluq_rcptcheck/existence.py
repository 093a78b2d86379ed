"""Is there such a recipient? Decided as the delivery will be, step by step, with the code that delivers:

    percenthack, locals, virtualdomains     is the address delivered here, and to which local part     pluq.send.rewrite
    users/cdb, then the password file       who controls that local part                                pluq.local.lookup, pluq.store
    .qmail, .qmail-ext, .qmail-default      what that user says of it                                   pluq.local.dotqmail
    vpasswd.cdb, or the mailbox's folder    where the user's .qmail-default leaves it to vpopmail

MISSING is said only where qmail-local would bounce the message. What cannot be seen from here is UNSEEN, and taken: the SMTP server
runs as qmaild, and a home directory may be closed to it. Trouble that qmail-local would wait for is a TemporaryFailure.

Looking may block, so `find` leaves it to a thread. That costs more than all else that is done for a recipient; so a good answer is kept for
a few seconds, and a burst for one recipient asks once.

Source: qmail-send(8), qmail-lspawn(8), dot-qmail(5); vdelivermail of vpopmail.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import Callable
from enum import Enum

from pluq.config import Home
from pluq.errors import ConfigError, PermanentFailure, TemporaryFailure
from pluq.listen.fresh import Fresh
from pluq.local import dotqmail
from pluq.local.lookup import Accounts, only_account
from pluq.local.order import Order
from pluq.send.rewrite import LOCAL, Routing
from pluq.send.settings import read_settings
from pluq.store.cdb import Cdb
from pluq.store.oserror import is_temporary
from pluq.store.passwd import ALIAS, NFS, candidates, system_account
from pluq.store.users import Account

ROUTING_FILES = ("me", "envnoathost", "percenthack", "locals", "virtualdomains")
HIDDEN = (PermissionError,)

_VDELIVERMAIL = re.compile(rb"^\|[^\n]*\bvdelivermail\b[^\n]*\bbounce-no-mailbox\b", re.MULTILINE)
# How long an answer is kept, as lspawn keeps accounts; and how many are: some 200 bytes each.
KEEP_SECONDS = 5.0
MOST_KEPT = 10_000
# In the group field of a vpopmail account: mail to it bounces.
BOUNCE_MAIL = 0x10


class Found(Enum):
    """FOREIGN: not delivered here. UNSEEN: this process may not look."""

    YES = "found"
    MISSING = "missing"
    FOREIGN = "foreign"
    UNSEEN = "unseen"


class Unseen(Exception):
    """What would have to be read is closed to this process."""


class Existence:
    """Looks recipients up, from any thread. Blocks; raises TemporaryFailure, and ConfigError for files that are broken."""

    def __init__(self, home: Home, clock: Callable[[], float]) -> None:
        self.home = home
        self.clock = clock
        paths = [home.control(name) for name in ROUTING_FILES]
        self._routing: Fresh[Routing] = Fresh(paths, lambda: read_settings(home.controls).routing, lambda line: None)
        self._accounts = Accounts(home)
        self._lock = threading.Lock()
        self._is_single = is_single(home)
        self._kept: dict[bytes, tuple[float, Found]] = {}

    async def find(self, address: bytes) -> Found:
        """Return what is known of an address, or was a moment ago. A mailbox that was missing may be there by now: that is not kept."""
        until, found = self._kept.get(address, (0.0, Found.MISSING))
        if self.clock() < until:
            return found
        found = await asyncio.to_thread(self.look, address)
        if found is not Found.MISSING:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            self._kept[address] = self.clock() + KEEP_SECONDS, found
        return found

    def look(self, address: bytes) -> Found:
        """Return what is known of an address. One without @ is nobody's business here: postmaster is always taken."""
        if b"@" not in address:
            return Found.UNSEEN
        channel, address = self._routing.get(self.clock()).route(address)
        if channel != LOCAL:
            return Found.FOREIGN
        local, _, host = address.rpartition(b"@")
        try:
            account = self.account(local)
            return Found.MISSING if account is None else instructions_for(account, local, host)
        except Unseen:
            return Found.UNSEEN

    def bounces_unknown(self, address: bytes) -> bool:
        """Return whether a domain leaves unknown recipients to vpopmail's bounce-no-mailbox. Raises TemporaryFailure."""
        channel, address = self._routing.get(self.clock()).route(address)
        local, _, host = address.rpartition(b"@")
        if channel != LOCAL:
            return False
        try:
            account = self.account(local)
            instructions = None if account is None else find_instructions(account, local, host)
        except (Unseen, PermanentFailure):
            return False
        return (
            instructions is not None
            and instructions.default_start is not None
            and _VDELIVERMAIL.search(instructions.text) is not None
        )

    def account(self, local: bytes) -> Account | None:
        """Return who controls a local part."""
        try:
            with self._lock:
                self._accounts.refresh()
                assigned = self._accounts.assigned(local)
        except ConfigError as error:
            if isinstance(error.__cause__, HIDDEN):
                raise Unseen from error
            raise TemporaryFailure(str(error)) from error
        except ValueError as error:
            raise TemporaryFailure(f"{self._accounts.path}: {error}") from error
        if assigned is not None:
            return assigned
        return only_account(self.home, local) if self._is_single else find_visible_account(local)


def is_single(home: Home) -> bool:
    """Return whether one user runs the whole stack. A server that runs as vpopmail is no such stack."""
    if not home.ids().single:
        return False
    try:
        return os.path.exists(home.control("singleuser")) or os.stat(home.path).st_uid == os.geteuid()
    except OSError:
        return False


def find_visible_account(local: bytes) -> Account | None:
    """Return the system account that controls a local part, as qmail-getpw. Raises Unseen where a home cannot be examined."""
    for name, dash, ext in candidates(local):
        account = system_account(name)
        if account is None or not account.uid:
            continue
        try:
            owner = os.stat(account.home).st_uid
        except HIDDEN as error:
            raise Unseen from error
        except OSError as error:
            if is_temporary(error.errno):
                raise TemporaryFailure(NFS) from error
            continue
        if owner == account.uid:
            return account._replace(dash=dash, ext=ext)
    alias = system_account(ALIAS)
    return None if alias is None else alias._replace(dash=b"-", ext=local)


def find_instructions(account: Account, local: bytes, host: bytes) -> dotqmail.DotQmail | None:
    """Return what the user says of an address; None for a file that the delivery will wait for. Raises PermanentFailure, Unseen."""
    order = Order(account.user, account.home, local, account.dash, account.ext, host, b"", b"")
    try:
        home = dotqmail.open_home(account.home)
    except TemporaryFailure as failure:
        if isinstance(failure.__cause__, HIDDEN):
            raise Unseen from failure
        raise
    try:
        return dotqmail.find(order, home)
    except TemporaryFailure:
        return None
    finally:
        os.close(home)


def instructions_for(account: Account, local: bytes, host: bytes) -> Found:
    """Return whether the user has instructions for an address."""
    try:
        instructions = find_instructions(account, local, host)
    except PermanentFailure:
        return Found.MISSING
    if instructions is None:
        return Found.YES
    if instructions.default_start is not None and _VDELIVERMAIL.search(instructions.text):
        return vpopmail_user(os.fsdecode(account.home), account.ext)
    return Found.YES


# -- vpopmail


def vpopmail_user(folder: str, name: bytes) -> Found:
    """Return whether a virtual domain in `folder` has this user, or one that it is an extension of."""
    names = [name.lower()]
    while b"-" in names[-1]:
        names.append(names[-1].rpartition(b"-")[0])
    try:
        accounts = Cdb(f"{folder}/vpasswd.cdb")
    except FileNotFoundError:
        return vpopmail_folder(folder, names)
    except ConfigError as error:
        if isinstance(error.__cause__, HIDDEN):
            raise Unseen from error
        raise TemporaryFailure(str(error)) from error
    record = next((data for one in names if one and (data := accounts.get(one)) is not None), None)
    if record is None or takes_no_mail(record):
        return Found.MISSING
    return Found.YES


def takes_no_mail(record: bytes) -> bool:
    """Return whether a vpasswd record (password:flags:group:...) says that mail to the user bounces."""
    fields = record.split(b":")
    return len(fields) > 2 and fields[2].isdigit() and bool(int(fields[2]) & BOUNCE_MAIL)


def vpopmail_folder(folder: str, names: list[bytes]) -> Found:
    """Return whether a user has a mailbox here. Others may be in subfolders or in a database that only vpopmail knows."""
    has_mailbox = any(
        one and b"/" not in one and os.path.isdir(os.path.join(folder, os.fsdecode(one), "Maildir")) for one in names
    )
    return Found.YES if has_mailbox else Found.UNSEEN
