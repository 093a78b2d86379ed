"""pluq: qmail, byte for byte, with every modern feature as an optional plugin.

Plugin authors import everything they need from here:

    from pluq import Plugin, Reject, hook, setting

The names are loaded when they are first used, because the programs that qmail starts for each message must start fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pluq.config.settings import setting
    from pluq.hookspecs import (
        Accept,
        AuthResult,
        Context,
        Defer,
        Delivery,
        Discard,
        Disconnect,
        Draft,
        Envelope,
        HeaderField,
        Later,
        Login,
        Message,
        Phase,
        Plugin,
        Recipient,
        Reject,
        Session,
        Tls,
        Transaction,
        Verdict,
        hook,
    )

__all__ = [
    "Accept",
    "AuthResult",
    "Context",
    "Defer",
    "Delivery",
    "Discard",
    "Disconnect",
    "Draft",
    "Envelope",
    "HeaderField",
    "Later",
    "Login",
    "Message",
    "Phase",
    "Plugin",
    "Recipient",
    "Reject",
    "Session",
    "Tls",
    "Transaction",
    "Verdict",
    "hook",
    "setting",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'pluq' has no attribute {name!r}")
    if name == "setting":
        from pluq.config.settings import setting as found
    else:
        from pluq import hookspecs

        found = getattr(hookspecs, name)
    globals()[name] = found
    return found
