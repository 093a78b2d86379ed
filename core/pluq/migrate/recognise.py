"""Which qmail this is: the fork, its patches and the programs around it, each with what showed it.

A fork is the one that was installed, not its ancestors, so the first of FORKS that fits is it. Patches are told by words in the
programs, by files that only they read, and by programs in the chains.
"""

from __future__ import annotations

from collections.abc import Callable

from pluq.migrate import chain as chains
from pluq.migrate.known import control_file
from pluq.migrate.rules import Rules
from pluq.migrate.survey import Survey, relative

Sign = Callable[[Survey], str]

LETTERS = {
    "indimail": "I", "qmail-ldap": "L", "jms1": "J", "sagredo": "S", "qmailtoaster": "T", "gentoo": "G", "notqmail": "QN",
    "s-qmail": "E", "netqmail": "Q", "qmail": "Q", "mini-qmail": "Q",
}  # fmt: skip


def words(program: str, *texts: str) -> Sign:
    return lambda survey: survey.says(program, *texts)


def control(*names: str) -> Sign:
    def sign(survey: Survey) -> str:
        found = next((name for name in names if survey.has(name) or survey.folder(name)), "")
        return f"control/{found}" if found else ""

    return sign


def used(*names: str) -> Sign:
    """A control file that this fork reads; a file that lies there unread shows nothing."""

    def sign(survey: Survey) -> str:
        letters = set(LETTERS[fork(survey)[0]])
        for name in names:
            known = control_file(name)
            if known and letters & set(known.forks) and (survey.has(name) or survey.folder(name)):
                return f"control/{name}"
        return ""

    return sign


def path(*paths: str) -> Sign:
    return lambda survey: next(
        (relative(one) for one in paths if survey.tree.entry(one).kind in ("file", "folder")), ""
    )


def chain(*names: str) -> Sign:
    return lambda survey: survey.uses(*names)


def environment(*names: str) -> Sign:
    def sign(survey: Survey) -> str:
        for name in names:
            for _, _, setting in survey.settings(name):
                return f"{relative(setting.path)}: {name}"
        return ""

    return sign


def rule(*names: str) -> Sign:
    """A variable in tcprules."""

    def sign(survey: Survey) -> str:
        for rules in all_rules(survey):
            for name in names:
                if rules.values(name):
                    return f"{relative(rules.source)}: {name}"
        return ""

    return sign


def program(*names: str) -> Sign:
    def sign(survey: Survey) -> str:
        return next((f"{relative(found)}" for name in names if (found := survey.program(name))), "")

    return sign


def first(*signs: Sign) -> Sign:
    return lambda survey: next((found for sign in signs if (found := sign(survey))), "")


def both(*signs: Sign) -> Sign:
    def sign(survey: Survey) -> str:
        found = [one(survey) for one in signs]
        return found[0] if all(found) else ""

    return sign


def all_rules(survey: Survey) -> list[Rules]:
    found: dict[str, Rules] = {}
    for _, launch in survey.launches:
        rules = survey.rules(launch)
        if rules is not None and rules.source:
            found.setdefault(rules.source, rules)
    return list(found.values())


def _gentoo_rules(survey: Survey) -> str:
    names = [name for name in survey.tree.names("/etc/tcprules.d") if name.startswith("tcp.qmail-")]
    return f"etc/tcprules.d/{names[0]}" if names else ""


def _mini(survey: Survey) -> str:
    queue = survey.tree.entry(f"{survey.home}/bin/qmail-queue")
    if queue.real.endswith("/qmail-qmqpc"):
        return "bin/qmail-queue is qmail-qmqpc"
    no_queue = not survey.queue_folders and not survey.program("qmail-send")
    return "control/qmqpservers, and no queue" if survey.has("qmqpservers") and no_queue else ""


