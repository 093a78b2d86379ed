"""arc: what other hosts found before they changed or forwarded a message, and a seal on what we found.

Verify: in a profile, for clients that may neither relay nor have logged in. The state of the chain stands in Authentication-Results (`arc=`);
the plugin dmarc trusts a forwarder that has sealed an unbroken chain. Nothing is refused.

Seal: in [remote], with `domain` set, what strangers sent and is forwarded. The profile that takes mail from strangers must have arc too: it says
in our Authentication-Results how the chain was when it came.

chain   the sets of a message    verify   pass or fail      seal   a new set

Source: RFC 8617. The keys are those of DKIM.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pluq import AuthResult, Delivery, Message, Plugin, Session, Transaction, hook, setting
from pluq.errors import ConfigError, ProtocolError

if TYPE_CHECKING:
    from pluq.signatures.keys import KeyRing, SigningKey


@dataclass(frozen=True)
class Settings:
    domain: str = setting("", help="Who seals, in [remote]; nothing is sealed without it.")
    key: str = setting(
        "control/domainkeys/%/default", help="The private key, its file's name is the selector; % is the domain."
    )


class Arc(Plugin[Settings]):
    """Verify the ARC chains of incoming mail, seal what is forwarded (RFC 8617)."""

    name = "arc"
    budget = 30.0
    clock: Callable[[], float] = staticmethod(time.time)
    _ring: KeyRing | None = None

    @hook
    def check(self) -> Sequence[str]:
        if self.context.role != "remote" or not self.settings.domain:
            return []
        try:
            self.find_key()
        except ConfigError as error:
            # In the running system the role "keys" opens it; now nobody may.
            return [] if isinstance(error.__cause__, PermissionError) else [str(error)]
        return []

    @hook
    async def message_verify(
        self, session: Session, transaction: Transaction, message: Message
    ) -> Sequence[AuthResult] | None:
        if session.may_relay or session.login is not None:
            return None
        from pluq_arc.verify import verify_chain

        outcome = await verify_chain(message, self.context.resolver(), transaction.dns_budget, self.clock())
        properties = () if outcome.result == "none" else (("smtp", "remote-ip", session.remote_ip),)
        return [AuthResult("arc", outcome.result, outcome.domain, properties, outcome.reason)]

    @hook
    async def remote_message(self, delivery: Delivery, message: Message) -> None:
        if not self.settings.domain:
            return
        from pluq_arc.seal import seal

        try:
            key = self.find_key()
        except ConfigError as error:
            self.log(f"not sealed: {error}")
            return
        domain, authserv_id = self.settings.domain.lower(), self.context.authserv_id
        for field in await seal(message, key, domain, authserv_id, int(self.clock())):
            message.prepend(field)

    def find_key(self) -> SigningKey:
        """Return the key that seals. Raises ConfigError."""
        from pluq.signatures import tags
        from pluq.signatures.keys import KeyRing, candidates

        if self._ring is None:
            self._ring = KeyRing(self.context.read_file)
        try:
            domain = tags.domain(self.settings.domain.encode("utf-8", "replace"))
        except ProtocolError as error:
            raise ConfigError("control/pluq.toml", error.text, None, "arc.domain") from None
        paths = list(candidates(self.settings.key, domain, self.context.home))
        for path in paths:
            key = self._ring.get(path)
            if key is not None:
                return key
        raise ConfigError(paths[0], "there is no such key", None, "arc.key")
