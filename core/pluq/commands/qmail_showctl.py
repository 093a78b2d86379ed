"""qmail-showctl

Say what each control file means, and which plugin reads those that qmail does not know.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from pluq.config import Home
from pluq.config.site import Site, read_site
from pluq.errors import ConfigError
from pluq.store.control import ControlFiles
from pluq.store.inventory import CORE, NONE, SERVICE, find_control_file

FAILED = 111
# What stock qmail compiles in.
BREAK = b"-"
PATERNALISM = 2
SPAWN_LIMIT = 120

USERS = ("alias", "qmaild", "qmaill", "root", "qmailp", "qmailq", "qmailr", "qmails")
GROUPS = ("nofiles", "qmail")

DEFAULT = b"(Default.) "
UNREADABLE = b"Oops! Trouble reading this file.\n"
NO_IDEA = b"I have no idea what this file does."


def printable(text: bytes) -> bytes:
    """Return the text with a question mark for each byte that a terminal might take for more than a character."""
    return bytes(octet if 32 <= octet <= 126 else 63 for octet in text)


@dataclass(frozen=True)
class Number:
    """A file that holds a number."""

    name: str
    default: int
    before: bytes
    after: bytes = b""

    def tell(self, controls: ControlFiles) -> bytes:
        value = controls.number(self.name, -1)
        if value < 0:
            return b"%b%b%d%b.\n" % (DEFAULT, self.before, self.default, self.after)
        value &= 0xFFFFFFFF  # it goes into an int; negative ones are shown as 0
        return b"%b%d%b.\n" % (self.before, value if value < 1 << 31 else 0, self.after)


@dataclass(frozen=True)
class Line:
    """A file that holds a line. Its default is this host's name, if control/me exists and `default` is None."""

    name: str
    before: bytes
    default: bytes | None = None

    def tell(self, controls: ControlFiles) -> bytes:
        value = controls.line(self.name)
        if value is not None:
            return b"%b%b.\n" % (self.before, printable(value))
        value = self.default
        if value is None:
            me = controls.me()
            value = self.name.encode() if me is None else me
        return b"%b%b%b.\n" % (DEFAULT, self.before, printable(value))


@dataclass(frozen=True)
class List:
    """A file that holds a list; `default` is a sentence."""

    name: str
    default: bytes
    before: bytes
    after: bytes = b""

    def tell(self, controls: ControlFiles) -> bytes:
        lines = controls.lines(self.name)
        if lines is None:
            return b"%b%b\n" % (DEFAULT, self.default)
        return b"\n" + b"".join(b"%b%b%b\n" % (self.before, printable(line), self.after) for line in lines)


@dataclass(frozen=True)
class Other:
    """A file that has a way of its own."""

    name: str
    tell: Callable[[ControlFiles], bytes]


def tell_morercpthosts(controls: ControlFiles) -> bytes:
    """morercpthosts counts only where there is an rcpthosts; one that cannot be read is there."""
    try:
        relevant = controls.lines("rcpthosts") is not None
    except ConfigError:
        relevant = True
    if relevant:
        return List("morercpthosts", b"No effect.", b"SMTP clients may send messages to recipients at ", b".").tell(
            controls
        )
    return List(
        "morercpthosts",
        b"No rcpthosts; morercpthosts is irrelevant.",
        b"No rcpthosts; doesn't matter that morercpthosts has ",
        b".",
    ).tell(controls)


def tell_morercpthosts_cdb(controls: ControlFiles) -> bytes:
    text, cdb = (modified(controls.path(name)) for name in ("morercpthosts", "morercpthosts.cdb"))
    if text is None and cdb is None:
        return DEFAULT + b"No effect.\n"
    if text is None:
        return b"Oops! morercpthosts.cdb exists but morercpthosts doesn't.\n"
    if cdb is None:
        return b"Oops! morercpthosts exists but morercpthosts.cdb doesn't.\n"
    if text > cdb:
        return b"Oops! morercpthosts.cdb is older than morercpthosts.\n"
    return b"Modified recently enough; hopefully up to date.\n"


def modified(path: str) -> int | None:
    """Return the second in which the file was changed, None if there is none."""
    try:
        return int(os.stat(path).st_mtime)
    except OSError:
        return None


# In qmail's order and words. What stands in none of these rows is looked up in the inventory of control files.
FILES: tuple[Number | Line | List | Other, ...] = (
    List("badmailfrom", b"Any MAIL FROM is allowed.", b"", b" not accepted in MAIL FROM."),
    Line("bouncefrom", b"Bounce user name is ", b"MAILER-DAEMON"),
    Line("bouncehost", b"Bounce host name is "),
    Number("concurrencylocal", 10, b"Local concurrency is "),
    Number("concurrencyremote", 20, b"Remote concurrency is "),
    Number("databytes", 0, b"SMTP DATA limit is ", b" bytes"),
    Line("defaultdomain", b"Default domain name is "),
    Line("defaulthost", b"Default host name is "),
    Line("doublebouncehost", b"2B recipient host: "),
    Line("doublebounceto", b"2B recipient user: ", b"postmaster"),
    Line("envnoathost", b"Presumed domain name is "),
    Line("helohost", b"SMTP client HELO host name is "),
    Line("idhost", b"Message-ID host name is "),
    Line("localiphost", b"Local IP address becomes "),
    List("locals", b"Messages for me are delivered locally.", b"Messages for ", b" are delivered locally."),
    Line("me", b"My name is ", b"undefined! Uh-oh"),
    List("percenthack", b"The percent hack is not allowed.", b"The percent hack is allowed for user%host@", b"."),
    Line("plusdomain", b"Plus domain name is "),
    List("qmqpservers", b"No QMQP servers.", b"QMQP server: ", b"."),
    Number("queuelifetime", 604800, b"Message lifetime in the queue is ", b" seconds"),
    List(
        "rcpthosts",
        b"SMTP clients may send messages to any recipient.",
        b"SMTP clients may send messages to recipients at ",
        b".",
    ),
    Other("morercpthosts", tell_morercpthosts),
    Other("morercpthosts.cdb", tell_morercpthosts_cdb),
    Line("smtpgreeting", b"SMTP greeting: 220 "),
    List("smtproutes", b"No artificial SMTP routes.", b"SMTP route: "),
    Number("timeoutconnect", 60, b"SMTP client connection timeout is ", b" seconds"),
    Number("timeoutremote", 1200, b"SMTP client data timeout is ", b" seconds"),
    Number("timeoutsmtpd", 1200, b"SMTP server data timeout is ", b" seconds"),
    List("virtualdomains", b"No virtual domains.", b"Virtual domain: "),
)
STOCK = frozenset(file.name for file in FILES)


