"""The packets on HOME/run/lease, between the queue daemon and the workers that write message files.

The daemon makes the files and passes each to one worker once, as a descriptor (SCM_RIGHTS). Later grants of the same file are
only its number: a file that was leased to a worker is never given to anybody else. A packet holds any number of records:

    worker to daemon
        w  COUNT                         lease me so many files more
        a  NUMBER ENVELOPE               the next part of a long envelope
        c  NUMBER SIZE ENVELOPE          queue this file: SIZE bytes of message; the (last part of the) envelope
        x  NUMBER                        I do not need it
    daemon to worker
        n  NUMBER QP                     a new file: its descriptor comes with the packet, in the order of the records
        g  NUMBER QP                     a file that you have, for the next message
        r  NUMBER CODE                   answer to c: 0, or qmail-queue's exit code
        f  NUMBER                        close this file, it is not yours any more
        e  CODE COUNT                    no file for so many requests: qmail-queue's exit code

The envelope is in qmail-queue's form (F sender NUL, T recipient NUL ..., NUL). Records are little-endian and packed; they never
leave the machine.
"""

from __future__ import annotations

from struct import Struct

__all__ = ["ANSWER", "MAX_DESCRIPTORS", "MAX_ENVELOPE", "PACKET_BYTES", "PART_BYTES", "REQUEST"]

# letter, message number (or count), size of the message, bytes of envelope that follow
REQUEST = Struct("<cQQI")
# letter, message number (or code), value
ANSWER = Struct("<cQI")

# One packet is at most this long: below what a socket buffer takes by default (212992, of which the kernel uses some).
PACKET_BYTES = 65536
# Envelope bytes in one record; a longer envelope comes in parts.
PART_BYTES = 32768
# All parts together: 16 MiB are 600,000 recipients of ordinary length.
MAX_ENVELOPE = 16 << 20
# Descriptors in one packet (the kernel takes 253).
MAX_DESCRIPTORS = 64
