"""Before anybody looks at the queue after a crash: what the queue daemon's journal promised is put into it.

The daemon does that too when it starts. But a scheduler that starts at the same time would see in todo/ what a power cut left there.
"""

from __future__ import annotations

import os
import traceback

from pluq.config import Home, Ids
from pluq.errors import ConfigError
from pluq.queue import recovery
from pluq.queue.layout import QueueLayout
from pluq.supervisor.privileges import become, current_identity, user_identity


def is_needed(home: Home) -> bool:
    """Say whether a killed queue daemon left a journal behind, or one runs now."""
    return recovery.is_needed(QueueLayout(home.queue))


def recover_queue(home: Home, ids: Ids) -> None:
    """Recover the queue of a home, as its owner. Raises ConfigError where that fails: nothing may be started then."""
    if not is_needed(home):
        return
    layout = QueueLayout(home.queue)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            become(current_identity() if ids.single else user_identity(ids.uid["qmailq"], ids.gid["qmail"]))
            os.umask(0o033)
            recovery.recover_unserved(layout)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    if os.waitpid(pid, 0)[1] != 0:
        raise ConfigError(
            layout.pool, "its journal has mail that could not be put into the queue; see above for the reason"
        )
