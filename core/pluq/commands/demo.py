"""pluq demo: a whole mail system to try, as the current user, on loopback ports.

Makes a qmail home in a folder with one mailbox (you@pluq.test) and three profiles: mail from others, submission with TLS and a
login, the same with TLS from the start. Starts the stack, sends a message to the first and one to the second, shows them in the
Maildir, tells how to send the next, and runs until interrupted. Nothing outside the folder is touched, and mail for other
people of this machine stays in it as well. The folder is a new or empty one, or that of an earlier demo.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import Namespace

    from pluq.config import Home

DOMAIN = "pluq.test"
ADDRESS = f"you@{DOMAIN}"
USUAL_PORTS = (2525, 2587, 2465)
LOGIN_FILE = "demo-password"
PLUQ = (sys.executable, "-c", "import sys; from pluq.commands.pluq import main; sys.exit(main())")
START_SECONDS = 20.0
DELIVERY_SECONDS = 20.0
STOP_SECONDS = 20.0
LOG_LINES = 20

PROFILES = """\
# Three profiles in one daemon; see docs/settings.md for everything that can be set.

[profile.mx]
listen = ["127.0.0.1:{mx}"]
plugins = ["size", "tls"]

[profile.submission]
listen = ["127.0.0.1:{submission}"]
plugins = ["size", "tls", "auth"]
tls.required = true
auth.required = true

[profile.submissions]
extends = "submission"
listen = ["127.0.0.1:{submissions}"]
tls.implicit = true
"""

HOW_TO = """
The mail system runs until you press Ctrl-C. To send the next message:

  swaks --server 127.0.0.1:{mx} --from me@example.org --to {address}

  swaks --server 127.0.0.1:{submission} --tls --auth-user you --auth-password {password} --from {address} --to {address}

  swaks --server 127.0.0.1:{submissions} --tlsc --auth-user you --auth-password {password} --from {address} --to {address}

  python3 -c 'import smtplib; smtplib.SMTP("127.0.0.1", {mx}).sendmail("me@example.org", "{address}", "Subject: hello\\n\\nhi\\n")'

  echo 'Subject: hello' | PLUQ_HOME={home} {home}/bin/sendmail {address}

