"""What a plugin in shadow mode is given: copies, so that whatever it changes is changed for nobody.

`notes` are shared: they are the plugin's own, and later hooks of it need them. Hooks that carry out what they are asked, on a connection, in
a mailbox or in the queue, are not asked at all (NOT_ASKED), and verbs of a plugin in shadow mode do not exist.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from pluq.hookspecs.context import Delivery, Envelope, Recipient, Session, Transaction
from pluq.hookspecs.message import Message
from pluq.mail.bounce import Draft

COPIED = (Session, Transaction, Recipient, Envelope, Delivery, Message, Draft)
NOT_ASKED = frozenset(
    {
        "smtp_preamble",
        "smtp_verbs",
        "queue_submit",
        "queue_open",
        "pop3_tls",
        "remote_transport",
        "remote_session",
        "local_deliver",
    }
)


def in_shadow(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a hook with copies of all that can be changed."""
    return {name: _copied(value) if isinstance(value, COPIED) else value for name, value in given.items()}


def _copied(value: Any) -> Any:
    if isinstance(value, Transaction):
        _ = value.dns_budget  # made before the copy is: what is spent is spent for all
    made = copy.copy(value)
    for name in value.__dataclass_fields__:
        part = getattr(value, name)
        if name != "notes" and isinstance(part, (list, dict, set)):
            setattr(made, name, copy.copy(part))
        elif isinstance(part, COPIED):
            setattr(made, name, _copied(part))
    return made
