"""pluq demo: a whole mail system to try, as the current user, on a loopback port.

Makes a qmail home in a folder with one mailbox (you@pluq.test), starts the stack, sends a message over SMTP, shows it in the
Maildir, tells how to send the next, and runs until interrupted. Nothing outside the folder is touched, and mail for other
people of this machine stays in it as well.
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
USUAL_PORT = 2525
START_SECONDS = 20.0
DELIVERY_SECONDS = 20.0
STOP_SECONDS = 20.0
LOG_LINES = 20

HOW_TO = """
The mail system runs until you press Ctrl-C. To send the next message:

  swaks --server 127.0.0.1:{port} --from me@example.org --to {address}

  python3 -c 'import smtplib; smtplib.SMTP("127.0.0.1", {port}).sendmail("me@example.org", "{address}", "Subject: hello\\n\\nhi\\n")'

  echo 'Subject: hello' | PLUQ_HOME={home} {home}/bin/sendmail {address}

Mailbox:  {maildir}
Settings: {home}/control
Log:      {log}
"""


class DemoError(Exception):
    """What went wrong, in one sentence for the person who tries."""


@dataclass(frozen=True)
class Demo:
    """One home made for trying, and the port that it listens on."""

    home: Home
    port: int

    @property
    def mailbox(self) -> str:
        return f"{self.home.path}/mailboxes/you"

    @property
    def maildir(self) -> str:
        return f"{self.mailbox}/Maildir"

    @property
    def log(self) -> str:
        return f"{self.home.path}/log"


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

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", metavar="DIR", default="home", help="the folder to use (default: ./home)")
    parser.add_argument("--once", action="store_true", help="stop after the first delivery")
    parser.add_argument(
        "--port", metavar="N", type=int, help=f"port on 127.0.0.1 (default: {USUAL_PORT}, or a free one)"
    )
    return parser.parse_args()


def run(options: Namespace) -> int:
    from pluq.config import Home

    demo = Demo(Home(os.path.abspath(options.home)), choose_port(options.port))
    make(demo)
    with running(demo) as stack:
        say(f"serving {demo.home.path} on 127.0.0.1:{demo.port}")
        token = send_message(demo)
        show(wait_delivered(demo, token, stack))
        if options.once:
            return 0
        say(HOW_TO.format(port=demo.port, address=ADDRESS, home=demo.home.path, maildir=demo.maildir, log=demo.log))
        stack.wait()
        raise DemoError(f"the stack ended by itself\n{last_lines(demo.log)}")


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def choose_port(wanted: int | None) -> int:
    """Return the wanted port, else the usual one, else any that is free."""
    for port in [wanted] if wanted is not None else [USUAL_PORT, 0]:
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
    except OSError as error:
        raise DemoError(f"{error.filename}: {os.strerror(error.errno or 0)}") from error


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


@contextlib.contextmanager
def running(demo: Demo) -> Iterator[subprocess.Popen[bytes]]:
    """Run the stack, its lines going to the log; stop it at the end."""
    command = [sys.executable, "-c", "import sys; from pluq.commands.pluq import main; sys.exit(main())", "serve"]
    command += ["--home", demo.home.path, "--listen", f"127.0.0.1:{demo.port}"]
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
    """Wait until the port greets as an SMTP server."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and stack.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", demo.port), 2) as sock:
            if sock.recv(512).startswith(b"220 "):
                sock.sendall(b"QUIT\r\n")
                return
        time.sleep(0.05)
    raise DemoError(f"the stack did not start\n{last_lines(demo.log)}")


def send_message(demo: Demo) -> str:
    """Send one message over SMTP and return the token that it bears."""
    import smtplib

    token = f"{os.getpid()}.{time.time_ns()}"
    text = f"From: pluq <pluq@{DOMAIN}>\nTo: {ADDRESS}\nSubject: it works\nX-Token: {token}\n\nThis came over SMTP.\n"
    try:
        with smtplib.SMTP("127.0.0.1", demo.port, timeout=DELIVERY_SECONDS) as client:
            client.sendmail(f"pluq@{DOMAIN}", [ADDRESS], text)
    except (OSError, smtplib.SMTPException) as error:
        raise DemoError(f"the message was not accepted: {error}\n{last_lines(demo.log)}") from error
    return token


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
