"""Who gets the mail for an address: users/assign and its compiled form, users/cdb.

    =local:user:uid:gid:homedir:dash:ext:        one address
    +loc:user:uid:gid:homedir:dash:pre:          every address that begins with loc
    .                                            the end

In the cdb `!local NUL` and `!loc` are the keys, in lower case; the data is the six fields with NUL for the colons, without the
last one. The record with the empty key lists the characters that wildcards end in: a lookup tries the whole address, then only
prefixes that end in one of those, then the empty prefix. What follows a matching prefix is added to `pre`.

A file without its last line was not finished and is refused. The new cdb takes the place of the old one by rename: a crash leaves
one of them, whole.

Source: qmail-users(5), qmail-newu(8), qmail-lspawn(8); qmail-newu.c and nughde_get in qmail-lspawn.c.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pluq.errors import ConfigError
from pluq.store.cdb import Cdb, write_cdb
from pluq.store.control import leading_int

FIELDS = 6
ID_MASK = 0xFFFFFFFF
"""uid_t and gid_t have 32 bits: a larger number is cut, and what is cut to 0 is root and refused like root."""


class Account(NamedTuple):
    """Who controls an address: the first six arguments of qmail-local, but for `local`. Mail follows home/.qmail<dash><ext>."""

    user: bytes
    uid: int
    gid: int
    home: bytes
    dash: bytes
    ext: bytes


def parse_account(record: bytes) -> Account:
    """Return the account in six fields, each ended by a NUL. Raises ValueError where one is missing."""
    fields = record.split(b"\0", FIELDS)
    if len(fields) <= FIELDS:
        raise ValueError("fewer than six fields")
    user, uid, gid, home, dash, ext = fields[:FIELDS]
    return Account(user, (leading_int(uid) or 0) & ID_MASK, (leading_int(gid) or 0) & ID_MASK, home, dash, ext)


def encode_account(account: Account) -> bytes:
    """Return the form that qmail-getpw prints."""
    user, uid, gid, home, dash, ext = account
    return b"%b\0%d\0%d\0%b\0%b\0%b\0" % (user, uid, gid, home, dash, ext)


# -- writing


def assignments(lines: Iterable[bytes], path: str) -> Iterator[tuple[bytes, bytes]]:
    """Yield the cdb records for the lines of users/assign, the wildcard characters last. Raises ConfigError."""
    wildcards = b""
    for number, line in enumerate(lines, 1):
        if line.startswith(b"."):
            yield b"", wildcards
            return
        complaint = _complaint(line)
        if complaint:
            raise ConfigError(path, complaint, number)
        name, _, rest = line.partition(b":")
        key = b"!" + name[1:].lower()
        if name[:1] != b"+":
            key += b"\0"
        elif len(name) > 1 and name[-1:] not in wildcards:
            wildcards += name[-1:]
        yield key, b"\0".join(rest.split(b":", FIELDS)[:FIELDS])
    raise ConfigError(path, "has no line with a single dot at its end")


def _complaint(line: bytes) -> str | None:
    if not line.endswith(b"\n"):
        return "the file ends within a line"
    if b"\0" in line:
        return "contains a NUL"
    if line.startswith(b":"):
        return "begins with a colon"
    if line.count(b":") <= FIELDS:
        return "has fewer than seven colons"
    return None


def compile_assign(assign: str, cdb: str) -> None:
    """Make users/cdb from users/assign. Raises ConfigError for a bad file, OSError with the name of the file concerned.

    The file is read twice, so that it need not fit into memory: a bad one is found before anything is written.
    """
    with open(assign, "rb") as lines:
        temporary = f"{cdb}.tmp"
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644))
        for _ in assignments(lines, assign):
            pass
        lines.seek(0)
        write_cdb(cdb, assignments(lines, assign), temporary)


# -- reading


def find_record(cdb: Cdb, local: bytes) -> bytes | None:
    """Return the account record (six fields, each ended by NUL) for a local part, None if nobody is assigned.

    Raises ConfigError for a file that cannot be read or is not made by qmail-newu.
    """
    found = find_assignment(cdb, local)
    return None if found is None else found[1]


def find_assignment(cdb: Cdb, local: bytes) -> tuple[bytes, bytes] | None:
    """Return the key of the assignment for a local part and the record, as `find_record`."""
    wildcards = cdb.get(b"")
    if wildcards is None:
        raise ConfigError(cdb.path, "has no list of wildcard characters: make it with qmail-newu")
    key = b"!" + local.lower()
    data = cdb.get(key + b"\0")
    if data is not None:
        return key + b"\0", data + b"\0"
    for end in range(len(key), 0, -1):
        if end == 1 or key[end - 1] in wildcards:
            data = cdb.get(key[:end])
            if data is not None:
                return key[:end], data + local[end - 1 :] + b"\0"
    return None