Mailbox:  {maildir}
Settings: {home}/control, profiles in {home}/control/pluq.toml
Log:      {log}
"""


class DemoError(Exception):
    """What went wrong, in one sentence for the person who tries."""


@dataclass(frozen=True)
class Demo:
    """One home made for trying, and the ports that it listens on: from others, submission, the same with TLS at once."""

    home: Home
    mx: int
    submission: int
    submissions: int

    @property
    def mailbox(self) -> str:
        return f"{self.home.path}/mailboxes/you"

    @property
    def maildir(self) -> str:
        return f"{self.mailbox}/Maildir"

    @property
    def log(self) -> str:
        return f"{self.home.path}/log"

    @property
    def password(self) -> str:
        """The password of the user `you`, made at the first start."""
        with open(f"{self.home.path}/{LOGIN_FILE}") as file:
            return file.read().strip()


def main() -> int:
    options = parse_arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the stack must not outlive us
    try:
        return run(options)
    except DemoError as error:
        sys.stderr.write(f"pluq demo: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 0


def parse_arguments() -> Namespace:
    import argparse

    from pluq.commands.help_text import HelpText

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpText)
    parser.add_argument("--home", metavar="DIR", default="home", help="the folder to use (default: ./home)")
    parser.add_argument("--once", action="store_true", help="stop after the first delivery")
    parser.add_argument(
        "--port", metavar="N", type=port_number, help=f"port on 127.0.0.1 (default: {USUAL_PORTS[0]}, or a free one)"
    )
    return parser.parse_args()


def port_number(text: str) -> int:
    from argparse import ArgumentTypeError

    if not (text.isdecimal() and 0 < int(text) <= 65535):
        raise ArgumentTypeError(f"{text!r} is no port: a number from 1 to 65535")
    return int(text)


def run(options: Namespace) -> int:
    from pluq.config import Home

    home = Home(os.path.abspath(options.home))
    claim(home)
    demo = Demo(home, *choose_ports(options.port))
    make(demo)
    with running(demo) as stack:
        say(f"serving {demo.home.path} on 127.0.0.1: ports {demo.mx}, {demo.submission}, {demo.submissions}")
        show(wait_delivered(demo, send_message(demo), stack))
        show(wait_delivered(demo, submit_message(demo), stack))
        if options.once:
            return 0
        say(how_to(demo))
        stack.wait()
        raise DemoError(f"the stack ended by itself\n{last_lines(demo.log)}")


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def how_to(demo: Demo) -> str:
    return HOW_TO.format(
        mx=demo.mx,
        submission=demo.submission,
        submissions=demo.submissions,
        password=demo.password,
        address=ADDRESS,
        home=demo.home.path,
        maildir=demo.maildir,
        log=demo.log,
    )


def claim(home: Home) -> None:
    """Take a folder that is new, empty or a former demo's, and that nobody serves: a site's own is not ours to change."""
    import secrets

    try:
        os.makedirs(home.path, exist_ok=True)
        names = os.listdir(home.path)
        if LOGIN_FILE not in names:
            if names:
                raise DemoError(f"{home.path} is not empty, and no demo made it: name another folder with --home")
            with open(f"{home.path}/{LOGIN_FILE}", "w", opener=private) as file:
                file.write(f"{secrets.token_urlsafe(9)}\n")
    except OSError as error:
        raise in_words(error) from error
    if is_served(home):
        raise DemoError(f"{home.path} is in use: another demo runs there; end it, or name another folder with --home")


def is_served(home: Home) -> bool:
    from pluq.errors import ConfigError
    from pluq.supervisor.sockets import lock_run

    if not os.path.isdir(home.run):
        return False
    try:
        os.close(lock_run(f"{home.run}/lock", 0.0))
    except ConfigError:
        return True
    return False


def in_words(error: OSError) -> DemoError:
    return DemoError(f"{error.filename}: {os.strerror(error.errno or 0)}")


def choose_ports(wanted: int | None) -> list[int]:
    """Return three ports; the first is the wanted one."""
    chosen = [choose_port(wanted, USUAL_PORTS[0])]
    for usual in USUAL_PORTS[1:]:
        port = choose_port(None, usual)
        while port in chosen:
            port = choose_port(None, 0)
        chosen.append(port)
    return chosen


def choose_port(wanted: int | None, usual: int) -> int:
    """Return the wanted port, else the usual one, else any that is free."""
    for port in [wanted] if wanted is not None else [usual, 0]:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("127.0.0.1", port))
            except OSError as error:
                reason = os.strerror(error.errno or 0)
                continue
            return int(sock.getsockname()[1])
    raise DemoError(f"cannot listen on 127.0.0.1:{wanted}: {reason}")


def make(demo: Demo) -> None:
    """Make the home with its one mailbox, or take the one that is there."""
    from pluq.config import current_ids
    from pluq.supervisor import hier

    ids = current_ids()
    site = hier.Site(f"mail.{DOMAIN}", (DOMAIN, f"mail.{DOMAIN}", "localhost"), f"{demo.maildir}/")
    try:
        hier.make_home(demo.home, ids)
        hier.mark_single_user(demo.home, ids)
        hier.make_site(demo.home, ids, site)
        hier.link_programs(demo.home, os.path.dirname(sys.executable))
        for folder in ("tmp", "new", "cur"):
            os.makedirs(f"{demo.maildir}/{folder}", mode=0o700, exist_ok=True)
        assign(demo)
        make_profiles(demo)
    except OSError as error:
        raise in_words(error) from error


def assign(demo: Demo) -> None:
    """Give `you` the mailbox and everybody else to the aliases: the accounts of this machine get no mail from a trial."""
    import pwd

    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = "nobody"
    who = f"{name}:{os.getuid()}:{os.getgid()}"
    path = f"{demo.home.users}/assign"
    if not os.path.exists(path):
        lines = [
            f"=you:{who}:{demo.mailbox}:::",
            f"+you-:{who}:{demo.mailbox}:-::",
            f"+:{who}:{demo.home.alias}:-::",
            ".",
        ]
        with open(path, "w") as file:
            file.write("".join(f"{line}\n" for line in lines))
    subprocess.run([f"{demo.home.bin}/qmail-newu"], env={**os.environ, "PLUQ_HOME": demo.home.path}, check=True)


def make_profiles(demo: Demo) -> None:
    """Write the profiles with the ports of this run; make a certificate and the login of `you` at the first."""
    with open(demo.home.control("pluq.toml"), "w") as file:
        file.write(PROFILES.format(mx=demo.mx, submission=demo.submission, submissions=demo.submissions))
    if not os.path.exists(demo.home.control("servercert.pem")):
        plugin_command(demo, "tls", "self-signed", "--name", f"mail.{DOMAIN}")
    if not os.path.exists(demo.home.control("passwords")):
        plugin_command(demo, "auth", "passwd", "you", text=f"{demo.password}\n")


def private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def plugin_command(demo: Demo, *command: str, text: str = "") -> None:
    """Run `pluq PLUGIN COMMAND ...` on this home, with `text` on its standard input."""
    environment = {**os.environ, "PLUQ_HOME": demo.home.path}
    done = subprocess.run([*PLUQ, *command], input=text, text=True, capture_output=True, env=environment, check=False)
    if done.returncode:
        raise DemoError(f"pluq {' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")


@contextlib.contextmanager
def running(demo: Demo) -> Iterator[subprocess.Popen[bytes]]:
    """Run the stack, its lines going to the log; stop it at the end."""
    command = [*PLUQ, "serve", "--home", demo.home.path]
    with open(demo.log, "ab") as log:
        stack = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_greeting(demo, stack)
        yield stack
    finally:
        stop(stack)


def stop(stack: subprocess.Popen[bytes]) -> None:
    stack.terminate()
    try:
        stack.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        stack.kill()
        stack.wait()


def wait_greeting(demo: Demo, stack: subprocess.Popen[bytes]) -> None:
    """Wait until the first port greets as an SMTP server; all of them are bound then."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and stack.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", demo.mx), 2) as sock:
            if sock.recv(512).startswith(b"220 "):
                sock.sendall(b"QUIT\r\n")
                return
        time.sleep(0.05)
    raise DemoError(f"the stack did not start\n{last_lines(demo.log)}")


