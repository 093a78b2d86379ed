"""The three ends of everything: done (no exception), a temporary failure, a permanent failure.

In doubt a failure is temporary: the mail is kept and tried again. A protocol error blames the side that broke the rules;
a configuration error names the file, the line and the setting, because a person has to mend it.
"""

from __future__ import annotations

__all__ = ["ClientGone", "ConfigError", "PermanentFailure", "PluqError", "ProtocolError", "TemporaryFailure"]


class PluqError(Exception):
    """What pluq raises on purpose. The text is one sentence for a person."""


class TemporaryFailure(PluqError):
    """It did not work now and may work later. `enhanced` is an RFC 3463 code, class 4."""

    def __init__(self, text: str, enhanced: str = "4.3.0") -> None:
        super().__init__(text)
        self.text = text
        self.enhanced = enhanced


class PermanentFailure(PluqError):
    """It will not work however often it is tried. `enhanced` is an RFC 3463 code, class 5."""

    def __init__(self, text: str, enhanced: str = "5.0.0") -> None:
        super().__init__(text)
        self.text = text
        self.enhanced = enhanced


class ProtocolError(PluqError):
    """Bytes that break the protocol. `blame` is "remote" (a stranger sent them) or "local" (we would have)."""

    def __init__(self, text: str, blame: str = "remote") -> None:
        super().__init__(text)
        self.text = text
        self.blame = blame


class ClientGone(PluqError):
    """The client of a session hung up, or its handshake failed: nobody is left to be answered. A plugin lets it pass."""


class ConfigError(PluqError):
    """A file of the administrator cannot be used as it is.

    `str()` gives "file:line: setting: why"; line (from 1) and setting are left out when they are None.
    """

    def __init__(self, file: str, why: str, line: int | None = None, setting: str | None = None) -> None:
        place = file if line is None else f"{file}:{line}"
        super().__init__(": ".join(part for part in (place, setting, why) if part))
        self.file = file
        self.why = why
        self.line = line
        self.setting = setting


def in_words(error: BaseException) -> str:
    """Return an error as people read it: of a file, `file: reason`, with what to do where only root may look."""
    if not isinstance(error, OSError) or error.errno is None:
        return str(error)
    place = f"{error.filename}: " if error.filename is not None else ""
    return f"{place}{error.strerror}{'; run this as root' if isinstance(error, PermissionError) else ''}"
