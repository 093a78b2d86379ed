"""The same mail systems in other surroundings: with users who log in, with filters, on a slow disk, with names that are synced.

Each variant has the name of its system, so that it stands in the same column. What both sides are given (certificate, judge of logins,
name server, keys) is the same.
"""

from __future__ import annotations

import atexit
import base64
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap

from bench.peers import DOMAIN, USERS, Peer, Pluq, Postfix

USER, PASSWORD = f"user@{DOMAIN}", "bench secret"
DOVECOT = "/usr/sbin/dovecot"
OPENDKIM = "/usr/sbin/opendkim"
POLICYD = "/usr/bin/policyd-spf"
STRACE = "/usr/bin/strace"
CHATTR = "/usr/bin/chattr"
NAME_SERVERS = {"pluq": "127.0.0.53", "postfix": "127.0.0.54"}
SIGNED_DOMAIN = "load.example"
# Neither side asks for the name of a client: nobody has one here.
NO_NAMES_OF_CLIENTS = {"smtpd_peername_lookup": "no"}
# For documentation (RFC 5737): nobody's. Whoever connects to the first comes from the second.
SERVER, CLIENT = "198.51.100.7", "198.51.100.8"
ELSEWHERE = (("address", f"{CLIENT}/32", "dev", "lo"), ("route", "local", SERVER, "dev", "lo", "src", CLIENT))
SLOW_MICROSECONDS = 5000
SLOW_CALLS = "fsync,fdatasync,syncfs,sync_file_range"


# -- submission: TLS, and Dovecot says who may log in


def start_dovecot(peer: Peer) -> str:
    """Start a private Dovecot that only judges logins; return the path of its socket."""
    folder = f"{peer.folder}/dovecot"
    os.makedirs(folder, mode=0o755)
    with open(f"{folder}/users", "w") as file:
        file.write(f"{USER}:{{PLAIN}}{PASSWORD}\n")
    with open(f"{folder}/dovecot.conf", "w") as file:
        file.write(
            textwrap.dedent(f"""\
                base_dir = {folder}/run
                state_dir = {folder}/state
                log_path = {folder}/log
                protocols =
                ssl = no
                default_internal_user = dovecot
                default_internal_group = dovecot
                default_login_user = dovecot
                auth_mechanisms = plain
                passdb {{
                  driver = passwd-file
                  args = {folder}/users
                }}
                userdb {{
                  driver = static
                  args = uid=65534 gid=65534 home=/nonexistent
                }}
                service auth {{
                  chroot =
                  client_limit = 2000
                  unix_listener {folder}/auth-client {{
                    mode = 0666
                  }}
                }}
                service anvil {{
                  chroot =
                }}
                """)
        )
    peer.launch([DOVECOT, "-F", "-c", f"{folder}/dovecot.conf"])
    peer.wait_for(f"{folder}/auth-client")
    return f"{folder}/auth-client"


class PluqSubmission(Pluq):
    """Plugins tls and auth, both required."""

    def start(self) -> None:
        judge = start_dovecot(self)
        self.profile = textwrap.dedent(f"""\
            plugins = ["tls", "auth"]
            tls.required = true
            auth.required = true
            auth.dovecot = "{judge}"
            """)
        self.make_home()
        self.tool("tls", "self-signed", "--name", f"mail.{DOMAIN}")
        self.serve()


class PostfixSubmission(Postfix):
    """smtpd with TLS and SASL required, as Debian's submission service; the certificate is of the same kind."""

    def start(self) -> None:
        self.judge = start_dovecot(self)
        self.pem = f"{self.folder}/server.pem"
        maker = Pluq(f"{self.folder}/certificate", 0)
        maker.make_home()
        maker.tool("tls", "self-signed", "--name", f"mail.{DOMAIN}")
        shutil.copy(f"{maker.home}/control/servercert.pem", self.pem)
        os.chmod(self.pem, 0o600)
        super().start()

    def more_settings(self) -> dict[str, str]:
        return {
            "smtpd_tls_chain_files": self.pem,
            "smtpd_tls_security_level": "encrypt",
            "smtpd_tls_auth_only": "yes",
            "smtpd_sasl_auth_enable": "yes",
            "smtpd_sasl_type": "dovecot",
            "smtpd_sasl_path": self.judge,
            "smtpd_relay_restrictions": "permit_sasl_authenticated,reject",
        }


# -- the filters of a site's MX, on a message with a good signature


def start_names(peer: Peer) -> None:
    """Start the name server and make it the one of this peer's processes, who get a view of /etc of their own."""
    move(peer)
    with open(f"{peer.folder}/names", "w") as file:
        file.write(f'{SIGNED_DOMAIN} TXT "v=spf1 ip4:{CLIENT} -all"\n{SIGNED_DOMAIN} A 192.0.2.1\n')
        file.write(f"mx._domainkey.{SIGNED_DOMAIN} TXT {key_record(peer)}\n")
    with open(f"{peer.folder}/resolv.conf", "w") as file:
        file.write(f"nameserver {NAME_SERVERS[peer.name]}\n")
    peer.helpers.append(
        subprocess.Popen([sys.executable, "-m", "bench.names", NAME_SERVERS[peer.name], "53", f"{peer.folder}/names"])
    )
    view = f'mount --bind {peer.folder}/resolv.conf /etc/resolv.conf && exec "$@"'
    peer.prefix = ("unshare", "--mount", "sh", "-c", view, "sh")


