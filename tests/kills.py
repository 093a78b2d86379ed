"""kill -9 right before a change to a file, so that a test can have it before each of them."""

import os
import signal

CHANGES = (
    *("open", "link", "unlink", "rename", "write", "pwrite", "pwritev", "ftruncate", "fsync", "fdatasync", "utime"),
)


class Kill:
    """Ends this process right before the n-th call of a function that changes files."""

    def __init__(self, countdown):
        self.countdown = countdown

    def install(self):
        for name in CHANGES:
            setattr(os, name, self.stepping(getattr(os, name)))

    def stepping(self, function):
        def step(*arguments, **options):
            self.countdown -= 1
            if self.countdown == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return step
