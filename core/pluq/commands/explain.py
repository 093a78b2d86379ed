"""pluq explain: what would happen to mail, and why; nothing is accepted.

    pluq explain ADDRESS [--from SENDER] [--profile NAME] [--ip ADDR] [--rules FILE] [--helo NAME] [--user LOGIN]
        [--no-dns] [--json]
    pluq explain --session FILE [--profile NAME] [--ip ADDR] [--rules FILE] [--no-dns] [--json]

The first form follows mail for ADDRESS from the connection to its mailbox or to the next host. Each step ends with what decided it: a control
file with its line, or a plugin with its hook. Without --from the sender is <>, without --ip the client is a stranger; --profile is the first one
that takes SMTP. --user goes on as if that user had logged in. DNS is asked as a delivery would ask it, unless --no-dns.

The second form says the lines of FILE to the profile's session with all its plugins, and shows each reply, what made it, what a plugin makes
of the message, and how long each plugin took. FILE has `C:` and `S:` lines, or just what a client sends. A reply that differs from a recorded
`S:` is marked.

Exit 0: would be taken and delivered (all replies as recorded); 1: refused (a reply differs); 75: put off; 100: wrong usage; 111: trouble.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from pluq.explain.stages import Question

USAGE, TROUBLE = 100, 111


def main() -> int:
    from pluq.errors import PluqError, in_words

    parser = make_parser()
    options = parser.parse_args()
    if (options.address is None) == (options.session is None):
        parser.error("either an address or --session FILE")
    if any(character in f"{options.address}{options.sender}" for character in "\r\n"):
        parser.error("an address has no line break")
    if options.home:
        os.environ["PLUQ_HOME"] = os.path.abspath(options.home)
    try:
        return explain_session(options) if options.session else explain_address(options)
    except (PluqError, OSError) as error:
        sys.stderr.write(f"pluq explain: {in_words(error)}\n")
        return TROUBLE


def make_parser() -> ArgumentParser:
    import argparse

    from pluq.commands.help_text import HelpText

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpText)
    parser.error = usage  # type: ignore[method-assign]  # 2 is what argparse exits with, qmail's programs with 100
    parser.add_argument("address", nargs="?", metavar="ADDRESS", help="whom the mail is for")
    parser.add_argument("--session", metavar="FILE", help="replay this dialogue instead (- is standard input)")
    parser.add_argument("--from", dest="sender", metavar="SENDER", default="", help="who sends it (default: <>)")
    parser.add_argument("--profile", metavar="NAME", help="through which profile it comes")
    parser.add_argument("--ip", metavar="ADDR", help="from which address it comes (default: a stranger's)")
    parser.add_argument("--rules", metavar="FILE", help="the tcprules of a tcpserver, in the place of the profile's")
    parser.add_argument("--helo", metavar="NAME", default="client.invalid", help="what the client calls itself")
    parser.add_argument("--user", metavar="LOGIN", help="as if this user had logged in")
    parser.add_argument("--no-dns", action="store_true", help="do not ask DNS")
    parser.add_argument("--json", action="store_true", help="answer with one JSON object")
    parser.add_argument("--home", metavar="DIR", help="the qmail home (default: PLUQ_HOME, else /var/qmail)")
    return parser


def usage(message: str) -> NoReturn:
    sys.stderr.write(f"pluq explain: {message}\n")
    raise SystemExit(USAGE)


def question_of(options: Namespace, keys: str | None) -> Question:
    from dataclasses import replace
    from ipaddress import ip_address

    from pluq.config import Home
    from pluq.config.site import read_site
    from pluq.errors import ConfigError
    from pluq.explain.door import STRANGER, Client, profile_named
    from pluq.explain.stages import Question

    home = Home.from_environment()
    if not os.path.isdir(home.control_dir):
        raise ConfigError(home.path, "no qmail home here: --home or PLUQ_HOME says where it is")
    site = read_site(home)
    try:
        ip = str(ip_address(options.ip or STRANGER))
    except ValueError:
        usage(f"--ip: {options.ip!r} is no address")
    client = Client(
        os.fsencode(options.sender.strip("<>")),
        ip,
        os.fsencode(options.helo),
        os.fsencode(options.user) if options.user else None,
    )
    profile = profile_named(site, options.profile, options.user is not None)
    if profile is not None and options.rules:
        profile = replace(profile, rules=os.path.abspath(options.rules).removesuffix(".cdb"))
    return Question(home, site, profile, client, not options.no_dns, keys)


def explain_address(options: Namespace) -> int:
    import json

    from pluq.config import Home
    from pluq.explain import show
    from pluq.explain.stages import explain
    from pluq.explain.step import EXIT_CODES, worst
    from pluq.supervisor.keys import answering

    home = Home.from_environment()
    with answering(home, home.ids()) as keys:
        question = question_of(options, keys)
        steps = explain(question, os.fsencode(options.address))
    profile = question.profile.name if question.profile else None
    asked = {
        "address": options.address,
        "from": options.sender,
        "profile": profile,
        "ip": question.client.ip if profile else None,
    }
    if options.json:
        sys.stdout.write(json.dumps(asked | show.as_json({}, steps)) + "\n")
    else:
        way = f"from {question.client.ip} through profile {profile}" if profile else "sent by a program of this host"
        title = f"mail for {options.address}, sender <{options.sender.strip('<>')}>, {way}"
        sys.stdout.write("".join(f"{line}\n" for line in show.lines(title, steps)))
    return EXIT_CODES[worst(steps)]


def explain_session(options: Namespace) -> int:
    from functools import partial

    from pluq.config import Home
    from pluq.explain.children import identity_of, run_as
    from pluq.explain.dialogue import parse_script, rehearse
    from pluq.supervisor.keys import answering

    with open(0 if options.session == "-" else options.session, "rb") as file:
        script = parse_script(file.read())
    home = Home.from_environment()
    with answering(home, home.ids()) as keys:
        question = question_of(options, keys)
        if question.profile is None:
            usage("no profile takes mail by SMTP")
        look = partial(rehearse, question.door(), question.client.ip, script, options.json)
        found = run_as(identity_of(question.home, "qmaild", "nofiles"), look)
    sys.stdout.write(found.facts.get("text", ""))
    for step in found.steps:
        sys.stderr.write(f"pluq explain: {step.what}\n")
    return TROUBLE if any(step.is_end for step in found.steps) else 1 if found.facts.get("differs") else 0
