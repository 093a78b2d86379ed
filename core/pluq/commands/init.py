"""pluq init: make a qmail home, or complete one. What exists is left as it is.

    pluq init [--me NAME] [--domain NAME]... [--profile mx|submission|null|mini]... [--admin ADDRESS] [--smarthost HOST] [--server ADDRESS]...

Without a profile the home is stock qmail: port 25, no plugins. Several profiles may be given, but for mini, which stands alone:

{profiles}

As root with the qmail users present the owners are qmail's; --users makes the users with the system's tools. Otherwise, with
--single-user, or where control/singleuser is there already, everything is the caller's own and the stack will run as the caller.
Mail for postmaster, mailer-daemon and root goes to --admin, else to a Maildir in HOME/alias.

In the home of a site that runs already (control/me is there, neither --me nor --domain is given) only folders, queue and programs are
completed: a control file that such a site leaves out means its default.

Exit 0: the home is complete and passes `pluq check`; 1: it does not; 100: wrong usage, or something is there that is not ours to change;
111: trouble.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator, Sequence

    from pluq.config import Home, Ids

FAULTY, USAGE, TROUBLE = 1, 100, 111
DEFAULT_HOME = "/var/qmail"
SHOWN = ("control", "users", "alias")


class Refused(Exception):
    """Why nothing is made, in a sentence for the administrator."""


def main() -> int:
    import subprocess

    from pluq.config import Home

    options = make_parser().parse_args()
    home = Home(os.path.abspath(options.home)) if options.home else Home.from_environment()
    try:
        know_the_site(home, options)
        refuse_contradictions(options, home)
        before = listing(home)
        if options.users:
            make_users(home)
        make(home, options)
        tell_what_is_new(home, before)
    except Refused as refusal:
        sys.stderr.write(f"pluq init: {refusal}\n")
        return USAGE
    except OSError as error:
        sys.stderr.write(f"pluq init: {error.filename}: {os.strerror(error.errno or 0)}\n")
        return TROUBLE
    except subprocess.CalledProcessError as error:
        sys.stderr.write(f"pluq init: {' '.join(error.cmd)}: exit code {error.returncode}\n")
        return TROUBLE
    return conclude(home, options)


def know_the_site(home: Home, options: Namespace) -> None:
    """Find out who we are. `describes_site`: the control files are ours to write; those of a site that is there say all by being absent too."""
    import socket

    known = home.controls.me()
    options.describes_site = known is None or options.me is not None or options.domain is not None
    options.me = options.me or (known or b"").decode("utf-8", "replace") or socket.getfqdn()


def make_parser() -> ArgumentParser:
    import argparse
    import socket

    from pluq.commands.help_text import HelpText
    from pluq.supervisor.starters import STARTERS

    profiles = "\n".join(f"    {name:<11} {starter.what}" for name, starter in STARTERS.items())
    parser = argparse.ArgumentParser(description=(__doc__ or "").format(profiles=profiles), formatter_class=HelpText)
    parser.add_argument("--home", metavar="DIR", help="the qmail home (default: PLUQ_HOME, else /var/qmail)")
    parser.add_argument(
        "--me", metavar="NAME", help=f"full name of this host (default: what control/me says, else {socket.getfqdn()})"
    )
    parser.add_argument(
        "--domain", metavar="NAME", action="append", help="a domain delivered here, beside the name of --me"
    )
    parser.add_argument(
        "--profile",
        metavar="NAME",
        action="append",
        default=[],
        choices=tuple(STARTERS),
        help="a first profile, as above",
    )
    parser.add_argument("--admin", metavar="ADDRESS", help="who gets mail for postmaster, mailer-daemon and root")
    parser.add_argument("--smarthost", metavar="HOST[:PORT]", help="the relay for all mail to other hosts")
    parser.add_argument("--server", metavar="ADDRESS", action="append", help="with mini: who takes our mail by QMQP")
    parser.add_argument(
        "--users", action="store_true", help="as root: make the qmail users and groups that are missing"
    )
    parser.add_argument(
        "--single-user", action="store_true", help="run everything as the caller, also where that is root"
    )
    return parser


def refuse_contradictions(options: Namespace, home: Home) -> None:
    """Raise Refused for what cannot be meant, before anything is made."""
    from pluq.supervisor.starters import contradiction

    options.profile = list(dict.fromkeys(options.profile))
    trouble = contradiction(options.profile)
    if trouble:
        raise Refused(trouble)
    if options.users and (os.geteuid() != 0 or options.single_user):
        raise Refused("--users is for root, and not for a home of one user")
    if (options.server is not None) != ("mini" in options.profile):
        raise Refused(
            "--profile mini and --server belong together: the addresses of the hosts that take our mail by QMQP"
        )
    absent = absent_modules(options)
    if absent:
        raise Refused(f"these profiles need {' and '.join(absent)}, which pip install 'pluq[all]' brings")
    missing = missing_profiles(options, home)
    if missing:
        from pluq.supervisor.starters import HEAD, toml

        text = toml(options.profile, has_ipv6()).removeprefix(f"{HEAD}\n")
        raise Refused(
            f"{home.control('pluq.toml')} is there and has no profile {', '.join(missing)}; it is yours to change. This would do:\n\n{text}"
        )


def absent_modules(options: Namespace) -> list[str]:
    """Return what the plugins of the wanted profiles would miss when they are first asked, each time with 451."""
    from importlib.util import find_spec

    from pluq.supervisor.starters import STARTERS

    wanted = {module for name in options.profile for module in STARTERS[name].modules}
    return sorted(module for module in wanted if find_spec(module) is None)


def missing_profiles(options: Namespace, home: Home) -> list[str]:
    """Return the wanted profiles that an existing pluq.toml does not have, nothing where there is no such file."""
    from pluq.config.site import read_site
    from pluq.errors import ConfigError
    from pluq.supervisor.starters import STARTERS

    if not os.path.exists(home.control("pluq.toml")):
        return []
    try:
        known = read_site(home).profiles
    except ConfigError as error:
        raise Refused(str(error)) from None
    return [table for name in options.profile for table in STARTERS[name].tables if table not in known]


def has_ipv6() -> bool:
    """Say whether this host could listen on IPv6."""
    import socket

    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def make_users(home: Home) -> None:
    """Make the qmail users, and say how."""
    from pluq.supervisor import accounts

    try:
        done = accounts.make(home.path)
    except LookupError as error:
        raise Refused(f"{error}; make the users by hand: {', '.join(accounts.missing_users())}") from None
    sys.stdout.write("".join(f"{' '.join(command)}\n" for command in done))


def make(home: Home, options: Namespace) -> None:
    """Make everything that is missing. Raises OSError, Refused."""
    from pluq.config import current_ids
    from pluq.supervisor import hier
    from pluq.supervisor.starters import STARTERS, control_files, toml

    ids = current_ids() if options.single_user else home.ids()
    deliver_to = f"&{options.admin}" if options.admin else hier.ALIAS_MAILDIR
    # Double bounces and mail for accounts without a domain go to our own name.
    site = hier.Site(options.me, tuple(dict.fromkeys([*(options.domain or []), options.me])), deliver_to)
    programs = os.path.dirname(sys.executable)
    if "mini" in options.profile:
        hier.make_null_client(home, ids, site, options.server)
        hier.link_programs(home, programs, "qmail-qmqpc")
        return
    hier.make_home(home, ids)
    if options.single_user:
        hier.mark_single_user(home, ids)
    if options.describes_site:
        hier.make_site(home, ids, site)
    hier.link_programs(home, programs)
    if options.smarthost:
        hier.write_control(home, ids, "smtproutes", f":{options.smarthost}\n")
    for name, text in control_files(options.profile).items():
        hier.write_control(home, ids, name, text)
    text = toml(options.profile, has_ipv6())
    if text:
        hier.write_control(home, ids, "pluq.toml", text)
    chosen = [STARTERS[name] for name in options.profile]
    if any(one.needs_certificate for one in chosen) and not os.path.lexists(home.control("servercert.pem")):
        plugin_command(home, "tls", "self-signed", "--name", options.me)
    if any(one.signs for one in chosen):
        for domain in options.domain or [options.me]:
            if not os.path.exists(home.control(f"domainkeys/{domain}/default")):
                plugin_command(home, "dkim", "keygen", domain)


def plugin_command(home: Home, plugin: str, *words: str) -> None:
    """Run a command of a plugin on this home. Raises Refused with what it said."""
    import subprocess

    code = "import sys; from pluq.commands.pluq import main; sys.exit(main())"
    argv = [sys.executable, "-c", code, plugin, *words, "--home", home.path]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(f"pluq {plugin} {' '.join(words)}: {done.stderr.strip().rpartition(chr(10))[2]}")


# -- what to tell


def listing(home: Home) -> set[str]:
    """Return what is in the folders that an administrator looks into, relative to the home."""
    found = set()
    for top in SHOWN:
        for folder, _, names in os.walk(f"{home.path}/{top}"):
            found |= {os.path.relpath(f"{folder}/{name}", home.path) for name in names}
    return found


def tell_what_is_new(home: Home, before: set[str]) -> None:
    sys.stdout.write("".join(f"made {home.path}/{name}\n" for name in sorted(listing(home) - before)))


def conclude(home: Home, options: Namespace) -> int:
    """Check the home, and say what to do next."""
    from pluq.supervisor import check
    from pluq.supervisor.accounts import missing_users

    ids = home.ids()
    if os.geteuid() == 0 and ids.single and not os.path.exists(home.control("singleuser")):
        missing = ", ".join(missing_users())
        sys.stderr.write(
            f"pluq init: warning: there is no {missing}, so everything will run as root; --users makes them\n"
        )
    elsewhere = None if ids.single or "mini" in options.profile else home_of_alias(home)
    if elsewhere is not None:
        sys.stderr.write(
            f"pluq init: warning: the account alias has its home in {elsewhere}, so mail for postmaster and all who have no account goes"
            f" there; to have it here: usermod --home {home.alias} alias\n"
        )
    if "." not in options.me:
        sys.stderr.write(f"pluq init: warning: {options.me} is no full name of a host; other hosts will not like it\n")
    faults = [str(fault) for fault in check.faults(home, ids)] or check.plugin_faults(home, ids)
    if faults:
        sys.stderr.write("".join(f"pluq init: {fault}\n" for fault in faults))
        return FAULTY
    sys.stdout.write(f"{home.path} is ready\n")
    steps = list(next_steps(home, options, ids))
    if steps:
        sys.stdout.write("\nWhat to do next:\n" + "".join(f"\n{step}\n" for step in steps))
    return 0


def home_of_alias(home: Home) -> str | None:
    """Return where the account alias lives, None if that is this home's folder."""
    from pluq.supervisor.accounts import user

    entry = user("alias")
    return None if entry is None or os.path.realpath(entry.pw_dir) == os.path.realpath(home.alias) else entry.pw_dir


