"""First profiles for a new home: what each listens on, its plugins, and the control files that it needs.

    mx           port 25: mail from other hosts for our domains
    submission   587 and 465: mail from our users, with TLS and a login; signed with DKIM when it leaves
    null         port 25 of this machine itself: its programs send, nothing comes in from the network
    mini         no queue and no port: qmail-queue hands all mail to another host by QMQP

Values only; `pluq init` writes them. docs/profiles.md has more of them to copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

MESSAGE_BYTES = 26_214_400
"""25 MiB, what the large mail services take."""
LOOPBACK_MAY_RELAY = '127.:allow,RELAYCLIENT=""\n::1:allow,RELAYCLIENT=""\n'

HEAD = """\
# The profiles of this site: one for each kind of port. docs/profiles.md has more of them, docs/settings.md every setting.
# `pluq check` says what is wrong with this file; HUP (qmailctl reload) takes it.
"""


@dataclass(frozen=True)
class Starter:
    """`profiles` are tables of pluq.toml; `{port:N}` stands for the list of addresses with port N, `{local:N}` for those of this machine alone.

    `remote` are the plugins that deliveries to other hosts want for it, `tables` the names of its profiles. `files` are control files,
    `modules` what its plugins import from other distributions when they are first asked.
    """

    what: str
    profiles: str = ""
    tables: tuple[str, ...] = ()
    remote: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    modules: tuple[str, ...] = ()
    needs_certificate: bool = False
    signs: bool = False


STARTERS: Mapping[str, Starter] = {
    "mx": Starter(
        "takes mail from other hosts for our domains on port 25, checks SPF and DKIM, refuses recipients that are not there",
        """\
# Mail from other hosts. What SPF and DKIM find is in the field Authentication-Results; a domain whose SPF record disowns the client is refused.
[profile.mx]
listen  = {port:25}
plugins = ["size", "tls", "spf", "dkim", "rcptcheck"]
size.databytes = {bytes}
spf.behavior = 3
""",
        ("mx",),
        ("ipv6", "tls"),
        {"tcp.smtp": f"{LOOPBACK_MAY_RELAY}:allow\n"},
        ("cryptography", "spf"),
        needs_certificate=True,
    ),
    "submission": Starter(
        "takes mail from our users on ports 587 and 465, with TLS and a login, and signs it with DKIM when it leaves",
        """\
# Mail from our users: STARTTLS on 587, TLS from the first byte on 465. `pluq auth passwd USER` makes a login.
[profile.submission]
listen  = {port:587}
plugins = ["size", "tls", "auth"]
rules   = "tcp.submission"
size.databytes = {bytes}
tls.required  = true
auth.required = true

[profile.submissions]
extends = "submission"
listen  = {port:465}
tls.implicit = true
""",
        ("submission", "submissions"),
        ("ipv6", "tls", "dkim"),
        {"tcp.submission": ":allow\n"},
        ("cryptography",),
        needs_certificate=True,
        signs=True,
    ),
    "null": Starter(
        "lets programs of this host send, by sendmail and on port 25 of 127.0.0.1; nothing comes in from the network",
        """\
# Mail from programs of this host. Nobody else may connect.
[profile.null]
listen  = {local:25}
plugins = ["size"]
rules   = "tcp.null"
size.databytes = {bytes}
""",
        ("null",),
        ("ipv6", "tls"),
        {"tcp.null": f"{LOOPBACK_MAY_RELAY}:deny\n"},
    ),
    "mini": Starter(
        "has no queue: all mail of this host goes to the servers in qmqpservers at once",
    ),
}
REMOTE_ORDER = ("ipv6", "tls", "dkim")


def contradiction(names: Sequence[str]) -> str | None:
    """Return why these profiles cannot be together, None if they can."""
    if "mini" in names and len(names) > 1:
        return "mini has no queue, so it stands alone"
    if "mx" in names and "null" in names:
        return "mx and null both want port 25; with mx, programs of this host may send on it as well"
    return None


def toml(names: Sequence[str], with_ipv6: bool) -> str:
    """Return control/pluq.toml with these profiles; empty where none of them listens."""
    chosen = [STARTERS[name] for name in names]
    texts = [filled(one.profiles, with_ipv6) for one in chosen if one.profiles]
    if not texts:
        return ""
    wanted = {plugin for one in chosen for plugin in one.remote if plugin != "ipv6" or with_ipv6}
    plugins = ", ".join(f'"{plugin}"' for plugin in REMOTE_ORDER if plugin in wanted)
    return "\n".join([HEAD, *texts, f"# Deliveries to other hosts.\n[remote]\nplugins = [{plugins}]\n"])


def filled(text: str, with_ipv6: bool) -> str:
    """Return a template with addresses and sizes in their places."""
    for port in (25, 465, 587):
        text = text.replace(f"{{port:{port}}}", addresses("0.0.0.0", "::", port, with_ipv6))
        text = text.replace(f"{{local:{port}}}", addresses("127.0.0.1", "::1", port, with_ipv6))
    return text.replace("{bytes}", str(MESSAGE_BYTES))


def addresses(ipv4: str, ipv6: str, port: int, with_ipv6: bool) -> str:
    return f'["{ipv4}:{port}", "[{ipv6}]:{port}"]' if with_ipv6 else f'["{ipv4}:{port}"]'


def control_files(names: Sequence[str]) -> dict[str, str]:
    """Return the control files that these profiles need, by name."""
    return {name: text for starter in names for name, text in STARTERS[starter].files.items()}