FORKS: tuple[tuple[str, Sign], ...] = (
    (
        "indimail",
        first(
            lambda survey: "etc/indimail/control" if survey.home == "/etc/indimail" else "",
            words("qmail-smtpd", "indimail"),
            path("/etc/indimail/control", "/usr/libexec/indimail"),
            program("svctool"),
        ),
    ),
    (
        "qmail-ldap",
        first(control("ldapserver"), words("qmail-smtpd", "ldapserver", "qmail-ldap"), control("ldapbasedn")),
    ),
    ("jms1", first(words("qmail-smtpd", "AUTH_CDB", "QMAILSMTPD_HELP_VERSION"), environment("AUTH_CDB"))),
    (
        "sagredo",
        first(
            words("qmail-smtpd", "ENABLE_SPP", "sagredo.eu", "qlogenvelope"),
            environment("SURBLQUEUE", "RCPTCHECKRELAYCLIENT"),
        ),
    ),
    (
        "s-qmail",
        first(
            words("qmail-smtpd", "s/qmail", "sqmail", "mailformrules"),
            control("dkimdomains", "domaincerts", "tlsdestinations"),
            program("qmail-smtpam"),
        ),
    ),
    (
        "qmailtoaster",
        first(
            words("qmail-smtpd", "badloadertypes", "REPLY554", "BADMIMETYPE", "qmailtoaster", "QmailToaster"),
            control("badloadertypes", "badmimetypes", "badloadertypes.cdb", "badmimetypes.cdb"),
            rule("BADMIMETYPE", "BADLOADERTYPE"),
        ),
    ),
    ("gentoo", first(control("conf-common", "conf-smtpd"), path("/etc/env.d/99qmail"), _gentoo_rules)),
    ("mini-qmail", _mini),
    ("notqmail", first(words("qmail-smtpd", "notqmail"), words("qmail-send", "notqmail"))),
    ("netqmail", first(words("qmail-smtpd", "netqmail"), path("/var/qmail/doc/NETQMAIL"))),
    (
        "qmail",
        first(words("qmail-smtpd", "pobox.com/~djb/qmail.html"), program("qmail-smtpd"), path("/var/qmail/control")),
    ),
)


def _credentials(survey: Survey) -> str:
    lines = survey.lines("smtproutes")
    return next((f"control/smtproutes:{number}" for number, line in lines if route_has_login(line)), "")


def route_has_login(line: str) -> bool:
    """Say whether a line of smtproutes has a login: relay|user|password, or relay user password."""
    relay = line.partition(":")[2]
    return relay.count("|") >= 2 or len(relay.split()) >= 3


def _regex_lists(survey: Survey) -> str:
    return used("badmailto", "badmailtonorelay", "badrcpttonorelay", "badhelo", "badmailfromnorelay")(survey)


def _split_todo(survey: Survey) -> str:
    return next((f"{relative(queue)}/todo is split" for queue in survey.queue_folders if survey.split_todo(queue)), "")


def _many_queues(survey: Survey) -> str:
    return f"{len(survey.queue_folders) - 1} queues" if len(survey.queue_folders) > 2 else ""


def _rcptcheck(survey: Survey) -> str:
    for _, _, setting in survey.settings("RCPTCHECK"):
        if "overlimit" not in setting.value:
            return f"{relative(setting.path)}: RCPTCHECK"
    return program("qmail-rcptcheck")(survey)


def _overlimit(survey: Survey) -> str:
    for _, _, setting in survey.settings("RCPTCHECK"):
        if "overlimit" in setting.value:
            return f"{relative(setting.path)}: RCPTCHECK={setting.value}"
    return first(program("rcptcheck-overlimit"), used("relaylimits"))(survey)


def _checker(*names: str) -> Sign:
    """A checkpassword program in some chain."""

    def sign(survey: Survey) -> str:
        for service, launch in survey.launches:
            for step in launch.chain.steps:
                found = [chains.base(word) for word in (step.path, *step.arguments) if chains.base(word) in names]
                if found:
                    return f"{relative(service.run)}: {found[0]}"
        return ""

    return sign