class Others:
    """What is said of a file that stock qmail does not know."""

    def __init__(self, home: Home) -> None:
        self.home = home

    @cached_property
    def site(self) -> Site | None:
        """control/pluq.toml, None where there is none. Raises ConfigError."""
        return read_site(self.home) if os.path.lexists(self.home.control("pluq.toml")) else None

    def tell(self, name: str) -> bytes:
        entry = find_control_file(name)
        # Without a pluq.toml nobody asked for more than qmail, whose words for a file of the run scripts are these.
        if entry is None or (entry.owner == SERVICE and self.site is None):
            return NO_IDEA
        sentence = entry.meaning[:1].upper() + entry.meaning[1:]
        return f"{sentence}. {self._who(entry.owner)}".strip().encode()

    def _who(self, owner: str) -> str:
        if owner == CORE:
            return ""
        if owner == NONE:
            return "No plugin uses it."
        if owner == SERVICE:
            return "Used by run scripts."
        return f"Used by the {owner} plugin, {self._state(owner)}."

    def _state(self, plugin: str) -> str:
        where = [] if self.site is None else enabled_in(self.site, plugin)
        if where:
            return f"enabled in {', '.join(where)}"
        from pluq.plan.load import installed, site_files

        there = plugin in installed() or plugin in site_files(self.home)
        return "enabled in no profile" if there else "which is not installed"


def enabled_in(site: Site, plugin: str) -> list[str]:
    """Return the profiles and roles that enable the plugin."""
    return [name for name, role in (*site.profiles.items(), *site.roles.items()) if plugin in role.plugins]


def report(home: Home) -> Iterator[bytes]:
    """Yield the report on the control directory; the current one is `home`/control. Raises ConfigError, OSError."""
    names = os.listdir(b".")
    try:
        home.controls.me()
    except ConfigError as error:
        raise ConfigError(error.file, "Oops! Trouble reading control/me.") from error
    for file in FILES:
        yield b"\n%b: %b" % (file.name.encode(), told(file, home.controls))
    others = Others(home)
    for name in names:
        text = os.fsdecode(name)
        if text not in STOCK:
            try:
                yield b"\n%b: %b\n" % (name, others.tell(text))
            except ConfigError as error:
                yield b"\n%b: Oops! %b\n" % (name, str(error).encode())


def told(file: Number | Line | List | Other, controls: ControlFiles) -> bytes:
    try:
        return file.tell(controls)
    except ConfigError:
        return UNREADABLE


def head(home: Home) -> bytes:
    """Return what is said before any control file is read."""
    from pluq.queue.layout import count_split

    return b"".join(
        b"%b: %b.\n" % (name, value)
        for name, value in (
            (b"qmail home directory", os.fsencode(home.path)),
            (b"user-ext delimiter", BREAK),
            (b"paternalism (in decimal)", b"%d" % PATERNALISM),
            (b"silent concurrency limit", b"%d" % SPAWN_LIMIT),
            (b"subdirectory split", b"%d" % count_split(home.queue)),
            (b"user ids", b", ".join(b"%d" % number for number in user_ids(home))),
            (b"group ids", b", ".join(b"%d" % number for number in group_ids(home))),
        )
    )


def user_ids(home: Home) -> list[int]:
    """Return the uids of the qmail users and root, as any user may look them up."""
    import pwd

    try:
        return [pwd.getpwnam(name).pw_uid for name in USERS]
    except KeyError:
        return [home.ids().uid.get(name, 0) for name in USERS]


def group_ids(home: Home) -> list[int]:
    import grp

    try:
        return [grp.getgrnam(name).gr_gid for name in GROUPS]
    except KeyError:
        return [home.ids().gid[name] for name in GROUPS]


def main() -> int:
    from pluq.commands.terminal import help_asked

    if help_asked(__doc__):
        return 0
    home = Home.from_environment()
    out = sys.stdout.buffer
    out.write(head(home))
    for directory, name in ((home.path, home.path), (home.control_dir, "control")):
        try:
            os.chdir(directory)
        except OSError:
            out.write(b"Oops! Unable to chdir to %b.\n" % os.fsencode(name))
            return FAILED
    try:
        for piece in report(home):
            out.write(piece)
    except OSError:
        out.write(b"Oops! Unable to open current directory.\n")
        return FAILED
    except ConfigError as error:
        out.write(error.why.encode())
        return FAILED
    return 0
