"""What a remote delivery says of itself: qmail-remote's records, and what qmail-rspawn makes of them.

qmail-remote writes records that end with NUL. First one for each recipient: r (accepted), h (refused for good), s (refused
for now); then one for the message: K (done), Z (temporary), D (permanent). Text after the letter is for people. qmail-rspawn
turns them into the one report that the scheduler gets: the worse of the first recipient's and the message's, with both texts
where the message's adds something.

Source: qmail-remote(8), qmail-rspawn(8); qmail-remote.c and report in qmail-rspawn.c.
"""

from __future__ import annotations

from collections.abc import Iterable

OS_ERROR = b"ZSystem resources temporarily unavailable. (#4.3.0)\n"
NO_CONNECTION = b"ZSorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n"
CANNOT_READ = b"ZUnable to read message. (#4.3.0)\n"
DNS_TROUBLE = b"ZSorry, I couldn't find any host by that name. (#4.1.2)\n"
NO_HOME = b"ZUnable to switch to home directory. (#4.3.0)\n"
BAD_CONTROLS = b"ZUnable to read control files. (#4.3.0)\n"
PARTIAL_LINE = b"DSMTP cannot transfer messages with partial final lines. (#5.6.2)\n"
BAD_USAGE = b"DI (qmail-remote) was invoked improperly. (#5.3.5)\n"
NO_EXCHANGER = b"DSorry, I couldn't find a mail exchanger or IP address. (#5.4.4)\n"
OURSELVES = (
    b"DSorry. Although I'm listed as a best-preference MX or A for that host,\n"
    b"it isn't in my control/locals file, so I don't treat it as local. (#5.4.6)\n"
)
# Not in qmail, which would send the line break and let the rest of the address be a command.
BROKEN_ADDRESS = b"DSorry, I can't send an address with a line break by SMTP. (#5.1.3)\n"

CRASHED = b"Zqmail-remote crashed.\n"
CANNOT_RUN_NOW = b"ZUnable to run qmail-remote.\n"
CANNOT_RUN = b"DUnable to run qmail-remote.\n"
NO_OUTPUT = b"Zqmail-remote produced no output.\n"
TOO_MUCH_OUTPUT = b"Zqmail-remote wrote too much.\n"

_SAFE = bytes(octet if 33 <= octet <= 126 else 0x3F for octet in range(256))


def no_such_host(host: bytes) -> bytes:
    return b"DSorry, I couldn't find any host named %b. (#5.1.2)\n" % host.translate(_SAFE)


def connection_died(partner: bytes, critical: bool) -> bytes:
    """Return the record of a lost connection. `critical`: the whole message was sent, its fate is unknown."""
    return b"ZConnected to %b but connection died. %b(#4.4.2)\n" % (
        partner,
        b"Possible duplicate! " if critical else b"",
    )


def peer_said(letter: bytes, sentence: bytes, text: bytes) -> bytes:
    """Return a record that quotes a reply."""
    return b"%b%b.\nRemote host said: %b" % (letter, sentence, text.replace(b"\0", b"?"))


def join_records(records: Iterable[bytes]) -> bytes:
    """Return records as qmail-remote writes them."""
    return b"".join([record + b"\0" for record in records])


_RESULTS = {ord("K"): 1, ord("Z"): 0, ord("D"): -1}
_LETTERS = {1: b"K", 0: b"Z", -1: b"D"}


def spawn_report(output: bytes) -> bytes:
    """Return the report to the scheduler for what a qmail-remote wrote.

    A record that does not end with NUL does not count; without any for the message the report is permanent.
    """
    if not output:
        return NO_OUTPUT
    records = output.split(b"\0")[:-1]
    result = next((_RESULTS[record[0]] for record in records if record and record[0] in _RESULTS), -1)
    recipient = {ord("s"): 0, ord("h"): -1}.get(output[0], result)
    report = _LETTERS[recipient]
    first_end = output.find(b"\0", 1)
    if first_end < 0:
        return report
    report += output[1:first_end]
    following = output[first_end + 1 :].split(b"\0", 1)[0]
    if result <= recipient and following[:1] in (b"Z", b"D", b"K"):
        report += following[1:]
    return report


def final_report(records: list[bytes]) -> bytes:
    """Return the report to the scheduler for the records of a delivery made in this process."""
    if (
        len(records) == 2 and records[0] == b"r" and records[1].startswith((b"K", b"Z", b"D"))
    ):  # what nearly all end with
        return records[1]
    return spawn_report(join_records(records))


def exit_report(status: int, output: bytes) -> bytes:
    """Return the report for a qmail-remote that ended with this wait status."""
    if status & 127:
        return CRASHED
    code = status >> 8
    if code:
        return CANNOT_RUN_NOW if code == 111 else CANNOT_RUN
    return spawn_report(output)