def next_steps(home: Home, options: Namespace, ids: Ids) -> Iterator[str]:
    """Yield what only the administrator can do."""
    profiles: Sequence[str] = options.profile
    if not profiles:
        return
    if "mini" in profiles:
        yield "Let the servers in control/qmqpservers take mail from this host by QMQP; then send:\n" + sending(home)
        return
    domains = options.domain or [options.me]
    at = "" if home.path == DEFAULT_HOME else f" --home {home.path}"
    if "mx" in profiles:
        yield "Publish in DNS:\n" + "".join(f"  {domain}. IN MX 10 {options.me}.\n" for domain in domains).rstrip("\n")
    if "submission" in profiles:
        yield "Publish in DNS, so that others believe your mail:\n" + "\n".join(trust_records(home, domains))
        yield f"Make a login for each user (it asks for the password):\n  pluq auth passwd{at} USER"
    if "mx" in profiles or "submission" in profiles:
        yield "Put a certificate that mail programs trust into control/servercert.pem (key first), in the place of the self-signed one."
    if "null" in profiles:
        yield "Send a message:\n" + sending(home)
    yield f"Start:\n  pluq serve{at}"


def sending(home: Home) -> str:
    variable = "" if home.path == DEFAULT_HOME else f"PLUQ_HOME={home.path} "
    return f"  echo 'Subject: hello' | {variable}{home.bin}/sendmail somebody@example.net"


def trust_records(home: Home, domains: Sequence[str]) -> Iterator[str]:
    """Yield the records of SPF, DKIM and DMARC as lines of a zone file."""
    for domain in domains:
        yield f'  {domain}. IN TXT "v=spf1 mx -all"'
        try:
            with open(home.control(f"domainkeys/{domain}/default.pub")) as file:
                yield f"  {file.read().strip()}"
        except FileNotFoundError:  # an older key, made by other means
            pass
        yield f'  _dmarc.{domain}. IN TXT "v=DMARC1; p=none; rua=mailto:postmaster@{domain}"'
