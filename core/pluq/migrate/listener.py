"""One SMTP listener of a site: its address, its TLS, its AUTH, and the programs that its mail passes.

TLS and AUTH follow each fork's own rules: what must be set for an offer, and what makes it a must. Where old settings contradict
each other the stricter reading holds.
"""

from __future__ import annotations

import re
from functools import cached_property

from pluq.migrate import chain as chains
from pluq.migrate.chain import Step
from pluq.migrate.known import control_file
from pluq.migrate.recognise import LETTERS, fork
from pluq.migrate.rules import Rules
from pluq.migrate.services import Launch, Service
from pluq.migrate.survey import Survey

QUEUE_VARIABLES = {
    "surblqueue": "SURBLQUEUE", "surblfilter": "SURBLQUEUE", "qmail-dkim": "DKIMQUEUE", "qmail-dk": "DKQUEUE",
}  # fmt: skip
# What puts a message into the queue and does no more; qmail-multi chooses among the queues of indimail.
QUEUES = ("", "qmail-queue", "qmail-queue.orig", "qmail-multi", "qmail-direct", "qscheduler")


class Listener:
    """One SMTP listener of a site, and what its environment and rules say."""

    def __init__(self, survey: Survey, service: Service, launch: Launch) -> None:
        self.survey = survey
        self.service = service
        self.launch = launch
        self.environment = {name: one.value for name, one in launch.environment.items()}
        self.fork = fork(survey)[0]
        self.letters = set(LETTERS[self.fork])
        self.rules: Rules | None = survey.rules(launch)
        listening, server = launch.chain.listener, launch.chain.server
        assert listening is not None and server is not None
        self.step: Step = listening
        self.server: Step = server

    def is_fork(self, letters: str) -> bool:
        return bool(self.letters & set(letters))

    def reads(self, name: str) -> bool:
        """Say whether this fork reads a control file: by the books, or because a program has its name."""
        known = control_file(name)
        if known and self.letters & set(known.forks):
            return True
        return f"control/{name}".encode() in self.survey.words("qmail-smtpd")

    def set(self, name: str) -> bool:
        return name in self.environment

    @property
    def counts_recipients(self) -> bool:
        """Whether RCPTCHECK of the environment is the program that the plugin ratelimit stands for."""
        return "overlimit" in self.environment.get("RCPTCHECK", "")

    def on(self, name: str) -> bool:
        """Say whether a switch is set to something that is not off."""
        return self.environment.get(name, "0").strip().lower() not in ("", "0", "no", "off", "false")

    def values(self, name: str) -> list[str]:
        """Return the values of a variable: of the listener, and of its rules."""
        own = [self.environment[name]] if name in self.environment else []
        return own + (self.rules.values(name) if self.rules else [])

    # -- address

    @cached_property
    def address(self) -> str | None:
        """Return "ADDRESS:PORT", None if the port is not known."""
        if len(self.step.arguments) < 2:
            return None
        host, name = self.step.arguments
        port = self.survey.accounts.port(name)
        if port is None or not 0 < port < 65536:
            return None
        host = host.strip("[]")
        if host in ("0", "", "*", "0.0.0.0"):
            host = "[::]" if "6" in self.step.options and host != "0.0.0.0" else "0.0.0.0"
        elif ":" in host:
            host = "[::]" if set(host) <= set(":0") else f"[{host}]"
        elif not re.fullmatch(r"[0-9.]+", host):
            host = self.survey.accounts.hosts.get(host.lower(), host)
        return f"{host}:{port}"

    # -- TLS

    @cached_property
    def certificate(self) -> str:
        """Return the path of the certificate that the server uses, "" if there is none that it can open."""
        names = [
            self.environment[name]
            for name in ("CERTFILE", "TLS_SERVER_CERT", "SERVERCERT", "SSLCERT")
            if self.set(name)
        ]
        folder = self.environment.get("CERTDIR", f"{self.survey.control.rpartition('/')[0]}/certs")
        names += [f"{self.survey.control}/{name}" for name in ("servercert.pem", "smtpcert")] + [
            f"{folder}/servercert.pem"
        ]
        for name in names:
            path = name if name.startswith("/") else f"{self.survey.home}/{name}"
            if self.survey.tree.is_file(path):
                return path
        return ""

    @property
    def _speaks_tls(self) -> bool:
        """Whether the server itself has TLS, by fork or by its words."""
        words = ("servercert.pem", "STARTTLS", "FORCETLS", "ready for tls", "smtpcert")
        return self.is_fork("SGITJLE") or bool(self.survey.says("qmail-smtpd", *words))

    @property
    def _tls_switched_off(self) -> bool:
        off = self.environment.get("DISABLETLS")
        if off is not None and off != "0":
            return True
        return self.on("DENY_TLS") or (self.is_fork("I") and not self.set("STARTTLS"))

    @cached_property
    def implicit(self) -> bool:
        if self.step.name == "sslserver" and "n" not in self.step.options:
            return True
        if self.step.name in ("sslsvd", "s6-tlsserver") or self.launch.chain.find("s6-tlsd"):
            return True
        if self.step.name == "tcpserver" and "s" in self.step.options and self.is_fork("I"):
            return True
        if self.spamdyke.get("tls-level") == "smtps":
            return True
        return self.set("SMTPS") and self._speaks_tls and bool(self.certificate)

    @cached_property
    def tls(self) -> str:
        if self.implicit:
            return "implicit"
        offered = self._ucspi_tls or self._starttls
        if not offered:
            return "none"
        forced = self.environment.get("UCSPITLS", "").startswith("!") and self._ucspi_tls
        forced = forced or (self.is_fork("JI") and self.on("FORCE_TLS"))
        forced = forced or (self.is_fork("I") and self.environment.get("FORCE_TLS") == "")
        return "required" if forced or (self.auth == "required" and self.auth_needs_tls) else "starttls"

    @property
    def _ucspi_tls(self) -> bool:
        wrapped = self.launch.chain.find("fixsmtpio", "authup") or self.survey.says(
            "qmail-smtpd", "SSLCTLFD", "UCSPITLS"
        )
        listens = self.step.name == "sslserver" or self.launch.chain.find("s6-ucspitlsd")
        return bool(listens) and self.set("UCSPITLS") and bool(wrapped)

    @property
    def _starttls(self) -> bool:
        if self.spamdyke.get("tls-level", "none") == "smtp" and self.spamdyke.get("tls-certificate-file"):
            return True
        return self._speaks_tls and bool(self.certificate) and not self._tls_switched_off

    # -- AUTH

    @cached_property
    def checker(self) -> tuple[str, ...]:
        """Return the checkpassword command, () if there is none."""
        step = self.launch.chain.find("checkpassword")
        if step is not None:
            return step.arguments
        if self.server.name != "qmail-smtpd":
            return ()
        return chains.checker(self.server)[1]

    @cached_property
    def auth_asked(self) -> str:
        """Return what AUTH the settings ask for: none, offered or required, checker or not."""
        if self.launch.chain.find("authup"):
            return "required"
        smtpauth = self.environment.get("SMTPAUTH")
        if self.is_fork("L"):
            return "none" if smtpauth is None else "required" if self.set("AUTHREQUIRED") else "offered"
        if self.is_fork("J"):
            offered = bool(self.checker or self.environment.get("AUTH_CDB"))
            return "required" if self.on("REQUIRE_AUTH") else "offered" if offered else "none"
        if self.is_fork("IT") or self.set("REQUIRE_AUTH") or self.set("REQUIREAUTH"):
            required = self.on("REQUIRE_AUTH") or (self.set("REQUIREAUTH") and self.environment["REQUIREAUTH"] != "0")
            return "required" if required else "offered" if self.checker else "none"
        if self._hoffmann or smtpauth is not None:
            return _smtpauth(smtpauth)
        patched = self.is_fork("G") or self.survey.says("qmail-smtpd", "AUTH LOGIN", "AUTH CRAM", "AUTH PLAIN")
        return "offered" if self.checker and patched else "none"

    @property
    def _hoffmann(self) -> bool:
        return self.is_fork("SE") or bool(self.survey.says("qmail-smtpd", "SMTPAUTH"))

    @cached_property
    def auth(self) -> str:
        """Return what AUTH a client meets: the stricter reading where settings contradict each other."""
        if self.auth_asked == "offered" and not self.auth_works:
            return "none"
        return self.auth_asked

    @property
    def has_checker(self) -> bool:
        internal = self.is_fork("L") or (self.is_fork("J") and self.environment.get("AUTH_CDB"))
        return bool(self.checker or internal or self.launch.chain.find("authup"))

    @property
    def auth_works(self) -> bool:
        """Whether a client could ever log in."""
        return self.has_checker and not (
            self.auth_needs_tls and not self.implicit and not (self._starttls or self._ucspi_tls)
        )

    @cached_property
    def auth_needs_tls(self) -> bool:
        """Whether no mechanism is offered on a clear connection."""
        if self.is_fork("S"):
            return self.environment.get("FORCETLS", "1") != "0" and self.step.name != "sslserver"
        if self.is_fork("J"):
            return not self.on("ALLOW_INSECURE_AUTH") and not self.on("ALLOW_CRAM")
        if self.is_fork("I"):
            return self.set("SECURE_AUTH")
        if self.is_fork("L"):
            return self.environment.get("SMTPAUTH", "").upper() == "TLSREQUIRED"
        if self.launch.chain.find("authup"):
            return self.environment.get("UCSPITLS", "").startswith("!")
        return bool(self.survey.says("qmail-smtpd", "Must issue a STARTTLS command first"))

    @property
    def clear_auth(self) -> bool:
        """Whether LOGIN or PLAIN is possible on a clear connection."""
        if self.auth == "none" or not self.has_checker or self.tls in ("required", "implicit") or self.auth_needs_tls:
            return False
        only_cram = self.environment.get("SMTPAUTH", "").lower().lstrip("!").startswith("cram")
        if self.is_fork("J"):
            return self.on("ALLOW_INSECURE_AUTH")
        return not only_cram

    # -- programs in front

    @cached_property
    def spamdyke(self) -> dict[str, str]:
        """Return spamdyke's settings, from its configuration files and its command line."""
        step = self.launch.chain.find("spamdyke")
        if step is None:
            return {}
        found: dict[str, str] = {}
        for name, value in step.repeated:
            if name in ("f", "config-file"):
                for line in self.survey.text_of(value).splitlines():
                    key, equals, text = line.partition("=")
                    if equals and not key.strip().startswith("#"):
                        found[key.strip()] = (
                            f"{found[key.strip()]} {text.strip()}" if key.strip() in found else text.strip()
                        )
            else:
                found[name] = value
        return found

    @cached_property
    def queue_programs(self) -> list[str]:
        """Return the programs that a message passes before qmail-queue, in order."""
        found: list[str] = []
        for first in self.values("QMAILQUEUE"):
            program: str | None = first
            while program and program not in found and len(found) < 20:
                name = chains.base(program.split()[0]) if program.split() else ""
                if name in QUEUES:
                    break
                found.append(program)
                following = self.values(QUEUE_VARIABLES[name]) if name in QUEUE_VARIABLES else []
                program = following[0] if following else None
        return found

    @property
    def external_queue(self) -> str:
        """Return the first program of QMAILQUEUE that no plugin stands for, "" if there is none."""
        names = [program for program in self.queue_programs if chains.base(program.split()[0]) not in QUEUE_VARIABLES]
        return names[0] if names else ""


def _smtpauth(value: str | None) -> str:
    if value is None or value.strip().lower() in ("-", "0"):
        return "none"
    word = value.strip().lower()
    return "required" if word == "!" or word.startswith(("!cram", "!+cram")) else "offered"
