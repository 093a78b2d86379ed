"""The header of an injected message: each field looked at, what is missing put in front.

    field                                     effect
    To Cc                                     rewritten; its addresses are recipients, and count for Mail-Followup-To
    Bcc Apparently-To                         rewritten; recipients
    Resent-To Resent-Cc Resent-Bcc            rewritten; recipients if the message is resent
    Return-Path                               its last address is the envelope sender, unless one was given
    Sender From Reply-To Return-Receipt-To Errors-To, and with Resent-    rewritten
    Bcc Resent-Bcc Return-Path Content-Length                             taken out

A list of recipients that cannot be read is left as it is; another field that cannot be read ends it all (Unparsable). The
recipients of one field stand in the envelope from the last to the first.

Date, Message-ID, From and To (or Cc) are added where they are missing, in this order, before all that the message had; with any
Resent- field of these kinds, their Resent- forms instead.

Source: qmail-header(5); doheaderfield and finishheader in qmail-inject.c.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pluq.inject.rewrite import Unparsable, parse_or_fail
from pluq.inject.settings import Settings
from pluq.mail.address import needs_quoting, quote
from pluq.mail.date import date822, message_stamp
from pluq.mail.envelope import VERP_MARK
from pluq.mail.header import Rewrite, field_name, rewrite_addresses
from pluq.mail.tokens import AT, ATOM, COLON, COMMENT, LEFT, QUOTE, RIGHT, SPECIALS, Token, unparse, unquote

__all__ = ["Header"]

RESENT = frozenset(
    b"resent-" + name for name in (b"sender", b"from", b"reply-to", b"to", b"cc", b"bcc", b"date", b"message-id")
)
"""Any of these makes the message a resent one."""

ORIGINATORS = frozenset(
    (
        b"sender",
        b"from",
        b"reply-to",
        b"return-receipt-to",
        b"errors-to",
        b"resent-sender",
        b"resent-from",
        b"resent-reply-to",
    )
)
RECIPIENTS = frozenset((b"to", b"cc", b"bcc", b"apparently-to", b"resent-to", b"resent-cc", b"resent-bcc"))
FOLLOWED = frozenset((b"to", b"cc"))
DROPPED = frozenset((b"bcc", b"resent-bcc", b"return-path", b"content-length"))
DROP_LETTERS = {b"from": "f", b"message-id": "i", b"return-path": "s"}


class Header:
    """Takes the fields one by one, then gives the finished header, the sender and the recipients.

    `sender` is the envelope sender, unquoted; None until it is known. `when` is the time of the submission in seconds, `pid`
    what makes the Message-ID unique within that second.
    """

    def __init__(self, settings: Settings, when: int, pid: int, sender: bytes | None = None) -> None:
        self.settings = settings
        self.when = when
        self.pid = pid
        self.sender = sender
        self.fields: list[bytes] = []
        self.seen: set[bytes] = set()
        self.recipients_in_header: list[bytes] = []
        self.resent_recipients: list[bytes] = []
        self.followed: list[bytes] = []

    @property
    def recipients(self) -> list[bytes]:
        """The addresses of the fields that count: the Resent- fields if there is any, else the others."""
        return self.resent_recipients if self.is_resent else self.recipients_in_header

    @property
    def is_resent(self) -> bool:
        return not RESENT.isdisjoint(self.seen)

    def add(self, fields: Iterable[bytes]) -> None:
        """Take fields of the message, each with its final newline. Raises Unparsable."""
        for field in fields:
            self.add_field(field)

    def add_field(self, field: bytes) -> None:
        name = field_name(field)
        if DROP_LETTERS.get(name, "") in self.settings.letters:
            return
        self.seen.add(name)
        if name in RECIPIENTS:
            field = self.rewrite(field, self.recipient_rewrite(name)) or field
        elif name in ORIGINATORS:
            field = self.rewrite_or_fail(field, self.settings.completion)
        elif name == b"return-path":
            field = self.rewrite_or_fail(field, self.take_sender)
        if name not in DROPPED:
            self.fields.append(field)

    def rewrite(self, field: bytes, rewrite: Rewrite) -> bytes | None:
        """Return the field with its addresses rewritten; None if it cannot be read."""
        try:
            return self.rewrite_or_fail(field, rewrite)
        except Unparsable:
            return None

    def rewrite_or_fail(self, field: bytes, rewrite: Rewrite) -> bytes:
        tokens = rewrite_addresses(parse_or_fail(field), rewrite)
        if tokens is None:
            raise Unparsable(field)
        return unparse(tokens)

    def recipient_rewrite(self, name: bytes) -> Rewrite:
        """Return a rewriting that completes an address and notes it as a recipient."""
        taken = self.resent_recipients if name.startswith(b"resent-") else self.recipients_in_header

        def rewrite(address: list[Token]) -> list[Token]:
            complete = self.settings.completion(address)
            taken.append(envelope_address(complete))
            if name in FOLLOWED:
                self.followed.append(taken[-1])
            return complete

        return rewrite

    def take_sender(self, address: list[Token]) -> list[Token]:
        """Complete an address of a Return-Path; the first one that comes here is the envelope sender."""
        complete = self.settings.completion(address)
        if self.sender is None:
            self.sender = envelope_address(complete) + (VERP_MARK if "r" in self.settings.letters else b"")
        return complete

    def finish(self) -> bytes:
        """Return the whole header; afterwards `sender` is known. Raises Unparsable."""
        if self.sender is None:
            self.rewrite_or_fail(self.default_return_path(), self.take_sender)
        prefix = b"Resent-" if self.is_resent else b""
        added = [prefix + field for field in self.missing_fields(prefix.lower())]
        if not prefix and self.lists_are_followed():
            added.append(self.followup_field())
        return b"".join((*added, *self.fields))

    def missing_fields(self, prefix: bytes) -> Iterable[bytes]:
        """Give the fields to add, without their Resent-."""
        makers: tuple[tuple[bytes, Callable[[], bytes]], ...] = (
            (b"date", self.date_field),
            (b"message-id", self.message_id_field),
            (b"from", self.from_field),
        )
        for name, make in makers:
            if prefix + name not in self.seen:
                yield make()
        if self.seen.isdisjoint((prefix + b"to", prefix + b"cc")):
            yield b"Cc: recipient list not shown: ;\n"

    def date_field(self) -> bytes:
        return b"Date: %s\n" % date822(self.when, self.settings.local_dates)

    def message_id_field(self) -> bytes:
        return b"Message-ID: <%s@%s>\n" % (message_stamp(self.when, self.pid), self.settings.id_host)

    def from_field(self) -> bytes:
        """Return the From field that says who called the program."""
        author = self.settings.author
        kind = QUOTE if needs_quoting(author.user) else ATOM
        address = [Token(kind, author.user), *host_tokens(author.host)]
        if author.name is not None and "c" in self.settings.letters:
            address.append(Token(COMMENT, author.name))
        elif author.name is not None:
            address = [Token(QUOTE, author.name), SPECIALS[LEFT], *address, SPECIALS[RIGHT]]
        return self.rewrite_or_fail(written(b"From", address), self.settings.completion)

    def default_return_path(self) -> bytes:
        """Return a Return-Path field for the author, made unique as QMAILINJECT asks."""
        author, letters = self.settings.author, self.settings.letters
        user = author.sender_user
        if "m" in letters:
            user += b"-%d.%d" % (self.when, self.pid)
        if "r" in letters:
            user += b"-"
        return written(b"Return-Path", [Token(QUOTE, user), *host_tokens(author.sender_host)])

    def lists_are_followed(self) -> bool:
        """Say whether a Mail-Followup-To is due: one of the lists is written to, and the author has not decided himself."""
        if b"mail-followup-to" in self.seen:
            return False
        return any(address.lower() in self.settings.lists for address in self.followed)

    def followup_field(self) -> bytes:
        return b"Mail-Followup-To: %s\n" % b",\n  ".join(quote(address) for address in reversed(self.followed))


def envelope_address(address: list[Token]) -> bytes:
    """Return an address for the envelope, where a NUL would end it: what stands behind one is dropped."""
    return unquote(address).partition(b"\0")[0]


def host_tokens(host: bytes | None) -> list[Token]:
    """Return `@host`; nothing where the host is not set. The host is read again later, so it may be any text."""
    return [] if host is None else [SPECIALS[AT], Token(ATOM, host)]


def written(name: bytes, address: list[Token]) -> bytes:
    """Return a field with one address, folded as all fields are."""
    return unparse([Token(ATOM, name), SPECIALS[COLON], *address])
