"""auth: users log in to send mail, and we log in to relays.

Clients: AUTH with PLAIN, LOGIN, CRAM-MD5 and SCRAM-SHA-256. Who is right is decided by one of three, the first that there is: a
checkpassword program (the arguments of qmail-smtpd, or `program`), Dovecot (`dovecot`), the file control/passwords that `pluq auth passwd`
writes. SMTPAUTH means what it means to patched qmail; where it is not set, what the configuration names is offered, and program arguments
alone offer nothing.

Nothing is offered before TLS, unless FORCETLS is 0 or `without_tls` is set. Whoever logged in may relay, and is named in Received in the
place of his address. A wrong password costs `delay` seconds, and an address that tries many is turned away.

Other hosts: a login in control/smtproutes or control/authsenders is used; without one where it is asked for, nothing is sent.

Source: RFC 4954; the SMTP AUTH patches of qmail.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from pluq import Delivery, Plugin, Reject, Session, Transaction, Verdict, hook
from pluq.errors import ConfigError, ProtocolError
from pluq.hookspecs import AuthResult, Defer, Disconnect, Login, clean_text
from pluq_auth import limits
from pluq_auth.dialogue import Cancelled, Dialogue, Ended, Malformed, Proof, Refused, Unavailable
from pluq_auth.offer import CRAM, PASSWORD, Offer, parse_smtpauth, split_arguments
from pluq_auth.senders import SendAs
from pluq_auth.settings import Settings

if TYPE_CHECKING:
    from pluq_auth.dovecot import Dovecot
    from pluq_auth.program import Program
    from pluq_auth.users import PasswordFile

OK = b"235 ok, go ahead (#2.0.0)\r\n"
FAILED = b"535 authentication failed (#5.7.1)\r\n"
CANCELED = b"501 auth exchange canceled (#5.0.0)\r\n"
MALFORMED = b"501 malformed auth input (#5.5.4)\r\n"
NOT_AVAILABLE = b"503 auth not available (#5.3.3)\r\n"
AGAIN = b"503 you're already authenticated (#5.5.0)\r\n"
IN_TRANSACTION = b"503 no auth during mail transaction (#5.5.0)\r\n"
INVALID = b"504 auth type invalid (#5.5.1)\r\n"
TLS_FIRST = b"538 auth not available without TLS (#5.3.3)\r\n"
# The blank at the end is the patch's.
REQUIRED = Reject(530, None, "Authorization required (#5.7.1) ")
NOT_YOURS = Reject(503, "5.5.1", "from and auth not the same")
TOO_MANY = Disconnect(Defer(421, "4.7.0", "too many failed logins, try again later"))

UNKNOWN_SUBMITTER = b"unknown"

# So many hashes are computed at a time, so that a flood of logins cannot take the machine's memory.
AT_A_TIME = 2


def set_after_login(environment: MutableMapping[str, str]) -> None:
    """Carry out what the rules want after a login: AUTH_SET_NAME=value sets NAME, AUTH_UNSET_NAME unsets it."""
    for name, value in list(environment.items()):
        if name.startswith("AUTH_SET_"):
            environment[name.removeprefix("AUTH_SET_")] = value
        elif name.startswith("AUTH_UNSET_"):
            environment.pop(name.removeprefix("AUTH_UNSET_"), None)


class BackEnd(Protocol):
    """Who decides about a login."""

    @property
    def mechanisms(self) -> tuple[str, ...]: ...

    async def authenticate(
        self, mechanism: str, dialogue: Dialogue, session: Session, offered: Sequence[str]
    ) -> Proof: ...


class Auth(Plugin[Settings]):
    """Let users log in, and log in to relays."""

    name = "auth"
    after = ("tls",)  # to relays: the password must not go before encryption
    budget = 1200.0  # a relay may take as long for each reply as for any other (timeoutremote)

    def __init__(self) -> None:
        self.failures: limits.Count = limits.SHARED
        self.dovecot: Dovecot | None = None
        self.passwords: PasswordFile | None = None
        self.send_as = SendAs(())
        self.relay_tls: Any = None
        self.hashing = asyncio.Semaphore(AT_A_TIME)

    # -- life

    @hook
    def check(self) -> Sequence[str]:
        """A back end that cannot be used, lines that cannot be read."""
        if self.context.role == "remote":
            from pluq_auth.routes import complaints

            return complaints(self.context.home.controls)
        settings, found = self.settings, []
        if settings.program and shutil.which(settings.program[0]) is None:
            found.append(f"auth.program: {settings.program[0]} cannot be run")
        if settings.dovecot and not os.path.exists(self.path(settings.dovecot)):
            found.append(f"{self.path(settings.dovecot)}: there is no socket of Dovecot")
        try:
            SendAs(settings.send_as)
        except ValueError as error:
            found.append(f"sendas: {error}")
        path = self.path(settings.passwords)
        if os.path.exists(path):
            from pluq_auth.users import parse_users

            try:
                parse_users(path, self.context.read_file(path))
            except (ConfigError, OSError) as error:
                found.append(str(error))
        return found

    @hook
    async def start(self) -> None:
        if self.context.role != "smtpd":
            return
        try:
            self.send_as = SendAs(self.settings.send_as)
        except ValueError as error:
            raise ConfigError(self.context.home.control("sendas"), str(error), None, "auth.send_as") from None
        self.share_failures()
        if self.settings.dovecot:
            await self.start_dovecot()

    def share_failures(self) -> None:
        """Count failures together with the other processes of this role, where there is a folder for that."""
        from pluq_auth.shared import shared_failures

        try:
            self.failures = shared_failures(f"{self.state_folder()}/failures", os.getpid())
        except (ConfigError, OSError) as error:
            # A home of qmail's own has no such folder: under tcpserver that would be a line for every connection.
            if not isinstance(error.__cause__, FileNotFoundError):
                self.log(f"failed logins are counted by each process for itself: {error}")

    async def start_dovecot(self) -> None:
        from pluq_auth.dovecot import Dovecot

        self.dovecot = Dovecot(self.path(self.settings.dovecot), self.settings.timeout_program)
        try:
            await self.dovecot.learn()
        except Unavailable:
            self.log(f"{self.dovecot.path}: Dovecot does not answer")

    def path(self, name: str) -> str:
        return os.path.join(self.context.home.path, name)

    # -- what is offered

    def back_end(self, session: Session) -> BackEnd | None:
        """Return who decides about this client's login; None: nobody can log in."""
        settings = self.settings_for(session)
        if settings.cdb:
            return self.database(settings.cdb)
        if session.arguments:
            return self.program(session.arguments)
        if settings.program:
            return self.program(settings.program)
        if self.dovecot is not None:
            return self.dovecot
        return self.password_file()

    def database(self, name: str) -> BackEnd:
        from pluq_auth.cdb import PasswordCdb

        return PasswordCdb(self.path(name), self.log, self.hashing)

    def password_file(self) -> BackEnd | None:
        """Return the file of passwords if there is one. What it needs is imported then: under tcpserver each connection is a process."""
        path = self.path(self.settings.passwords)
        if not os.path.exists(path):
            return None
        if self.passwords is None:
            from pluq_auth.users import PasswordFile

            self.passwords = PasswordFile(path, self.context.read_file, self.log, self.hashing)
        return self.passwords

    def program(self, arguments: Sequence[str]) -> Program:
        from pluq_auth.program import Program

        host, argv = split_arguments(arguments, shutil.which(arguments[0]) is not None)
        usual = "qmail" if host is None else "cmd5checkpw" if argv[0].endswith("cmd5checkpw") else "jms"
        form = self.settings.protocol or usual
        return Program(argv, form, self.settings.timeout_program, self.context.home.path, host)

    def offer(self, session: Session) -> Offer:
        """Return what this client may log in with, whether it is encrypted or not."""
        settings, back_end = self.settings_for(session), self.back_end(session)
        required = settings.required or "REQUIREAUTH" in session.environment
        if settings.smtpauth is not None:
            asked = parse_smtpauth(settings.smtpauth)
            able = asked.mechanisms if back_end is None else back_end.mechanisms
            return Offer(tuple(one for one in asked.mechanisms if one in able), asked.required or required)
        if back_end is None:
            return Offer((), required)
        if settings.mechanisms:
            able = back_end.mechanisms + self.bound(session, back_end)
            return Offer(tuple(one.upper() for one in settings.mechanisms if one.upper() in able), required)
        if session.arguments and not required and not settings.cdb:
            return Offer(self.of_arguments(session))
        return Offer(back_end.mechanisms, required)

    def bound(self, session: Session, back_end: BackEnd) -> tuple[str, ...]:
        """Return the mechanisms that are tied to this TLS connection, where there is something to tie them to."""
        on_request: tuple[str, ...] = getattr(back_end, "on_request", ())
        if not on_request or session.tls is None or not session.tls.certificate:
            return ()
        from pluq_auth.binding import binding_of

        return on_request if binding_of(session.tls) is not None else ()

    def of_arguments(self, session: Session) -> tuple[str, ...]:
        """Return what program arguments offer where nothing else asks for it: a host name in front says that they mean to.

        The patches that want a host name know no SMTPAUTH. CRAM-MD5 needs a program that has the passwords themselves.
        """
        program = self.program(session.arguments)
        if program.host is None:
            return ()
        return PASSWORD + CRAM if program.form == "cmd5checkpw" or "ALLOW_CRAM" in session.environment else PASSWORD

    def is_open(self, session: Session) -> bool:
        """Return whether passwords may be sent now."""
        insecure = "ALLOW_INSECURE_AUTH" in session.environment
        return session.tls is not None or insecure or self.settings_for(session).without_tls

    @hook
    def smtp_capabilities(self, session: Session) -> Sequence[bytes]:
        names = " ".join(self.offer(session).mechanisms).encode("ascii") if self.is_open(session) else b""
        if not names:
            return []
        return [b"AUTH " + names, b"AUTH=" + names] if self.settings_for(session).old_clients else [b"AUTH " + names]

    # -- AUTH

    @hook
    def smtp_verbs(self) -> Mapping[bytes, Callable[..., Awaitable[Any]]]:
        return {b"AUTH": self.auth}

    async def auth(self, session: Session, argument: bytes, connection: Any) -> bytes | Verdict | None:
        """Carry out AUTH."""
        back_end, offer = self.back_end(session), self.offer(session)
        name, _, rest = argument.partition(b" ")
        mechanism = name.upper().decode("ascii", "replace")
        refusal = self.refusal(session, connection, offer if back_end is not None else Offer(), mechanism)
        if refusal is not None or back_end is None:
            return refusal
        key = limits.address_key(session.remote_ip)
        settings = self.settings_for(session)
        if not self.failures.begin(key, settings.failures, settings.failures_window):
            self.log(f"too many failed logins from {session.remote_ip}")
            return TOO_MANY
        session.environment["SMTPAUTHMETHOD"] = mechanism.lower()
        dialogue = Dialogue(connection, rest.strip(b" ") or None)
        is_failure = False
        try:
            proof = await back_end.authenticate(mechanism, dialogue, session, offer.mechanisms)
        except Refused as error:
            is_failure = True
            user = printable(error.user)
            self.log(f"auth-failed type={mechanism.lower()} ip={session.remote_ip} user=<{user}> {error.why}".rstrip())
            await asyncio.sleep(settings.delay)
            return FAILED
        except (Ended, ProtocolError) as error:
            return self.ended(session, error)
        finally:
            if not is_failure:
                self.failures.take_back(key)
        return await self.accept(session, connection, proof, mechanism)

    def refusal(self, session: Session, connection: Any, offer: Offer, mechanism: str) -> bytes | None:
        """Return the reply where AUTH cannot be carried out now."""
        if not offer.mechanisms:
            return NOT_AVAILABLE
        if session.login is not None:
            return AGAIN
        if connection.transaction is not None:
            return IN_TRANSACTION
        if not self.is_open(session):
            return TLS_FIRST
        return INVALID if mechanism not in offer.mechanisms else None

    def ended(self, session: Session, error: Exception) -> bytes:
        """Return the reply to an exchange that came to no answer."""
        if isinstance(error, Cancelled):
            return CANCELED
        if isinstance(error, Unavailable):
            self.log(f"{session.remote_ip}: {error.text}")
            return b"454 %b (#4.3.0)\r\n" % error.text.encode()
        assert isinstance(error, Malformed | ProtocolError)
        return MALFORMED

    async def accept(self, session: Session, connection: Any, proof: Proof, mechanism: str) -> bytes | None:
        """Make the login count, unless another plugin objects."""
        user = proof.user.decode("utf-8", "surrogateescape")
        environment = session.environment
        environment["SMTPAUTHUSER"] = user
        if not await connection.log_in(Login(proof.user, mechanism)):
            del environment["SMTPAUTHUSER"]
            return None
        environment["SMTP_AUTH_USER"] = environment["TCPREMOTEINFO"] = session.remote_info = user
        environment.update(proof.variables)
        set_after_login(environment)
        if proof.may_relay and self.settings.relay:
            environment["RELAYCLIENT"] = ""
        session.results.append(AuthResult("auth", "pass", properties=(("smtp", "auth", printable(proof.user)),)))
        self.log(f"auth-success type={mechanism.lower()} ip={session.remote_ip} user=<{printable(proof.user)}>")
        return OK

    @hook
    async def smtp_login_as(self, session: Session, connection: Any, user: bytes) -> bool:
        """Go on as after a login that was proved: what an administrator who explains wants to see, and nobody else can ask for."""
        offer = self.offer(session)
        mechanism = (*offer.mechanisms, "")[0]
        reply: bytes | Verdict | None = self.refusal(session, connection, offer, mechanism)
        if reply is None:
            reply = await self.accept(session, connection, Proof(user), mechanism)
        if isinstance(reply, bytes):
            connection.reply(reply)
        return session.login is not None

    # -- MAIL

    @hook
    def smtp_command(self, session: Session, verb: bytes) -> Verdict | None:
        """Before the syntax is looked at, as in the patch."""
        if verb == b"MAIL" and session.login is None and self.offer(session).required:
            return REQUIRED
        return None

    @hook
    def smtp_mail(self, session: Session, transaction: Transaction) -> Verdict | None:
        settings = self.settings_for(session)
        login = session.login
        if login is not None and settings.force_sender and not self.send_as.allows(login.user, transaction.sender):
            return NOT_YOURS
        submitter = transaction.parameters.get(b"AUTH")
        # What one message said, another may say anew; what the login, or tcpserver, says stays.
        if submitter is not None and login is None and session.remote_info == session.notes.get(self.name):
            session.notes[self.name] = note_submitter(session, submitter)
        is_user = login is not None or "SMTPAUTHUSER" in session.environment
        session.hides_client = settings.hide_client and (session.may_relay or is_user)
        return None

    # -- other hosts

    @hook
    def remote_route(self, delivery: Delivery) -> Any:
        from pluq_auth.routes import SUBMISSIONS_PORT, find_route

        route = find_route(self.context.home.controls, delivery.sender, delivery.host)
        if route is None or route.port != SUBMISSIONS_PORT:
            return route
        from dataclasses import replace

        return replace(route, tls=self.tls_context())

    def tls_context(self) -> Any:
        """Return the context for relays on port 465."""
        if self.relay_tls is None:
            import ssl

            context = ssl.create_default_context()
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if not self.settings.verify_relay:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            self.relay_tls = context
        return self.relay_tls

    @hook
    async def remote_session(self, delivery: Delivery, connection: Any) -> Verdict | None:
        login = connection.route.login
        if login is None:
            return None
        from pluq.remote.connection import PeerLost
        from pluq_auth.client import log_in

        if self.settings.password_needs_tls and connection.tls is None and connection.route.tls is None:
            text = b"Connected to %b but I log in only with TLS. (#4.7.0)" % connection.partner
            return Disconnect(Defer(451, None, text))
        try:
            return await log_in(connection, *login)
        except PeerLost:
            return None  # the connection is closed, and the core knows what that means

    @hook
    def remote_params(self, delivery: Delivery, connection: Any) -> Sequence[bytes]:
        login = connection.route.login
        if login is None or b"AUTH" not in connection.capabilities:
            return []
        from pluq_auth.client import xtext

        return [b"AUTH=" + xtext(login[0])]

    @classmethod
    def cli_commands(cls) -> Mapping[str, Callable[[Sequence[str]], int]]:
        from pluq_auth.passwd import passwd

        return {"passwd": passwd}


def printable(user: bytes) -> str:
    """Return a user's name for logs and headers."""
    return clean_text(user).decode("utf-8", "replace")


def note_submitter(session: Session, parameter: bytes) -> str:
    """Take who a client says has submitted the message to it, where nothing better is known of the client. It proves nothing."""
    from pluq_auth.client import parse_xtext

    said = UNKNOWN_SUBMITTER if parameter.startswith(b"<>") else parse_xtext(parameter)
    session.remote_info = clean_text(said).decode("utf-8", "surrogateescape")
    session.environment["TCPREMOTEINFO"] = session.remote_info
    return session.remote_info