def send_message(demo: Demo) -> str:
    """Send one message over SMTP, as another mail server would, and return the token that it bears."""
    import smtplib

    token, text = message("it works", "This came over SMTP.")
    try:
        with smtplib.SMTP("127.0.0.1", demo.mx, timeout=DELIVERY_SECONDS) as client:
            client.sendmail(f"pluq@{DOMAIN}", [ADDRESS], text)
    except (OSError, smtplib.SMTPException) as error:
        raise DemoError(f"the message was not accepted: {error}\n{last_lines(demo.log)}") from error
    return token


def submit_message(demo: Demo) -> str:
    """Submit one message with TLS and a login, as a mail program would, and return the token that it bears."""
    import smtplib
    import ssl

    token, text = message("submission works", "This was submitted with TLS and a login.")
    trust = ssl.create_default_context(cafile=demo.home.control("servercert.pem"))
    trust.check_hostname = False  # the certificate is for mail.pluq.test, and we come to 127.0.0.1
    try:
        with smtplib.SMTP("127.0.0.1", demo.submission, timeout=DELIVERY_SECONDS) as client:
            client.starttls(context=trust)
            client.login("you", demo.password)
            client.sendmail(ADDRESS, [ADDRESS], text)
    except (OSError, smtplib.SMTPException) as error:
        raise DemoError(f"the submission was not accepted: {error}\n{last_lines(demo.log)}") from error
    return token


def message(subject: str, body: str) -> tuple[str, str]:
    """Return a token and a message that bears it."""
    token = f"{os.getpid()}.{time.time_ns()}"
    return token, f"From: pluq <pluq@{DOMAIN}>\nTo: {ADDRESS}\nSubject: {subject}\nX-Token: {token}\n\n{body}\n"


def wait_delivered(demo: Demo, token: str, stack: subprocess.Popen[bytes]) -> str:
    """Return the path of the delivered message that bears the token."""
    folder = f"{demo.maildir}/new"
    deadline = time.monotonic() + DELIVERY_SECONDS
    while time.monotonic() < deadline and stack.poll() is None:
        for name in os.listdir(folder):
            with open(f"{folder}/{name}", "rb") as file:
                if token.encode() in file.read(16384):
                    return f"{folder}/{name}"
        time.sleep(0.02)
    raise DemoError(f"accepted, but not delivered within {DELIVERY_SECONDS:.0f} seconds\n{last_lines(demo.log)}")


def show(path: str) -> None:
    with open(path, "rb") as file:
        text = file.read().decode("utf-8", "replace")
    say(f"\ndelivered: {path}\n" + "".join(f"  | {line}\n" for line in text.splitlines()))


def last_lines(path: str) -> str:
    """Return the end of the log, which tells more than we know here."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        lines = file.read()[-16384:].decode("utf-8", "replace").splitlines()[-LOG_LINES:]
        return f"the end of {path}:\n" + "".join(f"  | {line}\n" for line in lines)
    return f"(no log at {path})"
