"""Each fork's own rules for TLS and AUTH, as one table of small sites."""

from __future__ import annotations

import pytest

CERT = "-----BEGIN PRIVATE KEY-----\nA\n-----END PRIVATE KEY-----\n"
RUN = "var/qmail/supervise/{}/run"
SMTPD = "/var/qmail/bin/qmail-smtpd"


def script(*exports: str, port: str = "25", tail: str = "", listener: str = "tcpserver", front: str = "") -> str:
    lines = ["#!/bin/sh", *(f"export {one}" for one in exports)]
    return "\n".join(
        [*lines, f"exec {listener} -x /etc/tcp.smtp.cdb -u 7791 -g 2108 0 {port} {front} {SMTPD} {tail} 2>&1", ""]
    )


CHECK = "/bin/checkpassword /bin/true"
WITH_CERT = {"var/qmail/control/servercert.pem": CERT}

# fork, files, script, expected tls, expected auth, AUTH in clear
TABLE = [
    ("qmail", {}, script(), "none", "none", False),
    ("netqmail", WITH_CERT, script(), "none", "none", False),
    ("netqmail", {}, script("SMTPAUTH=''", tail=CHECK), "none", "offered", True),
    ("sagredo", WITH_CERT, script(), "starttls", "none", False),
    ("sagredo", WITH_CERT, script("DISABLETLS=1"), "none", "none", False),
    ("sagredo", WITH_CERT, script("SMTPAUTH='!'", tail=CHECK), "required", "required", False),
    ("sagredo", WITH_CERT, script("SMTPAUTH='!'", "FORCETLS=0", tail=CHECK), "starttls", "required", True),
    ("sagredo", WITH_CERT, script("SMTPAUTH=''", tail=CHECK), "starttls", "offered", False),
    ("sagredo", WITH_CERT, script("SMTPAUTH='-'", tail=CHECK), "starttls", "none", False),
    ("sagredo", WITH_CERT, script("SMTPAUTH='cram'", "FORCETLS=0", tail=CHECK), "starttls", "offered", False),
    ("sagredo", WITH_CERT, script("SMTPS=1", "SMTPAUTH='!'", tail=CHECK), "implicit", "required", False),
    ("sagredo", {}, script("SMTPAUTH='!'"), "none", "required", False),
    ("qmailtoaster", WITH_CERT, script(tail=CHECK), "starttls", "offered", True),
    ("qmailtoaster", WITH_CERT, script("REQUIRE_AUTH=1", tail=CHECK), "starttls", "required", True),
    ("jms1", WITH_CERT, script(tail=f"mail.example.org {CHECK}"), "starttls", "offered", False),
    ("jms1", WITH_CERT, script("ALLOW_INSECURE_AUTH=1", tail=f"mail.example.org {CHECK}"), "starttls", "offered", True),
    ("jms1", WITH_CERT, script("FORCE_TLS=1", "REQUIRE_AUTH=1", tail=f"h {CHECK}"), "required", "required", False),
    ("jms1", WITH_CERT, script("DENY_TLS=1"), "none", "none", False),
    ("indimail", {}, script(tail=f"mail.example.org {CHECK}"), "none", "offered", True),
    ("indimail", WITH_CERT, script("STARTTLS=''", "SECURE_AUTH=''", tail=f"h {CHECK}"), "starttls", "offered", False),
    (
        "indimail",
        WITH_CERT,
        script("STARTTLS=''", "FORCE_TLS=''", "REQUIREAUTH=''", tail=f"h {CHECK}"),
        "required",
        "required",
        False,
    ),
    ("qmail-ldap", WITH_CERT, script("SMTPAUTH=TLSREQUIRED"), "starttls", "offered", False),
    ("qmail-ldap", WITH_CERT, script("SMTPAUTH=''", "AUTHREQUIRED=''"), "starttls", "required", True),
    (
        "notqmail",
        WITH_CERT,
        script("UCSPITLS=''", listener="sslserver -n", front="fixsmtpio"),
        "starttls",
        "none",
        False,
    ),
    (
        "notqmail",
        WITH_CERT,
        script("UCSPITLS='!'", listener="sslserver -n", front="fixsmtpio"),
        "required",
        "none",
        False,
    ),
    ("notqmail", WITH_CERT, script(listener="sslserver"), "implicit", "none", False),
]


