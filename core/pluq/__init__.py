"""pluq: qmail, byte for byte, with every modern feature as an optional plugin.

Plugin authors import everything they need from here:

    from pluq import Plugin, Reject, hook, setting

The names are loaded when they are first used, because the programs that qmail starts for each message must start fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pluq.config.settings import setting
    from pluq.dns import NoRecords
    from pluq.errors import PermanentFailure, PluqError, TemporaryFailure
    from pluq.hookspecs import (
        Accept,
        AuthResult,
        Context,
        Defer,
        Delivery,
        Discard,
        Disconnect,
        DnsRecord,
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
        TlsOffer,
        Transaction,
        Verdict,
        hook,
    )
    from pluq.remote.route import Route
    from pluq.smtpd.connection import Connection

__all__ = [
    "Accept",
    "AuthResult",
    "Connection",
    "Context",
    "Defer",
    "Delivery",
    "Discard",
    "Disconnect",
    "DnsRecord",
    "Draft",
    "Envelope",
    "HeaderField",
    "Later",
    "Login",
    "Message",
    "NoRecords",
    "PermanentFailure",
    "Phase",
    "Plugin",
    "PluqError",
    "Recipient",
    "Reject",
    "Route",
    "Session",
    "TemporaryFailure",
    "Tls",
    "TlsOffer",
    "Transaction",
    "Verdict",
    "hook",
    "setting",
]

__version__ = "0.1.0"


# Names that do not come from pluq.hookspecs.
_ELSEWHERE = {
    "Connection": "pluq.smtpd.connection",
    "NoRecords": "pluq.dns",
    "PermanentFailure": "pluq.errors",
    "PluqError": "pluq.errors",
    "Route": "pluq.remote.route",
    "TemporaryFailure": "pluq.errors",
    "setting": "pluq.config.settings",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'pluq' has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(_ELSEWHERE.get(name, "pluq.hookspecs")), name)
    globals()[name] = found
    return found
