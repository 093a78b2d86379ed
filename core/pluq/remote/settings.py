"""The control files of remote delivery.

helohost (default: me), smtproutes, timeoutconnect (60 seconds), timeoutremote (1200 seconds), moreipme, notipme. qmail-remote reads them for each
delivery, and administrators count on it; a resident deliverer looks at most once a second whether one of them changed.

Source: qmail-remote(8), qmail-control(5).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from pluq.config.ipme import Adjustments
from pluq.errors import ConfigError
from pluq.remote.route import Routes
from pluq.store.control import ControlFiles

CONTROL_FILES = ("me", "helohost", "smtproutes", "timeoutconnect", "timeoutremote", "moreipme", "notipme")
LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class RemoteSettings:
    """What the control files say, times in seconds."""

    helohost: bytes
    routes: Routes
    timeout_connect: int
    timeout_remote: int
    adjustments: Adjustments | None = None

    @classmethod
    def read(cls, controls: ControlFiles) -> RemoteSettings:
        """Read the control files. Raises ConfigError where one cannot be read, or there is no name to greet with."""
        helohost = controls.line_or_me("helohost")
        if helohost is None:
            raise ConfigError(controls.path("me"), "does not exist, and neither does helohost")
        return cls(
            helohost,
            Routes(controls.lines("smtproutes") or []),
            controls.number("timeoutconnect", 60),
            controls.number("timeoutremote", 1200),
            Adjustments.read(controls),
        )


class CurrentSettings:
    """The settings as they stand now, for a process that stays."""

    def __init__(self, controls: ControlFiles, clock: Callable[[], float]) -> None:
        self._controls = controls
        self._clock = clock
        self._settings: RemoteSettings | None = None
        self._seen: list[tuple[int, int, int] | None] = []
        self._looked = 0.0

    def get(self) -> RemoteSettings:
        """Return the settings. Raises ConfigError as `RemoteSettings.read`."""
        now = self._clock()
        if self._settings is None or now - self._looked >= LOOK_SECONDS:
            seen = [self._identity(name) for name in CONTROL_FILES]
            if self._settings is None or seen != self._seen:
                self._settings = None  # not the old ones where the new ones cannot be read
                self._settings = RemoteSettings.read(self._controls)
                self._seen = seen
            self._looked = now
        return self._settings

    def _identity(self, name: str) -> tuple[int, int, int] | None:
        try:
            status = os.stat(self._controls.path(name))
        except OSError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns
