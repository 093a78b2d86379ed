"""The mail systems that are compared, each with private folders, on a private loopback port.

All deliver into a Maildir of the same user, write their usual log to a file on the same disk, sync before they say 250, and may
run 20 deliveries at a time. What each is told beyond its defaults stands in its class, so that it can be criticised.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import ClassVar

from bench import processes

from pluq.testing.ports import free_port

DOMAIN = "bench.example"
USERS_DOMAIN = "users.example"
REMOTE_DOMAIN = "sink.example"
SINGLE_DOMAIN = "single.example"
"""Its recipients get a transaction each, from Postfix as well."""
RECIPIENT = "games"  # a Debian system user without rights: Postfix's local(8) delivers to users of the machine
CONCURRENCY = 20
# smtp-source numbers its recipients: 2user, 3user, ... (the first of a message stays plain). They belong in turn to this many
# users, each with a uid and a Maildir.
NAMES = ("user", *(f"{number}user" for number in range(1, 2001)))
USERS = 200
READY_SECONDS = 60.0
FIRST_UID = 20001
PLUQ = os.path.join(os.path.dirname(sys.executable), "pluq")


@dataclass
class Peer:
    """One mail system. `sink_port` is where mail for other domains goes."""

    folder: str
    sink_port: int
    port: int = 0
    roots: list[int] = field(default_factory=list)
    name = "peer"
    host = "127.0.0.1"
    """Where it listens, and where its clients come from."""
    has_banner = True
    most_recipients = 1
    """In one SMTP transaction of its own."""
    prefix: tuple[str, ...] = field(init=False)
    """A program, with its arguments, that every process of the peer is started under."""
    under: ClassVar[tuple[str, ...]] = ()
    helpers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    """Processes that are no part of the peer, and not counted."""

    def __post_init__(self) -> None:
        self.prefix = self.under
        self.port = free_port()
        self.milter_port = free_port()
        self.signed = f"{self.folder}/signed"
        os.makedirs(self.folder, mode=0o755)
        self.user = pwd.getpwnam(RECIPIENT) if os.geteuid() == 0 else pwd.getpwuid(os.getuid())
        self.mailbox = f"{self.folder}/mailbox"
        for part in ("", "/Maildir", *(f"/Maildir/{name}" for name in ("tmp", "new", "cur"))):
            os.makedirs(self.mailbox + part, mode=0o700, exist_ok=True)
            os.chown(self.mailbox + part, self.user.pw_uid, self.user.pw_gid)

        for number in range(USERS):
            self.make_user(number)

    def make_user(self, number: int) -> None:
        mailbox = self.user_mailbox(number)
        for part in ("", "/Maildir", *(f"/Maildir/{name}" for name in ("tmp", "new", "cur"))):
            os.makedirs(mailbox + part, mode=0o700)
            os.chown(mailbox + part, self.user_uid(number), self.user.pw_gid)
        with open(f"{mailbox}/.qmail", "w") as file:
            file.write("./Maildir/\n")

    def user_mailbox(self, number: int) -> str:
        return f"{self.folder}/users/{number}"

    def user_uid(self, number: int) -> int:
        return FIRST_UID + number if os.geteuid() == 0 else os.getuid()

    @property
    def maildir(self) -> str:
        return f"{self.mailbox}/Maildir"

    @property
    def new(self) -> str:
        return f"{self.maildir}/new"

    @property
    def log(self) -> str:
        return f"{self.folder}/log"

    def address(self) -> str:
        return f"{RECIPIENT}@{DOMAIN}"

    def start(self) -> None:
        raise NotImplementedError

    def launch(self, command: list[str], environment: dict[str, str] | None = None) -> int:
        """Start one process of this peer, its output going to the log; it is ended by `stop`."""
        with open(self.log, "ab") as log:
            process = subprocess.Popen(
                [*self.prefix, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(environment or {})},
            )
        process.returncode = 0  # `stop` waits for it, the object need not
        self.roots.append(process.pid)
        return process.pid

    def wait_ready(self) -> None:
        """Wait for the banner; where TLS comes first, for a listener."""
        if not self.has_banner:
            self.wait_port(self.port)
            return
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            try:
                with socket.create_connection((self.host, self.port), 2) as sock:
                    if sock.recv(512).startswith(b"220"):
                        sock.sendall(b"QUIT\r\n")
                        return
            except OSError:
                time.sleep(0.05)
        with open(self.log, "rb") as log:
            raise RuntimeError(f"{self.name} does not answer: {log.read()[-2000:].decode(errors='replace')}")

    def stop(self) -> None:
        for root in reversed(self.roots):
            processes.end(root)
        self.roots.clear()
        for helper in self.helpers:
            helper.kill()
            helper.wait()
        self.helpers.clear()

    def wait_for(self, path: str) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not os.path.exists(path):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name}: {path} does not appear")
            time.sleep(0.05)

    def wait_port(self, port: int) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), 2).close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"{self.name}: nobody listens on port {port}")

    def folders(self) -> list[str]:
        """Return every folder into which mail comes."""
        return [self.new, *(f"{self.user_mailbox(number)}/Maildir/new" for number in range(USERS))]

    def clear(self) -> None:
        """Empty all mailboxes."""
        for folder in self.folders():
            for name in os.listdir(folder):
                os.unlink(f"{folder}/{name}")


class Pluq(Peer):
    """This tree, as `pluq serve`, no plugin on. As root each role is a user of its own.

    `profile`: what control/pluq.toml says of the listener; without it there is no such file.
    """

    name = "pluq"
    profile = ""

    def start(self) -> None:
        self.make_home()
        self.serve()

    @property
    def home(self) -> str:
        return f"{self.folder}/home"

    def make_home(self) -> None:
        home = self.home
        self.tool("init", "--home", home, "--me", f"mail.{DOMAIN}", "--domain", DOMAIN)
        write_qmail_settings(home, self)
        newu = [f"{home}/bin/qmail-newu"]
        subprocess.run(newu, check=True, env={**os.environ, "PLUQ_HOME": home})
        if self.profile:
            with open(f"{home}/control/pluq.toml", "w") as file:
                file.write(f'[profile.bench]\nlisten = ["{self.host}:{self.port}"]\n{self.profile}\n')

    def tool(self, *words: str) -> bytes:
        """Run a verb of `pluq` for this home; return what it prints. Raises RuntimeError with what it complains of."""
        environment = {**os.environ, "PLUQ_HOME": self.home}
        done = subprocess.run([PLUQ, *words], check=False, capture_output=True, env=environment)
        if done.returncode:
            raise RuntimeError(f"pluq {words[0]}: {done.stderr.decode(errors='replace')}")
        return done.stdout

    def serve(self) -> None:
        listen = [] if self.profile else ["--listen", f"{self.host}:{self.port}"]
        self.launch([PLUQ, "serve", "--home", self.home, *listen], self.environment())
        self.wait_ready()

    def environment(self) -> dict[str, str]:
        return {}


def write_qmail_settings(home: str, peer: Peer) -> None:
    """Write what pluq and qmail are told in the same words."""
    control = {
        "me": f"mail.{DOMAIN}",
        "locals": f"{DOMAIN}\n{USERS_DOMAIN}",
        "rcpthosts": f"{DOMAIN}\n{USERS_DOMAIN}\n{REMOTE_DOMAIN}\n{SINGLE_DOMAIN}",
        "smtproutes": f"{REMOTE_DOMAIN}:127.0.0.1:{peer.sink_port}\n{SINGLE_DOMAIN}:127.0.0.1:{peer.sink_port}",
        "concurrencylocal": str(CONCURRENCY),
        "concurrencyremote": str(CONCURRENCY),
        "concurrencyincoming": "200",
    }
    for setting, text in control.items():
        with open(f"{home}/control/{setting}", "w") as file:
            file.write(f"{text}\n")
    user = peer.user
    with open(f"{home}/users/assign", "w") as file:
        file.write(f"={RECIPIENT}:{user.pw_name}:{user.pw_uid}:{user.pw_gid}:{peer.mailbox}:::\n")
        for index, name in enumerate(NAMES):
            number = index % USERS
            who = f"u{number}:{peer.user_uid(number)}:{user.pw_gid}:{peer.user_mailbox(number)}"
            file.write(f"={name}:{who}:::\n")
        file.write(".\n")
    with open(f"{peer.mailbox}/.qmail", "w") as file:
        file.write("./Maildir/\n")


class Postfix(Peer):
    """Debian's Postfix, a private instance with its own master. local(8) writes the Maildir; 20 deliveries at a time.

    The many users are no accounts of the machine, so that virtual(8) writes theirs.
    """

    name = "postfix"
    most_recipients = 50
    daemons = "/usr/lib/postfix/sbin"

    @classmethod
    def is_possible(cls) -> bool:
        return os.geteuid() == 0 and os.path.exists(f"{cls.daemons}/master")

    def start(self) -> None:
        etc = f"{self.folder}/etc"
        os.makedirs(etc)
        os.makedirs(f"{self.folder}/queue", mode=0o755)
        data = f"{self.folder}/data"
        os.makedirs(data, mode=0o700)
        owner = pwd.getpwnam("postfix")
        os.chown(data, owner.pw_uid, owner.pw_gid)
        spool = f"{self.folder}/spool"
        os.makedirs(spool)
        os.symlink(self.maildir, f"{spool}/{RECIPIENT}")
        self.write_users(etc)
        self.write_main(etc)
        self.write_master(etc)
        check = ["postfix", "-c", etc, "check"]
        subprocess.run(check, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.launch([f"{self.daemons}/master", "-c", etc, "-s"])
        self.wait_ready()

    def more_settings(self) -> dict[str, str]:
        return {}

    def more_services(self) -> list[str]:
        return []

    def write_users(self, etc: str) -> None:
        with open(f"{etc}/mailboxes", "w") as mailboxes, open(f"{etc}/uids", "w") as uids:
            for index, name in enumerate(NAMES):
                number = index % USERS
                mailboxes.write(f"{name}@{USERS_DOMAIN} users/{number}/Maildir/\n")
                uids.write(f"{name}@{USERS_DOMAIN} {self.user_uid(number)}\n")

    def write_main(self, etc: str) -> None:
        settings = {
            **self.more_settings(),
            "compatibility_level": "3.6",
            "queue_directory": f"{self.folder}/queue",
            "data_directory": f"{self.folder}/data",
            "daemon_directory": self.daemons,
            "command_directory": "/usr/sbin",
            "mail_owner": "postfix",
            "setgid_group": "postdrop",
            "maillog_file": self.log,
            "maillog_file_prefixes": self.folder,
            "myhostname": f"mail.{DOMAIN}",
            "mydestination": DOMAIN,
            "mynetworks": "127.0.0.0/8",
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "relayhost": f"[127.0.0.1]:{self.sink_port}",
            "transport_maps": f"inline:{{{SINGLE_DOMAIN}=single:[127.0.0.1]:{self.sink_port}}}",
            "single_destination_recipient_limit": "1",
            "single_destination_concurrency_limit": str(CONCURRENCY),
            "alias_maps": "",
            "alias_database": "",
            "local_recipient_maps": "",
            "mail_spool_directory": f"{self.folder}/spool/",
            "biff": "no",
            "message_size_limit": "0",
            "mailbox_size_limit": "0",
            "local_destination_concurrency_limit": str(CONCURRENCY),
            "virtual_mailbox_domains": USERS_DOMAIN,
            "virtual_mailbox_base": self.folder,
            "virtual_mailbox_maps": f"texthash:{etc}/mailboxes",
            "virtual_uid_maps": f"texthash:{etc}/uids",
            "virtual_gid_maps": f"static:{self.user.pw_gid}",
            "virtual_mailbox_limit": "0",
        }
        with open(f"{etc}/main.cf", "w") as file:
            file.write("".join(f"{name} = {value}\n" for name, value in settings.items()))

    def write_master(self, etc: str) -> None:
        """Write Debian's services that take part, none of them in a chroot."""
        lines = [f"{self.host}:{self.port} inet n - n - - smtpd"]
        lines += [
            "postlog unix-dgram n - n - 1 postlogd",
            "pickup unix n - n 60 1 pickup",
            "qmgr unix n - n 300 1 qmgr",
        ]
        lines += [
            "cleanup unix n - n - 0 cleanup",
            "rewrite unix - - n - - trivial-rewrite",
            "local unix - n n - - local",
        ]
        private = "bounce:0:bounce defer:0:bounce trace:0:bounce anvil:1:anvil scache:1:scache smtp:-:smtp relay:-:smtp"
        private += " single:-:smtp error:-:error retry:-:error discard:-:discard"
        for service in private.split():
            name, limit, program = service.split(":")
            lines.append(f"{name} unix - - n - {limit} {program}")
        lines += [
            "flush unix n - n 1000? 0 flush",
            "proxymap unix - - n - - proxymap",
            "virtual unix - n n - - virtual",
        ]
        lines += ["tlsmgr unix - - n 1000? 1 tlsmgr", "verify unix - - n - 1 verify", "showq unix n - n - - showq"]
        lines += self.more_services()
        with open(f"{etc}/master.cf", "w") as file:
            file.write("".join(f"{line}\n" for line in lines))


