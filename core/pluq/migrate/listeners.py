"""From what a service starts to a profile: where it listens, its TLS and AUTH, and the plugins that do what its patches did.

TLS and AUTH follow each fork's own rules (what must be set for an offer, what makes it a must). A value is kept as the stricter
reading where old settings contradict each other. Plugins are those that the port needs, installed or not; the caller leaves out
what is not there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pluq.migrate import chain as chains
from pluq.migrate.chain import Step
from pluq.migrate.known import control_file
from pluq.migrate.recognise import LETTERS, all_rules, fork, route_has_login
from pluq.migrate.rules import Rules
from pluq.migrate.services import Launch, Service
from pluq.migrate.survey import Survey

# The order in which plugins stand in a list: cheap and early first.
ORDER = [
    "ipv6",
    "size",
    "tls",
    "auth",
    "popauth",
    "tarpit",
    "acl",
    "dnsbl",
    "greylist",
    "badmail",
    "spf",
    "batv",
    "rcptcheck",
    "ratelimit",
    "spp",
    "dkim",
    "surbl",
    "qfilter",
    "qmailqueue",
    "taps",
    "envrules",
    "dane",
    "eai",
    "bind",
    "qmtp",
    "srs",
    "bounce",
    "quota",
]
USUAL_NAMES = {25: "smtp", 587: "submission", 465: "submissions"}
BADMAIL_FILES = [
    "badhelo",
    "badhelonorelay",
    "badhost",
    "badip",
    "badmailfromnorelay",
    "badmailfrom-unknown",
    "badmailpatterns",
    "badmailto",
    "badmailtonorelay",
    "badrcptto",
    "badrcpttonorelay",
    "badrcptpatterns",
    "morebadrcptto",
    "morebadrcptto.cdb",
    "blackholedrcpt",
    "blackholedsender",
    "blackholedpatterns",
    "blackholedrcptpatterns",
    "goodmailfrom",
]
BADMAIL_NUMBERS = ("mfcheck", "rejectnullsenders", "rejectrelaytest")
BADMAIL_VARIABLES = [
    "MFCHECK",
    "REJECTNULLSENDERS",
    "RELAYREJ",
    "BADHELOCHECK",
    "BADHOSTCHECK",
    "BADIPCHECK",
    "BLACKHOLEDRCPT",
    "BLACKHOLEDSENDER",
    "GMFCHECK",
]
RCPTCHECK_LISTS = [
    "validrcptto",
    "morevalidrcptto",
    "morevalidrcptto.cdb",
    "goodrcptto",
    "goodrcptpatterns",
    "chkrcptdomains",
    "chksenderdomains",
]
# The lists and limits that hold for clients that may relay as well.
RCPTCHECK_LIMITS = ("morebadrcptto", "morebadrcptto.cdb", "maxrcpt", "brtlimit", "maxrecipients")
RCPTCHECK_VARIABLES = ("VALIDRCPTTO_CDB", "CHECKRECIPIENT", "MAXRCPT", "BRTLIMIT", "MAXRECIPIENTS")
DELAYS = ("SMTPD_GREETDELAY", "GREETDELAY", "TARPITCOUNT", "TARPITDELAY")
QUEUE_VARIABLES = {
    "surblqueue": "SURBLQUEUE", "surblfilter": "SURBLQUEUE", "qmail-dkim": "DKIMQUEUE", "qmail-dk": "DKQUEUE",
}  # fmt: skip


@dataclass
class Profile:
    """A listener as a profile, or a role. `needs` are the plugins with the reason for each; `settings` are theirs in TOML."""

    name: str
    listen: list[str] = field(default_factory=list)
    tls: str = "none"
    auth: str = "none"
    needs: dict[str, str] = field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    services: list[str] = field(default_factory=list)
    listener: Listener | None = None
    clear_auth: bool = False

    @property
    def port(self) -> int:
        return int(self.listen[0].rpartition(":")[2]) if self.listen else 0

    def ordered(self) -> list[str]:
        return sorted(self.needs, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


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
        return self.is_fork("SGITJL") or bool(self.survey.says("qmail-smtpd", *words))

    @property
    def _tls_switched_off(self) -> bool:
        off = self.environment.get("DISABLETLS")
        if off is not None and off != "0":
            return True
        return self.set("DENY_TLS") or (self.is_fork("I") and not self.set("STARTTLS"))

    @cached_property
    def implicit(self) -> bool:
        if self.step.name == "sslserver" and "n" not in self.step.options:
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
        forced = forced or (self.is_fork("JI") and self.set("FORCE_TLS") and self.environment["FORCE_TLS"] != "0")
        return "required" if forced or (self.auth == "required" and self.auth_needs_tls) else "starttls"

    @property
    def _ucspi_tls(self) -> bool:
        wrapped = self.launch.chain.find("fixsmtpio", "authup") or self.survey.says(
            "qmail-smtpd", "SSLCTLFD", "UCSPITLS"
        )
        return self.step.name == "sslserver" and self.set("UCSPITLS") and bool(wrapped)

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
        return self.is_fork("S") or bool(self.survey.says("qmail-smtpd", "SMTPAUTH"))

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
                if name in ("", "qmail-queue"):
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


# -- plugins of a listener: one function each, returning the reason or ""


def _ipv6(one: Listener) -> str:
    return "listens on IPv6" if (one.address or "").startswith("[") else ""


def _size(one: Listener) -> str:
    return "the fork announces SIZE" if one.is_fork("SGJTI") and one.server.name == "qmail-smtpd" else ""


def _tls(one: Listener) -> str:
    return f"TLS is {one.tls}" if one.tls != "none" else ""


def _auth(one: Listener) -> str:
    return f"AUTH is {one.auth}" if one.auth != "none" else ""


def _popauth(one: Listener) -> str:
    if one.launch.chain.find("relay-ctrl-check"):
        return "relay-ctrl-check"
    return "CHECKRELAY" if one.is_fork("I") and one.set("CHECKRELAY") else ""


def _tarpit(one: Listener) -> str:
    for name in DELAYS:
        if any(value.strip() not in ("", "0") for value in one.values(name)):
            return name
    file = next((name for name in ("greetdelay", "tarpitcount") if one.reads(name) and one.survey.number(name)), "")
    return f"control/{file}" if file else "spamdyke" if one.spamdyke.get("greeting-delay-secs", "0") != "0" else ""


def _acl(one: Listener) -> str:
    files = ("policy", "accesslist", "hostaccess", "relayclients", "relaydomains", "relaymailfrom")
    return next((f"control/{name}" for name in files if one.reads(name) and one.survey.has(name)), "")


def _dnsbl(one: Listener) -> str:
    if one.launch.chain.find("rblsmtpd"):
        return "rblsmtpd"
    if "dns-blacklist-entry" in one.spamdyke:
        return "spamdyke"
    if one.auth == "required":
        return ""
    if one.reads("rbllist") and one.survey.has("rbllist") and one.set("RBL"):
        return "control/rbllist"
    return "control/dnsbllist" if one.reads("dnsbllist") and one.survey.lines("dnsbllist") else ""


def _greylist(one: Listener) -> str:
    wrapper = one.launch.chain.find("jgreylist", "greylite", "qgreylist")
    if wrapper:
        return wrapper.name
    if one.spamdyke.get("graylist-level", "none") not in ("none", "") or "graylist-dir" in one.spamdyke:
        return "spamdyke"
    return "GREYIP" if one.is_fork("I") and one.environment.get("GREYIP") else ""


def _badmail(one: Listener) -> str:
    survey = one.survey
    for name in BADMAIL_FILES:
        if one.reads(name) and (survey.lines(name) or (name.endswith(".cdb") and survey.has(name))):
            return f"control/{name}"
    if one.is_fork("SGTJ") and survey.lines("badmailfrom"):
        return "control/badmailfrom"
    for name in BADMAIL_NUMBERS:
        if one.reads(name) and survey.number(name):
            return f"control/{name}"
    return next((name for name in BADMAIL_VARIABLES if any(v not in ("", "0") for v in one.values(name))), "")


def _spf(one: Listener) -> str:
    if one.auth == "required":
        return ""
    values = [value for value in one.values("SPFBEHAVIOR") if value[:1].isdecimal() and value[:1] != "0"]
    if values:
        return "SPFBEHAVIOR"
    readable = one.reads("spfbehavior") and (one.is_fork("SIJT") or one.survey.says("qmail-smtpd", "spfbehavior"))
    return "control/spfbehavior" if readable and one.survey.number("spfbehavior") else ""


def _rcptcheck(one: Listener) -> str:
    if chkuser(one):
        return chkuser(one)
    if any("overlimit" not in value and value for value in one.values("RCPTCHECK")) and not one.is_fork("L"):
        return "RCPTCHECK"
    for name in RCPTCHECK_LISTS:
        if one.reads(name) and one.survey.has(name) and one.auth != "required":
            return f"control/{name}"
    for name in RCPTCHECK_LIMITS:
        if one.reads(name) and (one.survey.number(name) or (name.startswith("more") and one.survey.has(name))):
            return f"control/{name}"
    return next((name for name in RCPTCHECK_VARIABLES if any(v not in ("", "0") for v in one.values(name))), "")


def chkuser(one: Listener) -> str:
    """Return what switches chkuser on, "" where it is off."""
    if any(value.strip().upper() not in ("", "NONE") for value in one.values("CHKUSER_START")):
        return "CHKUSER_START"
    limits = one.values("CHKUSER_RCPTLIMIT") or one.values("CHKUSER_WRONGRCPTLIMIT")
    return "CHKUSER_RCPTLIMIT" if one.is_fork("T") and limits else ""


def _ratelimit(one: Listener) -> str:
    if any("overlimit" in value for value in one.values("RCPTCHECK")):
        return "RCPTCHECK"
    return "RATELIMIT_DIR" if one.set("RATELIMIT_DIR") else ""


def _spp(one: Listener) -> str:
    survey = one.survey
    file = one.environment.get("SPPCONFFILE", "control/smtpplugins")
    text = survey.text_of(file if file.startswith("/") else f"{survey.home}/{file}")
    if not any(line.strip() and not line.startswith(("#", "[")) for line in text.splitlines()):
        return ""
    if one.is_fork("S"):
        return "ENABLE_SPP" if one.on("ENABLE_SPP") else ""
    has_patch = survey.says("qmail-smtpd", "NOSPP", "smtpplugins", "qmail-spp")
    return file if has_patch and not one.set("NOSPP") else ""


def _dkim(one: Listener) -> str:
    found = next((p for p in one.queue_programs if chains.base(p.split()[0]) in ("qmail-dkim", "qmail-dk")), "")
    if found:
        return found
    return next((name for name in ("DKIMVERIFY", "DKIMSIGN", "DKVERIFY", "DKSIGN") if one.values(name)), "")


def _surbl(one: Listener) -> str:
    inside = any(chains.base(program.split()[0]).startswith("surbl") for program in one.queue_programs)
    return "SURBL" if inside and one.set("SURBL") else ""


def _qmailqueue(one: Listener) -> str:
    return f"QMAILQUEUE: {one.external_queue}" if one.external_queue else ""


def _envrules(one: Listener) -> str:
    files = ("from.envrules", "rcpt.envrules", "auth.envrules")
    return next((f"control/{name}" for name in files if one.reads(name) and one.survey.has(name)), "")


def _batv(one: Listener) -> str:
    return "control/batvkey" if one.is_fork("I") and one.survey.has("batvkey") else ""


def _eai(one: Listener) -> str:
    return "SMTPUTF8" if one.is_fork("I") and one.set("SMTPUTF8") else ""


NEEDS = {
    "ipv6": _ipv6, "size": _size, "tls": _tls, "auth": _auth, "popauth": _popauth, "tarpit": _tarpit, "acl": _acl,
    "dnsbl": _dnsbl, "greylist": _greylist, "badmail": _badmail, "spf": _spf, "rcptcheck": _rcptcheck,
    "ratelimit": _ratelimit, "spp": _spp, "dkim": _dkim, "surbl": _surbl, "qmailqueue": _qmailqueue, "envrules": _envrules,
    "batv": _batv, "eai": _eai,
}  # fmt: skip
# What ofmipd does not do: it is qmail-smtpd that these patches change.
ONLY_SMTPD = set(NEEDS) - {"ipv6", "tls", "auth", "popauth", "dnsbl", "greylist", "qmailqueue", "dkim", "surbl"}


def profile_of(one: Listener) -> Profile:
    """Return the profile of a listener, without a name and settings."""
    found = Profile(
        "", [one.address] if one.address else [], one.tls, one.auth, listener=one, clear_auth=one.clear_auth
    )
    for name, why in NEEDS.items():
        if name in ONLY_SMTPD and one.server.name != "qmail-smtpd":
            continue
        reason = why(one)
        if reason:
            found.needs[name] = reason
    found.services.append(one.service.name)
    return found


# -- the other roles


def remote_needs(survey: Survey) -> dict[str, str]:
    """Return the plugins of outgoing delivery, each with the reason."""
    name = fork(survey)[0]
    letters = set(LETTERS[name])
    needs: dict[str, str] = {}
    if letters & set("SGITJL") or survey.says("qmail-remote", "tlshosts", "clientcert.pem"):
        needs["tls"] = "qmail-remote of this fork speaks TLS"
    logins = any(route_has_login(line) for _, line in survey.lines("smtproutes"))
    if (logins and letters & set("SGIN")) or (survey.lines("authsenders") and letters & set("SN")):
        needs["auth"] = "logins to relays"
    reason = _remote_dkim(survey)
    if reason:
        needs["dkim"] = reason
    files = [n for n in ("outgoingip", "domainbindings", "bindroutes", "helohostbyip") if survey.lines(n)]
    files = [n for n in files if (known := control_file(n)) and letters & set(known.forks)]
    if files:
        needs["bind"] = f"control/{files[0]}"
    if has_srs(survey):
        needs["srs"] = "control/srs_domain"
    if letters & set("I"):
        needs |= _remote_indimail(survey)
    return needs


def _remote_dkim(survey: Survey) -> str:
    for _, _, setting in survey.settings("QMAILREMOTE"):
        if "spawn-filter" in setting.value and "dkim" in (
            survey.controls["filterargs"].text if survey.has("filterargs") else ""
        ):
            return "control/filterargs"
    if survey.says("qmail-remote", "DKIMSIGN", "dkimsign", "Mail::DKIM"):
        return "bin/qmail-remote"
    if survey.folder("domainkeys") and any(
        rules.values("DKSIGN") or rules.values("DKIMSIGN") for rules in all_rules(survey)
    ):
        return "DKSIGN"
    return ""


def _remote_indimail(survey: Survey) -> dict[str, str]:
    needs = {}
    if any(True for _ in survey.settings("DANE_VERIFICATION")) or survey.has("tlsadomains"):
        needs["dane"] = "DANE_VERIFICATION"
    if survey.has("qmtproutes"):
        needs["qmtp"] = "control/qmtproutes"
    if survey.has("batvkey"):
        needs["batv"] = "control/batvkey"
    if any(True for _ in survey.settings("DKIMSIGN")) or survey.has("dkimkeys"):
        needs["dkim"] = "DKIMSIGN"
    return needs


def has_srs(survey: Survey) -> bool:
    patched = set(LETTERS[fork(survey)[0]]) & set("STDI") or survey.says("qmail-local", "srs_domain")
    return bool(patched) and survey.has("srs_domain") and bool(survey.controls["srs_domain"].line)


def queue_needs(survey: Survey) -> dict[str, str]:
    letters = set(LETTERS[fork(survey)[0]])
    for name in ("taps", "mailarchive", "extraqueue", "bigbrother"):
        known = control_file(name)
        reads = (known and letters & set(known.forks)) or survey.says("qmail-queue", f"control/{name}")
        if reads and survey.lines(name):
            return {"taps": f"control/{name}"}
    return {}


def local_needs(survey: Survey) -> dict[str, str]:
    needs = {"srs": "control/srs_domain"} if has_srs(survey) else {}
    if fork(survey)[0] == "sagredo":
        needs["quota"] = "qmail-local of this fork keeps Maildir++ quotas"
    return needs


def send_needs(survey: Survey) -> dict[str, str]:
    letters = set(LETTERS[fork(survey)[0]])
    for name in ("bouncemaxbytes", "bouncesubject", "bouncemessage", "bouncelifetime", "doublebouncemessage"):
        known = control_file(name)
        if survey.has(name) and known and letters & set(known.forks):
            return {"bounce": f"control/{name}"}
    return {}


ROLE_NEEDS = {"remote": remote_needs, "queue": queue_needs, "local": local_needs, "send": send_needs}