def move(peer: Peer) -> None:
    """Have a peer listen on an address that its clients do not come from, neither of them a loopback one: SPF lets this host itself pass unseen."""
    peer.host = SERVER
    for what, *words in ELSEWHERE:
        subprocess.run(["ip", what, "replace", *words], check=True)
    atexit.register(move_back)


def move_back() -> None:
    """Take both addresses away again."""
    for what, *words in reversed(ELSEWHERE):
        subprocess.run(["ip", what, "del", *words], check=False, stderr=subprocess.DEVNULL)


def key_record(peer: Peer) -> str:
    """Make the key that signs the load; return its record. The signed message is written to `signed`."""
    import dkim
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    message = (
        f"From: Load <sender@{SIGNED_DOMAIN}>\r\nTo: <{peer.address()}>\r\nSubject: the minutes of yesterday\r\n"
        "Date: Sat, 21 Nov 2026 13:00:00 +0000\r\nMessage-ID: <1@load.example>\r\n\r\n"
    ).encode()
    message += (b"The quick brown fox jumps over the lazy dog, and runs away.\r\n" * 70)[: 4096 - 2] + b"\r\n"
    signature = dkim.sign(message, b"mx", SIGNED_DOMAIN.encode(), pem, canonicalize=(b"relaxed", b"relaxed"))
    with open(peer.signed, "wb") as file:
        file.write((signature + message).replace(b"\r\n", b"\n"))
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    text = "v=DKIM1; k=rsa; p=" + base64.b64encode(public).decode()
    return " ".join(f'"{text[start : start + 250]}"' for start in range(0, len(text), 250))


class PluqFiltered(Pluq):
    """The default plugins of an MX, in an SMTP server for each processor. Clients on this machine may not relay, or nobody would check them."""

    profile = 'plugins = ["ipv6", "size", "tls", "spf", "dkim", "rcptcheck"]\nspf.behavior = 3\nworkers = 2\n'

    def start(self) -> None:
        start_names(self)
        self.make_home()
        self.tool("tls", "self-signed", "--name", f"mail.{DOMAIN}")
        self.serve()


class PostfixFiltered(Postfix):
    """Debian's postfix-policyd-spf-python and opendkim, which verifies."""

    def start(self) -> None:
        start_names(self)
        with open(f"{self.folder}/policyd.conf", "w") as file:
            file.write("debugLevel = 0\nHELO_reject = False\nMail_From_reject = Fail\nskip_addresses = 192.0.2.9/32\n")
        self.start_opendkim()
        super().start()

    def start_opendkim(self) -> None:
        path = f"{self.folder}/opendkim.conf"
        with open(path, "w") as file:
            file.write(
                f"Mode v\nSocket inet:{self.milter_port}@127.0.0.1\nInternalHosts 192.0.2.9\nSyslog no\nBackground no\n"
                f"Nameservers {NAME_SERVERS[self.name]}\nAuthservID mail.{DOMAIN}\nOversignHeaders From\n"
            )
        self.launch([OPENDKIM, "-f", "-x", path])
        self.wait_port(self.milter_port)

    def more_settings(self) -> dict[str, str]:
        return {
            "smtpd_recipient_restrictions": "check_policy_service unix:private/policyd-spf,permit",
            "smtpd_milters": f"inet:127.0.0.1:{self.milter_port}",
            "milter_default_action": "tempfail",
            **NO_NAMES_OF_CLIENTS,
        }

    def more_services(self) -> list[str]:
        argv = f"{POLICYD} {self.folder}/policyd.conf"
        return [f"policyd-spf unix - n n - 0 spawn user=nobody argv={argv}"]


class PostfixBare(Postfix):
    """Postfix without filters, beside those with; it gets signed messages as well."""

    name = "bare"

    def start(self) -> None:
        move(self)
        key_record(self)
        super().start()

    def more_settings(self) -> dict[str, str]:
        return NO_NAMES_OF_CLIENTS


# -- a disk whose every sync takes longer

# strace stops a process that was forked, and not executed, at every call until it makes a traced one. Each daemon of either side begins with this:
# without it the one that only forks (pluq) paid 1 ms a message for strace, the other 0.1.
FIRST_CALL = "setgroups"
UNDER_STRACE = (
    STRACE, "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "-e", f"trace={SLOW_CALLS},{FIRST_CALL}",
    "-e", f"inject={SLOW_CALLS}:delay_exit={SLOW_MICROSECONDS}",
)  # fmt: skip


class SlowPluq(Pluq):
    """Every sync takes 5 ms more."""

    under = UNDER_STRACE


class SlowPostfix(Postfix):
    """Every sync takes 5 ms more."""

    under = UNDER_STRACE


# -- local delivery that a power cut does not undo: the name of a message in new/ is safe as well, as it always is with pluq


class SyncedPostfix(Postfix):
    """Its Maildirs sync names by themselves."""

    def start(self) -> None:
        sync_names(self.new, *(f"{self.user_mailbox(number)}/Maildir/new" for number in range(USERS)))
        super().start()


def sync_names(*folders: str) -> None:
    """Have the filesystem sync every name that is made in these folders (ext4's `dirsync`). Raises CalledProcessError where it can't."""
    subprocess.run([CHATTR, "+D", *folders], check=True, stderr=subprocess.DEVNULL)


def why_names_cannot_be_synced(folder: str) -> str | None:
    """Return what keeps Maildirs in this folder from it."""
    with tempfile.TemporaryDirectory(dir=folder) as trial:
        try:
            sync_names(trial)
        except (OSError, subprocess.CalledProcessError):
            return f"chattr +D does not work in {folder}"
    return None