@pytest.mark.parametrize(("fork", "files", "run", "tls", "auth", "clear"), TABLE)
def test_tls_and_auth_follow_the_forks_own_rules(migrate, fork, files, run, tls, auth, clear):
    found = migrate({**files, RUN.format("qmail-smtpd"): run}, fork)
    profile = found.profile(25)
    assert (profile["tls"], profile["auth"]) == (tls, auth)
    assert ("auth-without-tls" in found.warnings) is clear
    assert fork in found.recognised


@pytest.mark.parametrize(
    ("address", "listen"),
    [
        ("0 25", "0.0.0.0:25"),
        ("192.0.2.7 smtp", "192.0.2.7:25"),
        ("::0 25", "[::]:25"),
        ("2001:db8::7 25", "[2001:db8::7]:25"),
        ("gate.example.org 25", "192.0.2.9:25"),
    ],
)
def test_the_address_is_the_listeners_own(migrate, address, listen):
    run = f"#!/bin/sh\nexec tcpserver {address} {SMTPD}\n"
    found = migrate({RUN.format("smtp"): run, "etc/hosts": "192.0.2.9 gate.example.org gate\n"})
    assert found.profile(25)["listen"] == [listen]


def test_listeners_that_need_the_same_share_a_profile(migrate):
    scripts = {RUN.format(f"smtp{n}"): f"#!/bin/sh\nexec tcpserver -u 7791 192.0.2.{n} 25 {SMTPD}\n" for n in (1, 2)}
    assert migrate(scripts).profile(25)["listen"] == ["192.0.2.1:25", "192.0.2.2:25"]


def test_an_envdir_is_an_environment(migrate):
    files = {
        RUN.format("smtp"): f"#!/bin/sh\nexec envdir ./env sh -c '\nexec tcpserver 0 $PORT {SMTPD} h {CHECK}\n'\n",
        "var/qmail/supervise/smtp/env/PORT": "2525\n",
        "var/qmail/supervise/smtp/env/SMTPAUTH": "!\n",
        "var/qmail/supervise/smtp/env/FORCETLS": "",
    }
    found = migrate(files, "sagredo")
    assert found.profile(2525)["auth"] == "required"
    sources = {item["source"] for item in found.report["items"] if item["name"] == "SMTPAUTH"}
    assert sources == {"var/qmail/supervise/smtp/env/SMTPAUTH"}


def test_indimails_home_and_services_are_found(migrate):
    files = {
        "etc/indimail/control/me": "mail.example.org\n",
        "etc/indimail/control/rcpthosts": "example.org\n",
        "etc/indimail/control/batvkey": "made-up-secret\n",
        "etc/indimail/certs/servercert.pem": CERT,
        "usr/sbin/qmail-smtpd": "indimail",
        "service/qmail-smtpd.25/run": f"#!/bin/sh\nexec envdir -c variables sh -c 'exec tcpserver 0 25 /usr/sbin/qmail-smtpd h {CHECK}'\n",
        "service/qmail-smtpd.25/variables/STARTTLS": "\n",
        "service/qmail-smtpd.25/variables/GREYIP": "127.0.0.1\n",
        "etc/passwd": "root:x:0:0::/root:/bin/sh\nqmaild:x:1:1::/etc/indimail:/bin/sh\n",
    }
    found = migrate(files, "indimail")
    assert {"indimail", "batv", "greylist"} <= found.recognised
    assert found.profile(25)["tls"] == "starttls"
    assert {"greylist", "batv", "tls", "auth"} <= set(found.profile(25)["plugins"])
    assert "made-up-secret" not in str(found.report)


def test_mini_qmail_has_no_port_and_no_postmaster_to_miss(migrate):
    files = {
        "var/qmail/bin/qmail-queue": "-> qmail-qmqpc",
        "var/qmail/bin/qmail-qmqpc": "",
        "var/qmail/bin/qmail-smtpd": "",
        "var/qmail/control/qmqpservers": "192.0.2.5\n",
    }
    found = migrate(files)
    assert "mini-qmail" in found.recognised
    assert not [one for one in found.report["profiles"] if one["listen"]]
    assert found.status("control", "qmqpservers") == "carried"


