"""pluq send-test ADDRESS: send a test message and say what happens to it, until it is delivered, put off or given up.

    pluq send-test ADDRESS [--from ADDRESS] [--profile NAME | --server HOST:PORT] [--login NAME] [--timeout SECONDS] [--log LOG]

It goes straight into the queue, or, with --profile, by SMTP to where that profile listens, as a mail program would: STARTTLS if the server
offers it (whatever its certificate says), a login if --login names one; the password is asked for, or taken from PLUQ_TEST_PASSWORD.
What happens then is read from the scheduler of `pluq serve` (as root, or as the user of a stack of one user), else from
the log: --log, a file or a folder of multilog or svlogd. Addresses that the message is forwarded to here are followed as well.

Exit codes: 0 delivered; 100 refused, or failed for good; 111 put off, or not known within the time; 2 usage.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import argparse
    import smtplib

    from pluq.config import Home

REFUSED = 100
TEMPORARY = 111
DEFAULT_SECONDS = 60.0
SMTP_SECONDS = 30.0
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}


class Server(NamedTuple):
    """Where to send by SMTP."""

    host: str
    port: int
    tls: bool


class Refused(Exception):
    """The message was not taken: the exit code and why."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


def main() -> int:
    options = arguments()
    from pluq.commands.queue_options import home_of
    from pluq.commands.send_follow import Lost
    from pluq.errors import PluqError

    home = home_of(options)
    try:
        return send_and_follow(home, options)
    except Refused as refused:
        say(str(refused))
        return refused.code
    except (OSError, PluqError, Lost) as error:
        sys.stderr.write(f"pluq send-test: {error}\n")
    return TEMPORARY


def arguments() -> argparse.Namespace:
    import argparse

    from pluq.commands.help_text import HelpText
    from pluq.commands.queue_options import add_home

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpText)
    parser.add_argument("address", metavar="ADDRESS", help="who shall get it")
    parser.add_argument(
        "--from", dest="sender", metavar="ADDRESS", help="the sender (default: postmaster at control/me)"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--profile", metavar="NAME", help="send by SMTP to this profile of control/pluq.toml")
    where.add_argument("--server", metavar="HOST:PORT", help="send by SMTP to this server")
    parser.add_argument("--login", metavar="NAME", help="log in first")
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=float, default=DEFAULT_SECONDS, help="how long to follow it (60)"
    )
    parser.add_argument("--log", metavar="LOG", help="read what happens from this file or folder")
    add_home(parser)
    options = parser.parse_args()
    if options.login and not (options.profile or options.server):
        parser.error("--login makes sense with --profile or --server")
    return options


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def send_and_follow(home: Home, options: argparse.Namespace) -> int:
    """Do it; return the exit code. Raises Refused, OSError, PluqError."""
    import time

    from pluq.commands.send_follow import Lost, follow, heard
    from pluq.commands.send_story import Ending, Story

    server = server_of(home, options)
    follower = follow(home, options.log)
    qp = send_by_queue(home, options) if server is None else send_by_smtp(home, options, server)
    if not qp:
        say("The server's answer names no queue number, so the message cannot be followed here.")
        return TEMPORARY
    if follower is None:
        say(
            f"Nobody can be asked what becomes of it: no `pluq serve` that we may follow, no log. Look for qp {qp} in the log."
        )
        return TEMPORARY
    story = Story(qp)
    try:
        for event in heard(follower, time.monotonic() + options.timeout):
            for sentence in story.feed(event):
                say(sentence)
            if story.is_over:
                break
    except Lost as error:
        say(f"{error}.")
    codes = {Ending.DELIVERED: 0, Ending.DEFERRED: TEMPORARY, Ending.FAILED: REFUSED}
    if story.is_over and story.ending is not None:
        return codes[story.ending]
    if story.numbers:
        say(
            f"It is still in the queue; `pluq queue show {story.numbers[-1] if story.numbers else story.number}` shows it. Not over within {options.timeout:g} s."
        )
    else:
        say(
            f"The scheduler has not taken it up within {options.timeout:g} s. Does it run? Look for qp {qp} in the log."
        )
    return TEMPORARY


def server_of(home: Home, options: argparse.Namespace) -> Server | None:
    """Return where to send by SMTP, None for the queue. Raises ConfigError."""
    from pluq.config.site import read_site
    from pluq.errors import ConfigError

    if options.server:
        host, _, port = options.server.rpartition(":")
        if not port.isdigit():
            raise ConfigError("--server", f"{options.server!r} is not HOST:PORT")
        return Server(host.strip("[]"), int(port), port == "465")
    if not options.profile:
        return None
    profile = read_site(home).profile(options.profile)
    if profile.protocol != "smtp" or not profile.listen:
        what = f"speaks {profile.protocol}" if profile.protocol != "smtp" else "listens nowhere; use --server"
        raise ConfigError(home.control("pluq.toml"), f"profile {options.profile!r} {what}")
    from pluq.supervisor.sockets import parse_address

    address = parse_address(profile.listen[0])
    implicit = any(table.values.get("implicit") is True for table in profile.plugin_tables("tls"))
    return Server(ANY_ADDRESS.get(address.host, address.host), address.port, implicit)


def sender_of(home: Home, options: argparse.Namespace) -> str:
    if options.sender is not None:
        return str(options.sender)
    me = home.controls.me() or b"localhost"
    return "postmaster@" + me.decode("ascii", "replace")


