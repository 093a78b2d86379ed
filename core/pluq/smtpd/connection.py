"""What a plugin may do with the connection: in the handler of a verb, at connect, and before the banner.

    async def starttls(self, session, argument, connection):        async def auth(self, session, argument, connection):
        connection.reply(b"220 ready for tls\\r\\n")                      connection.reply(b"334 \\r\\n")
        await connection.start_tls(self.context)                        answer = await connection.read_line()

The handler of a verb returns its last reply (bytes with CRLF), a verdict, or None if it has said everything itself. What the hook
smtp_preamble does comes before the banner: TLS from the start, a PROXY header.

All reads are bounded in bytes; in time by the session's own limits. At the end of input they raise ClientGone, which a
plugin lets pass.

Source: RFC 3207 section 4.2 (what TLS makes forgotten), RFC 4954.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pluq.errors import ClientGone, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pluq.hookspecs.context import Login, Tls, Transaction
    from pluq.smtpd.session import SmtpSession

# RFC 4954 section 4: a line of an AUTH exchange may have 12288 octets.
MAX_LINE = 12288


class Connection:
    """The stream of one session, in the hands of a plugin's verb until its handler returns."""

    __slots__ = ("_smtp",)

    def __init__(self, smtp: SmtpSession) -> None:
        self._smtp = smtp

    @property
    def transaction(self) -> Transaction | None:
        """The transaction that MAIL began, None outside of one."""
        return self._smtp.transaction

    @property
    def has_input(self) -> bool:
        """True if the client has sent more than this command: it did not wait for the reply."""
        return self._smtp.waiting_bytes > 0 or self._smtp.driver.has_unread()

    def reply(self, data: bytes) -> None:
        """Send a reply now; `data` ends with CRLF."""
        self._smtp.reply(data)
        self._smtp.flush()

    async def read_line(self, limit: int = MAX_LINE) -> bytes:
        """Return the next line without its CRLF (or LF). Raises ProtocolError for one that is too long, and drops it."""
        smtp = self._smtp
        while (line := smtp.take_line()) is None:
            await self._wait()
        line = line.removesuffix(b"\r")
        if len(line) > limit:
            raise ProtocolError("line too long")
        return line

    async def read_exactly(self, count: int) -> bytes:
        """Return the next `count` octets; the caller bounds `count`."""
        data = self._smtp.take(count)
        while len(data) < count:
            await self._wait()
            data += self._smtp.take(count - len(data))
        return data

    async def _wait(self) -> None:
        self._smtp.flush()
        if not await self._smtp.driver.wait_input():
            raise ClientGone("the client is gone")

    async def start_tls(self, context: Any) -> Tls:
        """Encrypt from here on; what the client sent before is dropped, and what it said is forgotten.

        `context` is an ssl.SSLContext. Raises ClientGone where the handshake fails: the session is over then.
        """
        return await self._encrypt(lambda: self._smtp.driver.start_tls(context))

    async def switch(self, begin: Callable[[], Awaitable[tuple[int, int, Tls]]]) -> Tls:
        """Let another process encrypt, and forget as `start_tls` does.

        `begin` asks for it, and returns the descriptors to read from and to write to, and what is known of the TLS layer. It may
        raise OSError. Only a session on descriptors 0 and 1 can do this.
        """

        async def switched() -> Tls:
            read_fd, write_fd, tls = await begin()
            self._smtp.driver.switch(read_fd, write_fd)
            return tls

        return await self._encrypt(switched)

    async def _encrypt(self, begin: Callable[[], Awaitable[Tls]]) -> Tls:
        smtp = self._smtp
        await self.reset()
        smtp.drop_input()
        smtp.flush()
        try:
            tls = await begin()
        except OSError as error:
            smtp.log(f"TLS handshake failed: {error}")
            raise ClientGone("TLS handshake failed") from error
        smtp.session.tls = tls
        return tls

    async def log_in(self, login: Login) -> bool:
        """Make a login that was proved the session's, unless another plugin objects (smtp_auth): its reply was given then."""
        from pluq.smtpd import ask

        if not await ask.logged_in(self._smtp, login):
            return False
        self._smtp.session.login = login
        return True

    async def reset(self) -> None:
        """Forget what the client said so far, as after the banner: greeting, login, transaction, notes, variables."""
        smtp, session = self._smtp, self._smtp.session
        pending = smtp.reset_transaction()
        if pending is not None:
            await pending
        smtp.forget()
        session.helo, session.extended, session.login = None, False, None
        session.hides_client = session.is_helo_vouched = False
        session.results.clear()
        session.notes.clear()
        if smtp.first_environment is not None:
            session.environment = dict(smtp.first_environment)
            session.remote_info = smtp.first_info

    def close(self) -> None:
        """End the session, after what was replied."""
        self._smtp.end("refused")
