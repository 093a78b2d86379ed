"""The command line of a service as a chain of programs: softlimit, tcpserver, rblsmtpd, qmail-smtpd checkpassword /bin/true.

Each program of a chain takes its options and arguments and starts what follows. `FORMS` says how many; a program that is not
known is passed over up to the next one that is. `sh -c TEXT` is left to the caller, as are the files of envdir.

Source: the manual pages of daemontools, ucspi-tcp, ucspi-ssl, ipsvd, runit, s6, relay-ctrl, acceptutils, spamdyke, indimail and
qmail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Form(NamedTuple):
    """Letters of options that take a value, and the number of arguments before the next program. `ends`: nothing follows."""

    valued: str = ""
    arguments: int = 0
    ends: bool = False


FORMS = {
    "softlimit": Form("acdflmoprst"),
    "setuidgid": Form("", 1),
    "envuidgid": Form("", 1),
    "envdir": Form("", 1),
    "pgrphack": Form(),
    "setlock": Form("", 1),
    "fghack": Form(),
    "argv0": Form("", 1),
    "nice": Form("n"),
    "ionice": Form("cnp"),
    "nohup": Form(),
    "command": Form(),
    "exec": Form("a"),
    "time": Form(),
    "setsid": Form(),
    "chpst": Form("uUbedonlL/mopfcrtC"),
    "s6-softlimit": Form("acdflmoprst"),
    "s6-setuidgid": Form("", 1),
    "s6-envuidgid": Form("", 1),
    "s6-envdir": Form("", 1),
    "tcpserver": Form("xtugclbBIkmMCTenafiLS", 2),
    "sslserver": Form("xtTwugclbBIf", 2),
    "tcpsvd": Form("cCbulixt", 2),
    "sslsvd": Form("cCbulixtU/ZK", 2),
    "s6-tcpserver": Form("cCbGgu", 2),
    "s6-tcpserver4": Form("cCbGgu", 2),
    "s6-tcpserver6": Form("cCbGgu", 2),
    "s6-tlsserver": Form("cCbGgukKlBixt", 2),
    "s6-tcpserver-access": Form("vltBix"),
    "s6-ucspitlsd": Form("kK"),
    "s6-tlsd": Form("kK"),
    "tcp-env": Form("t"),
    "tcpd": Form(),
    "rblsmtpd": Form("ratwW"),
    "greetdelay": Form("", 1),
    "tcpcheck": Form("", 1),
    "fixcrio": Form(),
    "recordio": Form(),
    "relay-ctrl-chdir": Form(),
    "relay-ctrl-check": Form(),
    "relay-ctrl-allow": Form(),
    "jgreylist": Form(),
    "greylite": Form(),
    "qgreylist": Form(),
    "spamdyke": Form("cf"),
    "reup": Form("t"),
    "fixsmtpio": Form(),
    "authup": Form("", 1),
    "checknotroot": Form(),
    "ucspi-tls": Form(),
    "delay": Form("", 1),
    "qmail-smtpd": Form(ends=True),
    "ofmipd": Form(ends=True),
    "qmail-ofmipd": Form(ends=True),
    "qmail-popup": Form(ends=True),
    "qmail-pop3d": Form(ends=True),
    "qmail-qmtpd": Form(ends=True),
    "qmail-qmqpd": Form(ends=True),
    "qmail-qread": Form(ends=True),
    "qmail-start": Form(ends=True),
    "qmail-send": Form(ends=True),
    "qmail-greyd": Form(ends=True),
    "greydaemon": Form(ends=True),
    "qmail-daned": Form(ends=True),
    "qmail-daemon": Form(ends=True),
    "svscan": Form(ends=True),
    "multilog": Form(ends=True),
    "splogger": Form(ends=True),
    "sh": Form(ends=True),
    "bash": Form(ends=True),
}
# "inetd" stands for whoever accepts connections and starts one program for each: inetd, xinetd, a socket of systemd.
LISTENERS = (
    "tcpserver", "sslserver", "tcpsvd", "sslsvd", "s6-tcpserver", "s6-tcpserver4", "s6-tcpserver6", "s6-tlsserver", "inetd",
    "tcp-env",
)  # fmt: skip
# Those that follow rules of their own making, which are no tcprules.
OTHER_RULES = ("tcpsvd", "sslsvd", "s6-tlsserver", "s6-tcpserver-access")
SMTP_SERVERS = ("qmail-smtpd", "ofmipd", "qmail-ofmipd")
SHELLS = ("sh", "bash", "csh")
# Options of ours that long names stand for, and that take a value.
_LONG_VALUED = ("config-file", "graylist-dir", "run-as-user", "config-dir")


@dataclass(frozen=True, slots=True)
class Step:
    """One program: its name and path, its options (letter to last value), repeated ones in order, and its arguments."""

    name: str
    path: str
    options: dict[str, str] = field(default_factory=dict)
    repeated: tuple[tuple[str, str], ...] = ()
    arguments: tuple[str, ...] = ()


@dataclass
class Chain:
    """The programs in order; `sets` are the variables that env gives, `cleared` whether env - dropped the others."""

    steps: list[Step] = field(default_factory=list)
    sets: list[tuple[str, str]] = field(default_factory=list)
    unsets: list[str] = field(default_factory=list)
    cleared: bool = False
    unknown: list[str] = field(default_factory=list)

    def find(self, *names: str) -> Step | None:
        """Return the first program of one of these names."""
        return next((step for step in self.steps if step.name in names), None)

    def before(self, last: Step) -> list[Step]:
        return self.steps[: self.steps.index(last)]

    @property
    def listener(self) -> Step | None:
        return self.find(*LISTENERS)

    @property
    def server(self) -> Step | None:
        """The SMTP server, where the chain ends in one."""
        return self.find(*SMTP_SERVERS)


def base(path: str) -> str:
    return path.rpartition("/")[2]


def parse(argv: Sequence[str]) -> Chain:
    """Return the chain that a command line starts."""
    chain = Chain()
    rest = list(argv)
    while rest:
        name = base(rest[0])
        if name == "env":
            rest = _env(chain, rest[1:])
        elif name in FORMS:
            rest = _step(chain, name, rest)
        else:
            rest = _unknown(chain, rest)
    return chain


def _env(chain: Chain, rest: list[str]) -> list[str]:
    chain.steps.append(Step("env", "env"))
    while rest:
        word = rest[0]
        if word in ("-", "-i", "--ignore-environment"):
            chain.cleared = True
        elif word == "-u" and len(rest) > 1:
            chain.unsets.append(rest.pop(1))
        elif word.startswith("-u"):
            chain.unsets.append(word[2:])
        elif "=" in word and not word.startswith("-"):
            name, _, value = word.partition("=")
            chain.sets.append((name, value))
        elif not word.startswith("-"):
            return rest
        rest = rest[1:]
    return rest


def _step(chain: Chain, name: str, rest: list[str]) -> list[str]:
    form = FORMS[name]
    if form.ends:
        chain.steps.append(Step(name, rest[0], arguments=tuple(rest[1:])))
        return []
    repeated, after = _options(form, rest[1:])
    step = Step(name, rest[0], dict(repeated), tuple(repeated), tuple(after[: form.arguments]))
    chain.steps.append(step)
    after = after[form.arguments :]
    if name == "authup":
        return _authup(chain, after)
    return after


def _options(form: Form, rest: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the options, and what stands after them, as getopt would."""
    found: list[tuple[str, str]] = []
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word, rest = rest[0], rest[1:]
        if word == "--":
            break
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if not equals and name in _LONG_VALUED and rest:
                value, rest = rest[0], rest[1:]
            found.append((name, value))
            continue
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter not in form.valued:
                found.append((letter, ""))
                continue
            if not letters and rest:
                letters, rest = rest[0], rest[1:]
            found.append((letter, letters))
            break
    return found, rest