def test_spamdykes_settings_are_read_and_its_loss_is_told(migrate):
    files = {
        RUN.format(
            "smtp"
        ): f"#!/bin/sh\nexec tcpserver -u 7791 0 25 spamdyke --config-file /etc/spamdyke.conf {SMTPD} /home/vpopmail/bin/vchkpw /bin/true\n",
        "etc/spamdyke.conf": "dns-blacklist-entry=zen.spamhaus.org\ndns-blacklist-entry=dnsbl.sorbs.net\ngraylist-level=always\n",
    }
    found = migrate(files, "qmailtoaster")
    assert {"dnsbl", "greylist"} <= set(found.profile(25)["plugins"])
    assert "spamdyke" in found.details("wrapper-not-carried")
    assert "sorbs" in found.details("dead-dnsbl")
    assert found.status("service", "spamdyke.conf") == "not_carried"


def test_inetd_is_a_listener(migrate):
    line = "smtp stream tcp nowait qmaild /var/qmail/bin/tcp-env tcp-env /var/qmail/bin/qmail-smtpd\n"
    assert migrate({"etc/inetd.conf": line}).profile(25)["listen"] == ["0.0.0.0:25"]


def test_several_queues_must_be_drained(migrate):
    files = {f"var/qmail/queue/queue{n}/mess/0/1{n}": "x" for n in (1, 2)}
    found = migrate(files, "indimail")
    assert "multi-queue" in found.recognised
    assert "2 messages" in found.details("queue-not-empty")
    assert "queue-layout" in found.warnings


def test_what_ratelimit_counts_no_program_counts_again(migrate):
    exports = ("CHKUSER_START=ALWAYS", "RCPTCHECK=/var/qmail/bin/rcptcheck-overlimit", "RCPTCHECKRELAYCLIENT=1")
    found = migrate({RUN.format("smtp"): script(*exports)}, "sagredo")
    assert {"rcptcheck", "ratelimit"} <= set(found.profile(25)["plugins"])
    assert "rcptcheck-overlimit" not in found.report["toml"]
    assert found.status("env", "RCPTCHECK") == "changed"


def test_an_other_rcptcheck_is_kept(migrate):
    found = migrate({RUN.format("smtp"): script("RCPTCHECK=/opt/check", "RCPTCHECKRELAYCLIENT=1")}, "sagredo")
    assert 'rcptcheck.program = "/opt/check"' in found.report["toml"]
    assert "rcptcheck.program_for_relays = true" in found.report["toml"]


def test_who_knows_smtputf8_goes_on_with_it(migrate):
    programs = {
        f"var/qmail/bin/{name}": "ENABLE_SPP FORCETLS SMTPAUTH SMTPUTF8" for name in ("qmail-smtpd", "qmail-remote")
    }
    run = {RUN.format("smtp"): script()}
    found = migrate(programs | run, "sagredo")
    assert "eai" in found.profile(25)["plugins"]
    assert "eai" in found.role("remote")["plugins"]
    assert "eai" not in migrate(run, "sagredo").profile(25)["plugins"]


def test_a_value_that_is_no_utf_8_stays_out_of_the_toml(migrate):
    run = script("QMAILQUEUE=/opt/scan").encode().replace(b"/opt/scan", b"/opt/\xff")
    found = migrate({RUN.format("smtp"): run}, "sagredo")
    assert "qmailqueue" in found.profile(25)["plugins"]
    assert "x-toml" not in found.warnings


def test_indimails_switches_of_auth_are_settings(migrate):
    exports = ("REQUIREAUTH=''", "ANTISPOOFING=''", "DISABLE_AUTH_LOGIN=''", "DISABLE_CRAM_MD5=''")
    text = migrate({RUN.format("smtp"): script(*exports, tail=f"h {CHECK}")}, "indimail").report["toml"]
    assert 'auth.mechanisms = ["PLAIN"]' in text
    assert "auth.force_sender = true" in text


def test_what_switches_nothing_is_unused(migrate):
    found = migrate({**WITH_CERT, RUN.format("smtp"): script("DENY_TLS=0", "FORCE_TLS=0", tail=f"h {CHECK}")}, "jms1")
    assert found.profile(25)["tls"] == "starttls"
    assert [found.status("env", name) for name in ("DENY_TLS", "FORCE_TLS")] == ["unused", "unused"]
    assert "contradiction" not in found.warnings
