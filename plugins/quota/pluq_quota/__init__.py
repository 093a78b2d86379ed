"""quota: Maildir++ quotas. A Maildir with a file maildirsize takes as much as that says; one without takes everything.

The message counts with the size that it has in the queue. Two deliveries at the same moment may both find room for the last message, as with every
program that knows these quotas.

Source: the qmail-maildir++ patch; pluq_quota.maildirsize has the format.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pluq import Accept, Defer, Delivery, Plugin, Reject, Verdict, hook, setting
from pluq.errors import TemporaryFailure
from pluq.store import maildir
from pluq_quota.maildirsize import Usage, has_room, note, quota_folder

# The exit code is that of patched qmail-local.
OVER = Reject(1, "5.1.1", "User over quota.")
OVER_FOR_NOW = Defer(111, "4.2.2", "User over quota.")
UNKNOWN = Defer(111, "4.3.0", "Unable to find out the quota.")


@dataclass(frozen=True)
class Settings:
    over: Literal["bounce", "defer"] = setting(
        "bounce", help="What happens to mail for a full Maildir: it bounces, or it is tried again until it is too old."
    )


class Quota(Plugin[Settings]):
    """Respect the Maildir++ quota of a Maildir."""

    name = "quota"

    @hook
    def local_deliver(self, delivery: Delivery, instruction: bytes, environment: Mapping[str, str]) -> Verdict | None:
        if not instruction.endswith(b"/") or instruction[:1] in (b"|", b"&") or delivery.message is None:
            return None
        head = os.fsencode(environment["RPLINE"] + environment["DTLINE"])
        try:
            return self.deliver(instruction, environment["HOME"], head, delivery.message.open().fileno())
        except TemporaryFailure as failure:
            return Defer(111, None, failure.text)

    def deliver(self, path: bytes, home: str, head: bytes, message: int) -> Verdict:
        """Add the message to the Maildir `path` below `home`, if there is room. Raises TemporaryFailure."""
        folder = open_below(home, path)
        try:
            more = Usage(os.fstat(message).st_size, 1)
            with quota_folder(folder) as owner:
                if not has_room(owner, more, time.time()):
                    return OVER if self.settings.over == "bounce" else OVER_FOR_NOW
                maildir.add(folder, head, message, sized=True)
                self.count(owner, more)
            return Accept()
        except OSError as error:
            self.log(f"{os.fsdecode(path)} below {home}: {error}")
            return UNKNOWN
        finally:
            os.close(folder)

    def count(self, owner: int, more: Usage) -> None:
        """Add the message to the sums. It is delivered: trouble here must not deliver it again."""
        try:
            note(owner, more)
        except OSError as error:
            self.log(f"maildirsize: {error}")


def open_below(home: str, path: bytes) -> int:
    """Return a descriptor of the Maildir `path`. Raises TemporaryFailure."""
    try:
        base = os.open(home, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise maildir.trouble() from error
    try:
        return maildir.open_maildir(path, base)
    finally:
        os.close(base)