def _asks_for_passwords(survey: Survey) -> str:
    """A qmail-smtpd with a checkpassword program: stock qmail takes no arguments."""
    for service, launch in survey.launches:
        server = launch.chain.server
        if server is not None and server.name == "qmail-smtpd" and chains.checker(server)[1]:
            return f"{relative(service.run)}: {server.name} {server.arguments[0]}"
    return ""


def _daemontools(survey: Survey) -> str:
    found = next((service.run for service in survey.services if service.script == "run"), "")
    return relative(found) if found else ""


def _dotqmail(word: str) -> Sign:
    def sign(survey: Survey) -> str:
        for name in survey.tree.names(survey.alias):
            if name.startswith(".qmail") and word in survey.text_of(f"{survey.alias}/{name}"):
                return relative(f"{survey.alias}/{name}")
        return ""

    return sign


def _qmailqueue(word: str) -> Sign:
    def sign(survey: Survey) -> str:
        for name in ("QMAILQUEUE", "DKIMQUEUE", "SURBLQUEUE", "DKQUEUE"):
            for _, _, setting in survey.settings(name):
                if word in setting.value:
                    return f"{relative(setting.path)}: {name}={setting.value}"
            for rules in all_rules(survey):
                if any(word in value for value in rules.values(name)):
                    return f"{relative(rules.source)}: {name}"
        return ""

    return sign


def _qregex(survey: Survey) -> str:
    if fork(survey)[0] == "indimail":
        return first(control("qregex"), environment("QREGEX"))(survey)
    return first(words("qmail-smtpd", "control/badmailto", "badmailfromnorelay", "matches pattern"), _regex_lists)(
        survey
    )


PATCHES: tuple[tuple[str, Sign], ...] = (
    (
        "smtp-auth",
        first(
            words("qmail-smtpd", "SMTPAUTH", "AUTH LOGIN", "AUTH PLAIN", "AUTH CRAM", "AUTH_CDB"),
            environment("SMTPAUTH", "REQUIRE_AUTH", "REQUIREAUTH", "SECURE_AUTH"),
            _asks_for_passwords,
            words("qmail-smtpd", "FORCEAUTHMAILFROM"),
        ),
    ),
    (
        "starttls",
        first(
            words("qmail-smtpd", "control/servercert.pem", "STARTTLS", "FORCETLS", "FORCE_TLS", "ready for tls"),
            words("qmail-remote", "tlshosts", "clientcert.pem"),
            used("smtpcert"),
        ),
    ),
    ("ucspi-tls", first(environment("UCSPITLS"), words("qmail-smtpd", "SSLCTLFD", "UCSPITLS"))),
    ("spf", first(words("qmail-smtpd", "spfbehavior", "SPFBEHAVIOR"), used("spfbehavior"))),
    (
        "srs",
        first(
            words("qmail-local", "srs_domain"),
            words("qmail-inject", "QMAILINJECT_FORCE_SRS"),
            used("srs_domain"),
            program("srsfilter"),
        ),
    ),
    (
        "dkim",
        first(
            program("qmail-dkim", "dkim"),
            environment("DKIMSIGN", "DKIMVERIFY"),
            words("qmail-queue", "DKIMSIGN"),
            words("qmail-remote", "DKIMSIGN", "dkimsign", "Mail::DKIM"),
        ),
    ),
    (
        "domainkeys",
        first(program("qmail-dk"), environment("DKSIGN", "DKVERIFY", "DKQUEUE"), rule("DKSIGN", "DKVERIFY", "DKQUEUE")),
    ),
    ("qregex", _qregex),
    ("badrcptto", first(words("qmail-smtpd", "badrcptto", "BAD RCPT TO"), used("badrcptto", "morebadrcptto"))),
    ("validrcptto", first(words("qmail-smtpd", "validrcptto", "VALIDRCPTTO"), used("validrcptto", "validrcptto.cdb"))),
    ("rcptcheck", first(words("qmail-smtpd", "RCPTCHECK"), _rcptcheck)),
    (
        "chkuser",
        first(words("qmail-smtpd", "CHKUSER", "chkuser"), environment("CHKUSER_START"), rule("CHKUSER_RCPTLIMIT")),
    ),
    ("spp", first(words("qmail-smtpd", "ENABLE_SPP", "NOSPP", "smtpplugins"), used("smtpplugins"))),
    ("maxrcpt", first(words("qmail-smtpd", "control/maxrcpt", "MAXRCPT"), used("maxrcpt"))),
    ("brtlimit", first(words("qmail-smtpd", "brtlimit", "BRTLIMIT"), used("brtlimit"))),
    ("mfcheck", first(words("qmail-smtpd", "mfcheck", "MFCHECK"), used("mfcheck"))),
    ("dnsbl", first(words("qmail-smtpd", "dnsbllist", "DNSBLLIST", "rbllist"), used("dnsbllist", "rbllist"))),
    ("surbl", first(program("surblfilter", "surblqueue"), environment("SURBL"), used("surbldomain"))),
    ("taps", first(words("qmail-queue", "control/taps"), used("taps", "mailarchive", "bigbrother"))),
    (
        "greetdelay",
        first(words("qmail-smtpd", "GREETDELAY", "greetdelay"), environment("SMTPD_GREETDELAY", "GREETDELAY")),
    ),
    ("overlimit", _overlimit),
    ("smtproutes-auth", first(_credentials, words("qmail-remote", "authsenders"), used("authsenders"))),
    ("big-todo", _split_todo),
    ("envrules", used("from.envrules", "rcpt.envrules", "auth.envrules", "fromd.envrules", "bounce.envrules")),
    (
        "greylist",
        first(
            environment("GREYIP"),
            chain("jgreylist", "greylite", "qmail-greyd", "qgreylist", "greydaemon"),
            used("greylist.white"),
        ),
    ),
    ("dane", first(environment("DANE_VERIFICATION"), used("tlsadomains"), chain("qmail-daned"))),
    ("batv", first(used("batvkey"), environment("BATVKEY"))),
    ("eai", first(words("qmail-smtpd", "SMTPUTF8"), environment("SMTPUTF8"))),
    ("multi-queue", first(_many_queues, environment("QUEUE_COUNT", "QUEUE_BASE"), program("qmail-multi"))),
)

