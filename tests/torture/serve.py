"""pluq serve as it is, but for some constants.

A role that dies early again and again is started anew within a tenth of a second. The journal has small segments and frequent
checkpoints, so that a few messages see all that it does.

With TORTURE_NO_SYNC the queue does not sync its journal.

A run that kills hundreds of times would otherwise wait for the supervisor's patience, which grows to 30 seconds.
"""

import os
import sys

from pluq.commands import serve
from pluq.queue import journal
from pluq.queue.journal import Journal
from pluq.supervisor import processes

processes.MOST_DELAY_SECONDS = 0.1
journal.SEGMENT_BYTES, journal.STEP_BYTES, journal.CHECKPOINT_SECONDS = 1 << 18, 1 << 16, 0.2
if "TORTURE_NO_SYNC" in os.environ:
    # A harness that does not show the loss would show nothing.
    Journal.sync = lambda self: None  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(serve.main())
