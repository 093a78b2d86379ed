"""The plan: which plugins answer which hook, in one profile or role, compiled once and immutable.

A call site reads one attribute and goes on as stock qmail when it is None:

    chain = plan.smtp_mail
    if chain is not None:
        verdict = await chain(session=session, transaction=transaction)

`EMPTY` is the plan without plugins. A reload compiles a new plan; sessions keep the one that they began with. This module is
cheap to import: what compiles a plan (plan.compile) and what pluggy needs is imported where a plugin is enabled.

Measured: pluggy's own calls cost 1.3 microseconds where nobody answers, the attribute 30 nanoseconds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pluq.hookspecs import Plugin, Verdict

    Decide = Callable[..., Awaitable[Verdict | None]]
    DecideNow = Callable[..., Verdict | None]
    First = Callable[..., Awaitable[Any]]
    Fold = Callable[..., Awaitable[Any]]
    Collect = Callable[..., Awaitable[list[Any]]]
    CollectNow = Callable[..., list[Any]]
    Each = Callable[..., Awaitable[None]]
    EachNow = Callable[..., None]
    Observe = Callable[..., Awaitable[None]]
    ObserveNow = Callable[..., None]


class Plan:
    """One attribute a hook: a callable that asks the plugins in order, or None.

    `verbs` are the SMTP verbs of plugins; `authserv_id` the name that our Authentication-Results bear; `verifies`: each message gets
    that field, also where nothing was found.
    """

    start: Each | None = None
    stop: Observe | None = None
    check: CollectNow | None = None
    smtp_preamble: Each | None = None
    smtp_connect: Decide | None = None
    smtp_helo: Decide | None = None
    smtp_capabilities: CollectNow | None = None
    smtp_verbs: CollectNow | None = None
    smtp_command: Decide | None = None
    smtp_auth: Decide | None = None
    smtp_login_as: First | None = None
    smtp_mail: Decide | None = None
    smtp_rcpt: Decide | None = None
    smtp_rcpt_allowed: Decide | None = None
    smtp_data: Decide | None = None
    message_verify: Collect | None = None
    message_decide: Decide | None = None
    message_edit: Decide | None = None
    message_sign: Each | None = None
    queue_submit: First | None = None
    queue_open: Callable[..., Any] | None = None
    queue_fields: CollectNow | None = None
    queue_envelope: EachNow | None = None
    transaction_end: Observe | None = None
    smtp_disconnect: Observe | None = None
    pop3_tls: First | None = None
    send_bounce: DecideNow | None = None
    remote_envelope: Each | None = None
    remote_route: First | None = None
    remote_addresses: Fold | None = None
    remote_source: First | None = None
    remote_policy: Decide | None = None
    remote_transport: First | None = None
    remote_session: Decide | None = None
    remote_mail: Decide | None = None
    remote_params: Collect | None = None
    remote_message: Each | None = None
    remote_outcome: Fold | None = None
    remote_explain: CollectNow | None = None
    local_envelope: Each | None = None
    local_deliver: Decide | None = None
    forward_envelope: DecideNow | None = None
    observe: ObserveNow | None = None

    def __init__(
        self,
        chains: Mapping[str, Any] | None = None,
        plugins: Sequence[Plugin[Any]] = (),
        verbs: Mapping[bytes, Callable[..., Any]] | None = None,
        authserv_id: str = "",
        verifies: bool = False,
    ) -> None:
        for name, chain in (chains or {}).items():
            setattr(self, name, chain)
        self.plugins = tuple(plugins)
        self.verbs = dict(verbs or {})
        self.authserv_id = authserv_id
        self.verifies = verifies

    @property
    def reads_message(self) -> bool:
        """True if a plugin wants to see the message before it is queued, so that it cannot be streamed into the queue."""
        return any((self.message_verify, self.message_decide, self.message_edit, self.message_sign, self.queue_submit))


EMPTY = Plan()