AROUND: tuple[tuple[str, Sign], ...] = (
    ("daemontools", _daemontools),
    ("tcpserver", chain("tcpserver")),
    ("sslserver", chain("sslserver")),
    ("rblsmtpd", chain("rblsmtpd")),
    ("spamdyke", first(chain("spamdyke"), path("/etc/spamdyke/spamdyke.conf", "/etc/spamdyke.conf"))),
    ("simscan", first(_qmailqueue("simscan"), both(program("simscan"), control("simcontrol")))),
    ("qmail-scanner", first(_qmailqueue("qmail-scanner"), program("qmail-scanner-queue.pl", "qmail-scanner-queue"))),
    ("acceptutils", chain("authup", "reup", "fixsmtpio")),
    ("fastforward", first(_dotqmail("fastforward"), program("fastforward"))),
    ("checkpassword", _checker("checkpassword")),
    ("cmd5checkpw", _checker("cmd5checkpw")),
    ("relay-ctrl", chain("relay-ctrl-chdir", "relay-ctrl-check", "relay-ctrl-allow")),
    ("vpopmail", first(path("/home/vpopmail", "/var/vpopmail"), _checker("vchkpw"))),
)


def fork(survey: Survey) -> tuple[str, str]:
    """Return the fork and what showed it."""
    return next(((name, found) for name, sign in FORKS if (found := sign(survey))), ("qmail", "control"))


def recognise(survey: Survey) -> list[dict[str, str]]:
    """Return what is installed, each with what showed it; the fork first."""
    name, by = fork(survey)
    found = [{"id": name, "by": by}]
    for other, sign in (*PATCHES, *AROUND):
        shown = sign(survey)
        if shown:
            found.append({"id": other, "by": shown})
    return found
