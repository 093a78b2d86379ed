"""What was accepted, what arrived, and the verdict on it. Stands outside the system under test and believes nobody.

The client writes down each message before it is sent, when its 250 came, and when something was broken on purpose. Each copy that arrives is
read back and compared with what was sent. Then, for each message and recipient:

    delivered    a whole copy arrived
    lost         250 was said, and no copy arrived
    duplicated   more than one arrived: explained if something was broken between 250 and the last copy, for then the system
                 cannot have known of the first; unexplained otherwise
    corrupt      a copy that is not, byte for byte, what was sent; or half of one, visible to a reader
    unasked      a message arrived that was never answered by 250. SMTP allows it (RFC 1047); counted, not judged
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

TOKEN, DIGEST = b"X-Ledger: ", b"X-Digest: "
BOUNCE = b"--- Below this line is a copy of the message.\n\nReturn-Path: <"
BOUNCE_TO = "bounce to "
# The times of files are those of the kernel's last tick, and the next hop may read what a killed client had sent a moment after its death.
SLACK_SECONDS = 0.25


def compose(token: str, size: int) -> bytes:
    """Return a message with LF line ends that tells whether it is whole. Its body has lines that begin with dots."""
    unit = f"{token} .\n.\n..{token}\n".encode()
    body = (unit * (size // len(unit) + 1))[:size].rstrip(b"\n") + b"\nend\n"
    digest = hashlib.sha256(body).hexdigest().encode()
    return b"Subject: torture\n%b%b\n%b%b\n\n%b" % (TOKEN, token.encode(), DIGEST, digest, body)


@dataclass(frozen=True)
class Copy:
    """A message as it arrived. `token` is None when not even that could be read. `at` is the time of its arrival."""

    recipient: str
    token: str | None
    whole: bool
    at: float


def bounce_to(recipient: str) -> str:
    """Return what stands in the ledger for a bounce that must come to this address."""
    return BOUNCE_TO + recipient


def read_copy(recipient: str, text: bytes, at: float) -> Copy:
    """Return what arrived: `text` has LF line ends, and any fields in front. A bounce (QSBMF) is told by the message within."""
    if BOUNCE in text:
        recipient, text = bounce_to(recipient), text.partition(BOUNCE)[2]
    header, _, body = text.partition(b"\n\n")
    fields = {
        name: line[len(name) :] for line in header.split(b"\n") for name in (TOKEN, DIGEST) if line.startswith(name)
    }
    token = fields[TOKEN].decode("ascii", "replace") if TOKEN in fields else None
    return Copy(recipient, token, hashlib.sha256(body).hexdigest().encode() == fields.get(DIGEST), at)


@dataclass(frozen=True)
class Sent:
    """A message on its way in. `at`: when its 250 came, None if none came."""

    recipients: tuple[str, ...]
    at: float | None = None


@dataclass
class Row:
    """The figures of one run. Messages are counted once for each recipient."""

    run: str
    accepted: int = 0
    delivered: int = 0
    lost: int = 0
    explained: int = 0
    unexplained: int = 0
    corrupt: int = 0
    unasked: int = 0
    faults: int = 0
    seconds: float = 0.0
    recovery: float = 0.0
    notes: list[str] = field(default_factory=list)
    # A run of something that is known to lose messages. It shows that the harness sees a loss.
    is_control: bool = False

    @property
    def good(self) -> bool:
        if self.is_control:
            return self.lost > 0
        return self.accepted > 0 and not (self.lost or self.unexplained or self.corrupt or self.failures)

    @property
    def failures(self) -> list[str]:
        return [note for note in self.notes if note.startswith("FAILED")]

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "good": self.good}


class Ledger:
    """Safe for use by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sent: dict[str, Sent] = {}
        self._faults: list[float] = []
        self._count = 0

    def begin(self, recipients: Sequence[str]) -> str:
        """Return the token of a new message, to be sent now."""
        with self._lock:
            self._count += 1
            token = f"m{self._count:06d}"
            self._sent[token] = Sent(tuple(recipients))
        return token

    def accept(self, token: str) -> None:
        """250 has come."""
        with self._lock:
            self._sent[token] = Sent(self._sent[token].recipients, time.time())

    def fault(self, at: float | None = None) -> None:
        """Something was broken now, or at that time."""
        with self._lock:
            self._faults.append(time.time() if at is None else at)

    @property
    def accepted(self) -> dict[str, Sent]:
        with self._lock:
            return {token: sent for token, sent in self._sent.items() if sent.at is not None}

    @property
    def fault_count(self) -> int:
        return len(self._faults)

    def outstanding(self, copies: Iterable[Copy]) -> set[tuple[str, str]]:
        """Return what was accepted and has not arrived: token, recipient."""
        arrived = {(copy.token, copy.recipient) for copy in copies if copy.whole}
        return {
            (token, recipient)
            for token, sent in self.accepted.items()
            for recipient in sent.recipients
            if (token, recipient) not in arrived
        }

    def judge(self, run: str, copies: Sequence[Copy]) -> Row:
        """Return the figures."""
        row = Row(run, faults=self.fault_count)
        arrived: dict[tuple[str, str], list[float]] = {}
        for copy in copies:
            if copy.token not in self._sent or not copy.whole:
                row.corrupt += 1
                row.notes.append(f"corrupt: {copy.token} for {copy.recipient}")
            else:
                arrived.setdefault((copy.token, copy.recipient), []).append(copy.at)
        for token, sent in self._sent.items():
            for recipient in sent.recipients:
                self._judge_one(row, sent, recipient, sorted(arrived.get((token, recipient), [])), token)
        return row

    def _judge_one(self, row: Row, sent: Sent, recipient: str, times: list[float], token: str) -> None:
        if sent.at is None:
            row.unasked += bool(times)
        else:
            row.accepted += 1
            row.delivered += bool(times)
            if not times:
                row.lost += 1
                row.notes.append(f"LOST: {token} for {recipient}")
        if len(times) < 2:
            return
        # A second bounce is made while the first one may still be on its way.
        since = [sent.at or times[0]] * len(times) if recipient.startswith(BOUNCE_TO) else times
        if all(self._was_fault(first, second) for first, second in zip(since, times[1:], strict=False)):
            row.explained += 1
        else:
            row.unexplained += 1
            row.notes.append(f"unexplained duplicate: {token} for {recipient}")

    def _was_fault(self, first: float, last: float) -> bool:
        return any(first - SLACK_SECONDS <= fault <= last + SLACK_SECONDS for fault in self._faults)
