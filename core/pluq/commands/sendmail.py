"""sendmail [ -t ] [ -fsender ] [ -Fname ] [ -bp ] [ -bs ] [ arg ... ]

Takes messages from programs made for Sendmail, and hands them to qmail-inject: to the arguments, or with -t to these and the
recipients of the header. -f sets the sender (envelope and From field), -F the name. -bp, or the name mailq, lists the queue; -bs
speaks SMTP on standard input and output. Other options of Sendmail's are taken and do nothing.

Source: sendmail.c of qmail.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from pluq.commands.options import Options, program_name
from pluq.commands.programs import run_program
from pluq.commands.terminal import die, help_asked
from pluq.config import Home

FATAL = "sendmail: fatal: "
USAGE = "sendmail: usage: sendmail [ -t ] [ -fsender ] [ -Fname ] [ -bp ] [ -bs ] [ arg ... ]"

OPTIONS = "vimte:f:p:o:B:F:EJxb:"
TAKE_WORD = "EJ"
"""Options of Sony NEWS-OS, with an optional value in the same word."""

AUTHOR = ("QMAILNAME", "MAILNAME", "NAME", "QMAILHOST", "MAILHOST")
"""What -f overrides: the address that it gives is all that is known of the author."""

SMTP_ENVIRONMENT = {
    "RELAYCLIENT": "",
    "DATABYTES": "0",
    "PROTO": "TCP",
    "TCPLOCALIP": "127.0.0.1",
    "TCPLOCALHOST": "localhost",
    "TCPREMOTEIP": "127.0.0.1",
    "TCPREMOTEHOST": "localhost",
    "TCPREMOTEINFO": "sendmail-bs",
}


def main() -> int:
    if help_asked(__doc__):
        return 0
    home = Home.from_environment()
    try:
        os.chdir(home.path)
    except OSError:
        die(111, FATAL, "unable to switch to qmail home directory")
    return inject(home, *read_options(home))


def read_options(home: Home) -> tuple[bool, str | None, list[str]]:
    """Return whether the header's recipients count, the sender, and the arguments; other modes end here."""
    from_header, sender = False, None
    options = Options(sys.argv, OPTIONS)
    for letter, value in options:
        if letter == "t":
            from_header = True
        elif letter == "f":
            sender = value
        elif letter == "F":
            os.environ["MAILNAME"] = value
        elif letter in TAKE_WORD:
            options.skip_word()
        elif letter == "b":
            other_mode(home, value)
        elif letter == "?":
            die(100, USAGE)
    called_as = program_name(sys.argv)
    if called_as == "mailq":
        become(home, "qmail-qread")
    if called_as == "newaliases":
        die(100, FATAL, "please use fastforward/newaliases instead")
    return from_header, sender, options.rest


def other_mode(home: Home, value: str) -> None:
    """Do what -b asks for; come back for -bm, which is what is done anyway."""
    mode = value[:1]
    if mode == "p":
        become(home, "qmail-qread")
    if mode == "s":
        speak_smtp(home)
    if mode != "m":
        die(100, USAGE)


def speak_smtp(home: Home) -> NoReturn:
    if "PROTO" not in os.environ:
        os.environ.update(SMTP_ENVIRONMENT)
    become(home, "qmail-smtpd")


def inject(home: Home, from_header: bool, sender: str | None, arguments: list[str]) -> NoReturn:
    words = ["-H" if from_header else "-a"]
    if sender is not None:
        words += ["-f", sender]
        set_author(sender)
    become(home, "qmail-inject", [*words, "--", *arguments])


def set_author(sender: str) -> None:
    """Make the sender the author, for the From field."""
    for variable in AUTHOR:
        os.environ.pop(variable, None)
    user, at, host = sender.rpartition("@")
    os.environ["QMAILUSER"] = user if at else sender
    if at:
        os.environ["QMAILHOST"] = host


def become(home: Home, program: str, arguments: list[str] | None = None) -> NoReturn:
    run_program(home, program, arguments or [], FATAL, "unable to run ", program)
