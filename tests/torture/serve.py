"""pluq serve as it is, but for one constant: a role that dies early again and again is started anew within a tenth of a second.

With TORTURE_NO_SYNC the queue does not sync the folder todo.

A run that kills hundreds of times would otherwise wait for the supervisor's patience, which grows to 30 seconds.
"""

import os
import sys

from pluq.commands import serve
from pluq.queue.committer import Committer
from pluq.supervisor import processes

processes.MOST_DELAY_SECONDS = 0.1
if "TORTURE_NO_SYNC" in os.environ:
    # What stock qmail does. A harness that does not show the loss would show nothing.
    Committer._sync_todo = lambda self: True  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(serve.main())