def _authup(chain: Chain, rest: list[str]) -> list[str]:
    """authup PROTOCOL CHECKPASSWORD ... PROGRAM: the checker reaches to the next program that is known."""
    end = next((position for position, word in enumerate(rest[1:], 1) if base(word) in FORMS), len(rest))
    if rest:
        chain.steps.append(Step("checkpassword", rest[0], arguments=tuple(rest[:end])))
    return rest[end:]


def _unknown(chain: Chain, rest: list[str]) -> list[str]:
    """Pass over a program that is not known, up to one that is, but not past a listener's own arguments."""
    end = next((position for position, word in enumerate(rest[1:], 1) if base(word) in FORMS), None)
    chain.unknown.append(rest[0])
    chain.steps.append(Step(base(rest[0]), rest[0], arguments=tuple(rest[1:end])))
    return rest[end:] if end is not None else []


def checker(server: Step, hostname_form: bool | None = None) -> tuple[str | None, tuple[str, ...]]:
    """Return the host name and the checkpassword command in qmail-smtpd's arguments.

    Without a slash the first of several is a host name, unless the fork is known to take none (Hoffmann's form). A first word
    that is no more than `true` checks nothing.
    """
    words = list(server.arguments)
    host = None
    if len(words) > 1 and "/" not in words[0] and hostname_form is not False and not _is_checker(words[0]):
        host = words.pop(0)
    if not words or base(words[0]) in ("true", "false"):
        return host, ()
    return host, tuple(words)


CHECKERS = [
    "checkpassword",
    "checkpasswd",
    "cmd5checkpw",
    "vchkpw",
    "checkpw",
    "checkpassword-pam",
    "checkvpw",
    "sys-checkpwd",
    "vchkpass",
    "auth_smtp",
    "auth_pop",
    "cmd5checkpop",
    "checklocalpwd",
    "vauthenticate",
    "imap-checkpwd",
    "ldap-checkpwd",
    "pam-checkpwd",
    "checkpassword-reply",
    "credo",
]


def _is_checker(word: str) -> bool:
    return base(word) in CHECKERS or "check" in base(word) or "chk" in base(word)