class Qmail(Peer):
    """A stock qmail or notqmail whose home is given: its control files and users/assign are saved and put back."""

    name = "qmail"

    def start(self) -> None:
        self.home = os.environ["BENCH_QMAIL"]
        for part in ("control", "users"):
            os.makedirs(f"{self.home}/{part}", exist_ok=True)
            shutil.copytree(f"{self.home}/{part}", f"{self.folder}/saved/{part}")
        write_qmail_settings(self.home, self)
        subprocess.run([f"{self.home}/bin/qmail-newu"], check=True)
        paths = {"PATH": f"{self.home}/bin:{os.environ['PATH']}"}
        self.launch([f"{self.home}/bin/qmail-start", "./Maildir/"], paths)
        qmaild = pwd.getpwnam("qmaild")
        listen = ["tcpserver", "-RHl0", "-c200", "-b200", "-u", str(qmaild.pw_uid), "-g", str(qmaild.pw_gid)]
        self.launch([*listen, "127.0.0.1", str(self.port), f"{self.home}/bin/qmail-smtpd"], paths)
        self.wait_ready()

    def stop(self) -> None:
        super().stop()
        for part in ("control", "users"):
            if os.path.isdir(f"{self.folder}/saved/{part}"):
                shutil.rmtree(f"{self.home}/{part}")
                shutil.copytree(f"{self.folder}/saved/{part}", f"{self.home}/{part}")
