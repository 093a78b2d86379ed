"""ratelimit: how many recipients elsewhere a client that may relay has in a day. A stolen login then sends hundreds and not millions.

Counted are recipients that rcpthosts does not let in, once the core has taken them, by the name of the login, else by the client's address.
control/relaylimits says how many: lines CLIENT:NUMBER, and :NUMBER for all others; 0, or no line, is no limit. The last line for a client counts.

    state/smtpd/ratelimit/2026-11-21/joe%40example.org      as many bytes as recipients on that day (UTC)

A byte is appended for each recipient: processes need no lock for that, a crash leaves nothing to mend, and `ls -l` is the report. Folders of
earlier days are removed when a new one is begun.

Source: rcptcheck-overlimit of the combined patches.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from pluq import Defer, Disconnect, Plugin, Recipient, Session, Transaction, Verdict, hook, setting
from pluq.config.acceptance import RcptHosts, read_rcpthosts

TOO_MANY = Disconnect(Defer(421, "4.3.0", "you have exceeded your messaging limits"))
CANNOT_COUNT = Defer(451, "4.3.0", "unable to count your messages")
NO_LIMIT = 0
# A file name has at most 255 bytes.
LONGEST_NAME = 200


@dataclass(frozen=True)
class Settings:
    relaylimits: tuple[str, ...] = setting(
        (),
        control="relaylimits",
        help="Lines CLIENT:NUMBER, recipients a day of a login or an address; :NUMBER is for all others.",
    )


class RateLimit(Plugin[Settings]):
    """Limit how many recipients elsewhere a client that may relay has in a day."""

    name = "ratelimit"
    limits: dict[str, int]
    rcpthosts: RcptHosts
    folder: str

    @hook
    def check(self) -> Sequence[str]:
        """Name every line that has no number."""
        return [
            f"relaylimits: {line!r}: must be CLIENT:NUMBER" for line in self.settings.relaylimits if parse(line) is None
        ]

    @hook
    def start(self) -> None:
        self.limits = dict(found for line in self.settings.relaylimits if (found := parse(line)) is not None)
        self.rcpthosts = read_rcpthosts(self.context.home)
        self.folder = self.state_folder()

    @hook
    def smtp_rcpt_allowed(self, session: Session, transaction: Transaction, recipient: Recipient) -> Verdict | None:
        if not session.may_relay or self.rcpthosts.allows(recipient.address):
            return None
        client = session.login.user.decode("utf-8", "replace").lower() if session.login else session.remote_ip
        limit = self.limits.get(client, self.limits.get("", NO_LIMIT))
        if limit == NO_LIMIT:
            return None
        try:
            count = self.count(client, limit)
        except OSError as error:
            self.log(f"{error.filename}: {error.strerror}")
            return CANNOT_COUNT
        if count <= limit:
            return None
        self.log(f"{client} ({session.remote_ip}) has had its {limit} recipients of today")
        return TOO_MANY

    def count(self, client: str, limit: int) -> int:
        """Count one recipient more; return how many there are today, one above the limit where it was reached before. Raises OSError."""
        path = f"{self.today()}/{quote(client, safe='')[:LONGEST_NAME]}"
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            before = os.fstat(fd).st_size
            if before < limit:
                os.write(fd, b"X")
            return before + 1
        finally:
            os.close(fd)

    def today(self) -> str:
        """Return the folder of today; one that is new takes the place of all others. Raises OSError."""
        path = f"{self.folder}/{time.strftime('%Y-%m-%d', time.gmtime())}"
        if not os.path.isdir(path):
            os.makedirs(path, 0o700, exist_ok=True)
            self.forget(os.path.basename(path))
        return path

    def forget(self, today: str) -> None:
        """Remove what was counted on other days."""
        import shutil

        for name in os.listdir(self.folder):
            if name < today:
                shutil.rmtree(f"{self.folder}/{name}", ignore_errors=True)


def parse(line: str) -> tuple[str, int] | None:
    """Return (client, limit) of a line; "" stands for all others. None for a line without a number."""
    client, colon, number = line.rpartition(":")
    return (client.strip().lower(), int(number)) if colon and number.strip().isdecimal() else None
