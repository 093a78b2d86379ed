"""Dates as mail writes them.

    20 Nov 2026 17:20:17 -0000          a Date or Received field (RFC 822 form, no weekday, no leading zero)
    20 Nov 2026 18:20:17 +0100          the same in local time, where a site asks for it
    Fri Nov 20 17:20:17 2026            the From_ line of an mbox (always two digits for the day)
    20261120172017.1234.qmail@host      the left part is the stamp of a Message-ID

Times are seconds since the epoch, leap seconds not counted; all results are ASCII bytes without a newline.

Source: date822fmt.c, myctime.c, newfield.c and predate.c of qmail; RFC 5322 section 3.3 (zone -0000: no local time is known).
"""

from __future__ import annotations

import time

__all__ = ["date822", "mbox_date", "message_stamp"]

MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
WEEKDAYS = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")


def date822(when: float, local: bool = False) -> bytes:
    """Return the date of a header field: in UTC with the zone -0000, or with `local` in the zone of this process (TZ)."""
    moment = time.localtime(when) if local else time.gmtime(when)
    zone = zone822(moment.tm_gmtoff) if local else b"-0000"
    return b"%d %s %d %02d:%02d:%02d %s" % (
        moment.tm_mday,
        MONTHS[moment.tm_mon - 1],
        moment.tm_year,
        moment.tm_hour,
        moment.tm_min,
        moment.tm_sec,
        zone,
    )


def zone822(offset: int) -> bytes:
    """Return the zone for an offset in seconds east of UTC, rounded to the minute: +0100, -0330, +0000 for UTC itself."""
    sign = b"-" if offset < 0 else b"+"
    minutes = (abs(offset) + 30) // 60
    return b"%s%02d%02d" % (sign, minutes // 60, minutes % 60)


def mbox_date(when: float) -> bytes:
    """Return the UTC date that ends the From_ line of an mbox."""
    moment = time.gmtime(when)
    return b"%s %s %02d %02d:%02d:%02d %d" % (
        WEEKDAYS[moment.tm_wday],
        MONTHS[moment.tm_mon - 1],
        moment.tm_mday,
        moment.tm_hour,
        moment.tm_min,
        moment.tm_sec,
        moment.tm_year,
    )


def message_stamp(when: float, pid: int) -> bytes:
    """Return the local part of a Message-ID: time in UTC, process id, the word qmail."""
    moment = time.gmtime(when)
    return b"%d%02d%02d%02d%02d%02d.%d.qmail" % (*moment[:6], pid)
