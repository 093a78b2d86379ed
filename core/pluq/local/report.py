"""From how qmail-local ended to the report of a delivery. Values only.

Some exit codes come from qmail-lspawn itself, before there is a qmail-local; their texts are fixed. Otherwise the report is what
was written, up to the first NUL, behind K (done), Z (temporary) or D (permanent). A long report is cut.

Source: report in qmail-lspawn.c, qlx.h, spawn.c.
"""

from __future__ import annotations

DONE, PERMANENT, TEMPORARY = 0, 100, 111
BUG, ROOT = 112, 113
NFS, NO_ALIAS, CDB, SYSTEM, NO_MEMORY = 115, 116, 117, 118, 119
EXEC_SOFT, EXEC_GETPW, EXEC_HARD = 120, 121, 126

FIXED = {
    CDB: b"ZTrouble reading users/cdb in qmail-lspawn.\n",
    NO_MEMORY: b"ZOut of memory in qmail-lspawn.\n",
    SYSTEM: b"ZTemporary failure in qmail-lspawn.\n",
    NO_ALIAS: b"ZUnable to find alias user!\n",
    ROOT: b"ZNot allowed to perform deliveries as root.\n",
    BUG: b"ZInternal qmail-lspawn bug.\n",
    NFS: b"ZNFS failure in qmail-local.\n",
    EXEC_HARD: b"DUnable to run qmail-local.\n",
    EXEC_SOFT: b"ZUnable to run qmail-local.\n",
    EXEC_GETPW: b"ZUnable to run qmail-getpw.\n",
}
CRASHED = b"Zqmail-local crashed.\n"
CLASSES = {DONE: b"K", TEMPORARY: b"Z", 71: b"Z", 74: b"Z", 75: b"Z"}

REPORT_BYTES = 3000
TOO_LONG = b"\nError report too long, sorry.\n"
KEPT_BYTES = REPORT_BYTES - len(TOO_LONG) - 3


def report(code: int, output: bytes) -> bytes:
    """Return the report for an exit code (negative: killed by that signal) and what was written."""
    if code < 0:
        return CRASHED
    if code in FIXED:
        return FIXED[code]
    if len(output) > REPORT_BYTES:
        output = output[:KEPT_BYTES] + TOO_LONG
    return CLASSES.get(code, b"D") + output.partition(b"\0")[0]