def message_of(sender: str, address: str) -> bytes:
    """Return the test message, with LF line ends."""
    import secrets
    import time

    from pluq.mail.date import date822

    host = sender.rpartition("@")[2] or "localhost"
    fields = [
        f"From: <{sender}>",
        f"To: <{address}>",
        f"Subject: pluq send-test {time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())}",
        f"Date: {date822(int(time.time())).decode().strip()}",
        f"Message-ID: <{secrets.token_hex(12)}@{host}>",
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=us-ascii",
    ]
    body = "This message was sent by pluq send-test, to see whether mail arrives.\n"
    return ("\n".join(fields) + f"\n\n{body}").encode("utf-8", "surrogateescape")


def send_by_queue(home: Home, options: argparse.Namespace) -> int:
    """Queue the message; return its queue number. Raises Refused."""
    from pluq.queue.submit import QueueRefusal, submit_sync

    sender = sender_of(home, options)
    recipient = os.fsencode(options.address)
    try:
        receipt = submit_sync(home, message_of(sender, options.address), os.fsencode(sender), [recipient])
    except QueueRefusal as refusal:
        permanent = refusal.verdict.startswith("D")
        hint = (
            ""
            if permanent or os.path.exists(f"{home.run}/qmqp")
            else "\nIs `pluq serve` running? There is no socket run/qmqp."
        )
        raise Refused(
            REFUSED if permanent else TEMPORARY, f"The queue does not take it: {refusal.verdict[1:]}{hint}"
        ) from None
    say(f"Queued as qp {receipt.qp}, from <{sender}> to <{options.address}>.")
    return receipt.qp


def send_by_smtp(home: Home, options: argparse.Namespace, server: Server) -> int:
    """Send the message as a mail program would; return its queue number, 0 if the server names none. Raises Refused."""
    import smtplib
    import ssl

    sender = sender_of(home, options)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    name = (home.controls.me() or b"localhost").decode("ascii", "replace")
    where = f"{server.host} port {server.port}"
    try:
        if server.tls:
            client: smtplib.SMTP = smtplib.SMTP_SSL(
                server.host, server.port, local_hostname=name, timeout=SMTP_SECONDS, context=context
            )
        else:
            client = smtplib.SMTP(server.host, server.port, local_hostname=name, timeout=SMTP_SECONDS)
    except smtplib.SMTPConnectError as error:
        raise answer_of(f"{where} does not want us", error.smtp_code, error.smtp_error) from None
    except (OSError, smtplib.SMTPException) as error:
        raise Refused(TEMPORARY, f"No SMTP server answers at {where}: {error}") from None
    try:
        with client:
            converse(client, options, context, "TLS from the start" if server.tls else "", where)
            return transact(client, options.address, sender, message_of(sender, options.address))
    except (OSError, smtplib.SMTPServerDisconnected) as error:
        raise Refused(TEMPORARY, f"{where} hung up: {error}") from None


def converse(client: smtplib.SMTP, options: argparse.Namespace, context: object, tls: str, where: str) -> None:
    """Greet, start TLS, log in. Raises Refused."""
    import smtplib
    import ssl

    assert isinstance(context, ssl.SSLContext)
    code, text = client.ehlo()
    if code >= 400:
        raise answer_of("The server refuses our greeting", code, text)
    if not tls and client.has_extn("starttls"):
        try:
            client.starttls(context=context)
            tls = "STARTTLS"
        except (ssl.SSLError, smtplib.SMTPException) as error:
            raise Refused(TEMPORARY, f"STARTTLS fails: {error}") from None
        client.ehlo()
    cipher = client.sock.version() if isinstance(client.sock, ssl.SSLSocket) else ""
    say(f"Connected to {where}, {f'{tls}, {cipher}' if tls else 'without TLS'}.")
    if options.login:
        try:
            client.login(options.login, password())
        except smtplib.SMTPAuthenticationError as error:
            raise answer_of(
                f"The server refuses the login {options.login}", error.smtp_code, error.smtp_error
            ) from None
        except smtplib.SMTPException as error:
            raise Refused(REFUSED, f"No login is possible: {error}") from None
        say(f"Logged in as {options.login}.")


def password() -> str:
    found = os.environ.get("PLUQ_TEST_PASSWORD")
    if found is not None:
        return found
    import getpass

    return getpass.getpass()


def transact(client: smtplib.SMTP, address: str, sender: str, message: bytes) -> int:
    """Send the message; return its queue number, 0 without one. Raises Refused."""
    import smtplib

    code, text = client.mail(sender)
    if code >= 400:
        raise answer_of("The server refuses the sender", code, text)
    code, text = client.rcpt(address)
    if code >= 400:
        raise answer_of("The server refuses the recipient", code, text)
    try:
        code, text = client.data(message.replace(b"\n", b"\r\n"))
    except smtplib.SMTPDataError as error:
        code, text = error.smtp_code, as_bytes(error.smtp_error)
    if code >= 400:
        raise answer_of("The server refuses the message", code, text)
    answer = text.decode("ascii", "replace")
    say(f"Accepted, from <{sender}> to <{address}>: {answer}")
    number = answer.rpartition(" qp ")[2].split()[:1]
    return int(number[0]) if " qp " in answer and number and number[0].isdigit() else 0


def answer_of(what: str, code: int, text: bytes | str) -> Refused:
    """Return the refusal with the server's answer."""
    shown = as_bytes(text).decode("ascii", "replace")
    return Refused(REFUSED if code >= 500 else TEMPORARY, f"{what}: {code} {' / '.join(shown.splitlines())}")


def as_bytes(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode("ascii", "replace")
