"""bounce: how much of a message a bounce sends back, and what happens to double bounces.

A bounce copies the whole message: a large one that fails costs its size again, and a forged sender gets it all. With this plugin the
copy ends after `bouncemaxbytes` bytes. Double bounces, which are mostly spam to nobody from nobody, can be thrown away: an empty
first line of control/doublebounceto says so.

Source: the bouncemaxbytes and doublebounce-trim patches.
"""

from __future__ import annotations

from dataclasses import dataclass

from pluq import Discard, Draft, Plugin, Verdict, hook, setting
from pluq.store.control import first_line

DOUBLE_BOUNCE = Discard("double bounce")


def is_empty_line(data: bytes) -> bool:
    """Say whether a control file begins with an empty line, as doublebounceto does to get rid of double bounces."""
    return not first_line(data)


@dataclass(frozen=True)
class Settings:
    bouncemaxbytes: int = setting(
        50000,
        control="bouncemaxbytes",
        unit="bytes",
        help="How much of the message a bounce sends back; 0 for all of it.",
    )
    discard_double: bool = setting(
        False,
        control="doublebounceto",
        parse_control=is_empty_line,
        help="Throw double bounces away; in the control file, by an empty first line.",
    )


class Bounce(Plugin[Settings]):
    """Send back only the beginning of large messages; throw double bounces away."""

    name = "bounce"

    @hook
    def send_bounce(self, draft: Draft) -> Verdict | None:
        if not draft.sender and self.settings.discard_double:
            return DOUBLE_BOUNCE
        if self.settings.bouncemaxbytes:
            draft.copy_bytes = self.settings.bouncemaxbytes
        return None
