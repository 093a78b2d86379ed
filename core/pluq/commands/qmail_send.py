"""qmail-send: deliver what is in the queue. Started by qmail-start, which connects descriptors 0 to 6. No arguments.

See pluq.send.classic.
"""

from __future__ import annotations

import os


def main() -> int:
    from pluq.config import Home
    from pluq.send import classic

    return classic.run(Home.from_environment(), os.environ)
