"""Handing in one message: what the two protocols and the queue say to each other.

The field of the server comes first, then the message as it is read. Whatever goes wrong before the envelope is complete leaves
nothing in the queue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pluq.mail.received import server_received
from pluq.queue.submit import QueueRefusal, Submission

ADDRESS_BYTES = 1000  # addresses are shorter than this
UNKNOWN = b"unknown"


class Client:
    """Who is at the other end, as tcpserver says. `environment` maps names to bytes; `local_dates` as in [core]."""

    def __init__(self, environment: Mapping[bytes, bytes], local_dates: bool = False) -> None:
        self._environment = environment
        self._local_dates = local_dates

    def received(self, protocol: bytes, when: int) -> bytes:
        """Return the Received field for a message of this client."""
        value = self._environment.get
        local = value(b"TCPLOCALHOST")
        return server_received(
            remote_host=value(b"TCPREMOTEHOST", UNKNOWN),
            remote_ip=value(b"TCPREMOTEIP", UNKNOWN),
            remote_info=value(b"TCPREMOTEINFO"),
            helo=None,
            local=value(b"TCPLOCALIP", UNKNOWN) if local is None else local,
            when=when,
            protocol=protocol,
            local_dates=self._local_dates,
        )


async def queue_verdict(submission: Submission, sender: bytes, recipients: Sequence[bytes], when: int) -> bytes:
    """Commit the message; return K, Z or D and the text of the answer."""
    try:
        receipt = await submission.commit(sender, recipients)
    except QueueRefusal as refusal:
        return refusal.verdict.encode("utf-8", "surrogateescape")
    return b"Kok %d qp %d" % (when, receipt.qp)
