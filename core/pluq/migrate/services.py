"""The services of a site: run scripts under supervise/ and /service, rc and init scripts, units of others; each as what it starts.

A service is interpreted with the shell of this package and taken apart into chains; nothing is run. The environment of a chain
remembers where each variable was set: in a script, by env, or in a file of an envdir.

Source: supervise(8), svscan(8), envdir(8), inetd.conf(5); Life with qmail; the run scripts of Gentoo, indimail and others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pluq.migrate import chain as chains
from pluq.migrate import execline, superservers
from pluq.migrate.accounts import Account, Accounts
from pluq.migrate.chain import Chain, Step
from pluq.migrate.filters import UNKNOWN
from pluq.migrate.outcome import Outcome, Started, Variable
from pluq.migrate.shell import Shell
from pluq.migrate.tree import FILE, FOLDER, OTHER, Tree, join

MAX_SCRIPT = 256 << 10
MAX_SHELLS = 4
SERVICE_FOLDERS = (
    "/service", "/etc/service", "/var/service", "/var/qmail/service", "/etc/sv", "/etc/qmail/supervise", "/var/lib/svscan",
    "/usr/libexec/indimail/service", "/usr/local/libexec/indimail/service", "/var/indimail/service", "/etc/runit/sv",
    "/var/lib/qmail/supervise", "/var/lib/supervise", "/etc/s6/sv",
)  # fmt: skip
INIT_SCRIPTS = (
    "/etc/init.d/qmail", "/etc/rc.d/init.d/qmail", "/etc/rc.d/rc.qmail", "/etc/init.d/qmail-smtpd", "/etc/rc.d/qmail",
    "/etc/init.d/sendmail", "/etc/rc.local", "/etc/rc.d/rc.local", "/usr/local/etc/rc.d/qmail.sh", "/usr/local/etc/rc.d/qmail",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Setting:
    """A variable in the environment of a program, and the file (with its line, 0 for a whole file) that set it."""

    value: str
    path: str
    line: int = 0


@dataclass
class Launch:
    """A chain that a service starts, with its environment at the end of the chain."""

    chain: Chain
    environment: dict[str, Setting]
    dropped: dict[str, Setting]
    path: str
    line: int
    folder: str


@dataclass
class Service:
    """One service. `run` is its script; `script` names the kind: "run", "rc", "inetd"."""

    name: str
    run: str
    folder: str = ""
    down: bool = False
    linked: bool = True
    script: str = "run"
    crlf: bool = False
    outcome: Outcome = field(default_factory=Outcome)
    launches: list[Launch] = field(default_factory=list)

    @property
    def listeners(self) -> Iterator[Launch]:
        """The launches that wait for SMTP connections."""
        return (one for one in self.launches if one.chain.listener and one.chain.server)


class SiteWorld:
    """The site as its scripts see it."""

    def __init__(self, tree: Tree, accounts: Accounts, control: str) -> None:
        self._tree = tree
        self._accounts = accounts
        self._control = control

    def text(self, path: str) -> str | None:
        data = self._tree.read(path, MAX_SCRIPT)
        return None if data is None else data.decode("utf-8", "surrogateescape")

    def kind(self, path: str) -> str:
        found = self._tree.entry(path).kind
        return {FILE: "file", FOLDER: "folder", OTHER: "other"}.get(found, "")

    def names(self, path: str) -> list[str]:
        return self._tree.names(path)

    def executable(self, path: str) -> bool:
        return self._tree.entry(path).executable

    def user(self, name: str) -> Account | None:
        return self._accounts.users.get(name)

    def group_id(self, name: str) -> int | None:
        return self._accounts.group_id(name)

    def hostname(self) -> str | None:
        for path in ("/etc/hostname", f"{self._control}/me"):
            text = self.text(path)
            if text and text.strip():
                return text.split()[0]
        return None


class Finder:
    """Finds and interprets the services of a site."""

    def __init__(self, tree: Tree, accounts: Accounts, home: str, control: str) -> None:
        self.tree = tree
        self.home = home
        self.world = SiteWorld(tree, accounts, control)

    def find(self) -> list[Service]:
        """Return all services, those of supervise first, in the order of their names."""
        folders = [f"{self.home}/supervise", f"{self.home}/service", f"{self.home}/svc", *SERVICE_FOLDERS]
        found: dict[str, Service] = {}
        for folder in folders:
            for name in self.tree.names(folder):
                entry = self.tree.entry(f"{folder}/{name}")
                new = entry.kind == FOLDER and not name.startswith(".") and entry.real not in found
                if new and self.tree.is_file(f"{entry.real}/run"):
                    found[entry.real] = self._service(name, entry.real)
        services = list(found.values())
        services += [self._script(path, "rc") for path in self._init_scripts()]
        return services + list(self._started_by_others())

    def _service(self, name: str, folder: str) -> Service:
        service = Service(name, f"{folder}/run", folder, down=self.tree.entry(f"{folder}/down").kind != "missing")
        return self._interpret(service)

    def _init_scripts(self) -> Iterator[str]:
        yield from (path for path in (f"{self.home}/rc",) if self.tree.is_file(path))
        seen = set()
        for path in INIT_SCRIPTS:
            entry = self.tree.entry(path)
            text = self.world.text(path) if entry.kind == FILE else None
            if text is not None and entry.real not in seen and ("tcpserver" in text or "qmail-start" in text):
                seen.add(entry.real)
                yield entry.real

    def _script(self, path: str, kind: str) -> Service:
        return self._interpret(Service(path.rpartition("/")[2], path, path.rpartition("/")[0], script=kind))

    def _interpret(self, service: Service) -> Service:
        text = self.world.text(service.run) or ""
        service.crlf = "\r\n" in text
        if execline.is_execline(text):
            service.outcome = execline.run(text, service.run, service.folder)
        else:
            service.outcome = self._run(service, text)
        for started in service.outcome.started:
            self._launch(service, started, [], 0)
        return service

    def _run(self, service: Service, text: str) -> Outcome:
        shell = Shell(self.world, service.folder)
        shell.arguments = ["start"] if service.script == "rc" else []
        return shell.run(text, service.run)

    def _started_by_others(self) -> Iterator[Service]:
        """Yield the services of inetd, xinetd and systemd."""
        for command in superservers.commands(self.tree):
            service = Service(command.name, self.tree.real_folder(command.path), "/", command.down, script="inetd")
            variables = {
                name: Variable(value, True, path, line) for name, (value, path, line) in command.variables.items()
            }
            service.outcome.expanded |= command.expanded
            started = Started(tuple(command.argv), variables, command.path, command.line, True, "/")
            self._launch(service, started, [command.listener] if command.listener else [], 0)
            yield service

    # -- from a command to its chain and environment

    def _launch(self, service: Service, started: Started, before: list[Step], depth: int) -> None:
        chain = chains.parse(started.argv)
        environment = {
            name: Setting(one.value, one.path, one.line) for name, one in started.variables.items() if one.exported
        }
        dropped: dict[str, Setting] = {}
        if chain.cleared:
            dropped, environment = environment, {}
        for name, value in chain.sets:
            environment[name] = Setting(value, started.path, started.line)
        for name in chain.unsets:
            environment.pop(name, None)
        for step in chain.steps:
            if step.name in ("envdir", "s6-envdir") and step.arguments:
                self._envdir(environment, join(started.folder, step.arguments[0]))
            elif step.name == "chpst" and "e" in step.options:
                self._envdir(environment, join(started.folder, step.options["e"]))
        last = chain.steps[-1] if chain.steps else None
        if last and last.name in chains.SHELLS and depth < MAX_SHELLS:
            chain.steps.pop()
            self._inner_shell(service, started, last, environment, [*before, *chain.steps], depth)
            return
        chain.steps[:0] = before
        service.launches.append(Launch(chain, environment, dropped, started.path, started.line, started.folder))

    def _inner_shell(
        self,
        service: Service,
        started: Started,
        step: Step,
        environment: dict[str, Setting],
        before: list[Step],
        depth: int,
    ) -> None:
        """Go on in `sh -c TEXT`, and in a script that a script starts."""
        arguments = list(step.arguments)
        while arguments and arguments[0].startswith("-") and "c" not in arguments[0]:
            arguments.pop(0)
        variables = {name: Variable(one.value, True, one.path, one.line) for name, one in environment.items()}
        shell = Shell(self.world, started.folder, variables)
        if len(arguments) > 1 and arguments[0].startswith("-") and UNKNOWN not in arguments[1]:
            outcome = shell.run(arguments[1], started.path, started.line)
        elif arguments:
            path = join(started.folder, arguments[0])
            outcome = shell.run(self.world.text(path) or "", path)
        else:
            return
        self._join(service.outcome, outcome)
        for inner in outcome.started:
            self._launch(service, inner, before, depth + 1)

    @staticmethod
    def _join(outcome: Outcome, inner: Outcome) -> None:
        outcome.assigned.update(inner.assigned)
        outcome.faults += inner.faults
        outcome.sourced += inner.sourced
        outcome.read += inner.read
        outcome.expanded |= inner.expanded

    # -- envdir

    def _envdir(self, environment: dict[str, Setting], folder: str) -> None:
        """Apply a folder of variables, and what indimail's envdir reads before it: .envdir and .envfile."""
        for extra in self._more_folders(f"{folder}/.envdir"):
            self._apply(environment, extra)
        path = f"{folder}/.envfile"
        for number, line in enumerate((self.world.text(path) or "").splitlines(), 1):
            name, equals, value = line.partition("=")
            if equals and name:
                environment[name] = Setting(value, self.tree.real_folder(path), number)
            else:
                environment.pop(name, None)
        self._apply(environment, folder)

    def _more_folders(self, path: str) -> list[str]:
        if self.tree.is_folder(path):
            return [path]
        return [line.strip() for line in (self.world.text(path) or "").splitlines() if line.startswith("/")][:8]

    def _apply(self, environment: dict[str, Setting], folder: str) -> None:
        for name in self.tree.names(folder):
            path = self.tree.real_folder(f"{folder}/{name}")
            if name.startswith(".") or "=" in name:
                continue
            data = self.tree.read(path, 64 << 10)
            if data is None:
                continue
            if data == b"":
                environment.pop(name, None)
                continue
            line = data.partition(b"\n")[0].rstrip(b" \t\r").replace(b"\0", b"\n")
            environment[name] = Setting(line.decode("utf-8", "surrogateescape"), path)
