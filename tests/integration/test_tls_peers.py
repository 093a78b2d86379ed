"""TLS with other people's programs: Postfix on both ends of STARTTLS, and sslscan looking for what should not be spoken."""

import os
import smtplib
import subprocess
import xml.etree.ElementTree as ET

import pytest
from bench.peers import DOMAIN as POSTFIX_DOMAIN
from bench.peers import RECIPIENT, Postfix
from bench.setups import missing

from pluq.testing.stack import free_port

pytestmark = pytest.mark.integration

PROFILES = """
[profile.mx]
listen = ["127.0.0.1:{mx}"]
plugins = ["tls"]

[profile.submissions]
listen = ["127.0.0.1:{implicit}"]
plugins = ["tls"]
tls.implicit = true

[profile.pops]
protocol = "pop3"
listen = ["127.0.0.1:{pops}"]
plugins = ["tls"]
tls.implicit = true

[remote]
plugins = ["tls"]
tls.required = true
"""
# A cipher is weak without forward secrecy, without authentication, or with less than 128 bits.
WEAK = ("RC4", "DES", "NULL", "EXP", "MD5", "anon", "ADH", "AECDH", "SEED", "IDEA")
FORWARD_SECRET = ("TLS_", "ECDHE-", "DHE-")


class TlsPostfix(Postfix):
    """A Postfix that takes and sends mail with TLS only."""

    certificate = ""

    def write_main(self, etc):
        super().write_main(etc)
        with open(f"{etc}/main.cf", "a") as file:
            file.write(
                "smtpd_tls_security_level = encrypt\nsmtp_tls_security_level = encrypt\n"
                f"smtpd_tls_chain_files = {self.certificate}\nsmtp_tls_CAfile = {self.certificate}\n"
                "smtp_tls_loglevel = 1\nsmtpd_tls_received_header = yes\n"
            )


@pytest.fixture
def site(new_stack):
    """A stack with TLS on three ports, not started."""
    stack = new_stack()
    stack.listens_itself = True
    stack.ports = {"mx": stack.port, "implicit": free_port(), "pops": free_port()}
    stack.control("pluq.toml", PROFILES.format(**stack.ports))
    stack.run("pluq", "tls", "self-signed", "--name", "mail.example.org")
    return stack


@pytest.fixture
def postfix(open_folder, site):
    if why := missing(Postfix):
        pytest.skip(why)
    peer = TlsPostfix(str(open_folder / "postfix"), site.port)
    peer.certificate = str(open_folder / "postfix.pem")
    site.run("pluq", "tls", "self-signed", "--name", "localhost", "--output", peer.certificate)
    os.chmod(peer.certificate, 0o600)
    try:
        peer.start()
        yield peer
    finally:
        peer.stop()


def test_postfix_delivers_to_us_with_tls_only(site, postfix):
    site.start()
    with smtplib.SMTP("127.0.0.1", postfix.port, timeout=30) as client:
        client.starttls()
        client.sendmail("a@example.net", ["joe@example.org"], "Subject: from postfix\n\nx\n")
    site.wait_mail("from postfix")
    (mail,) = [path.read_text() for path in (site.maildir() / "new").iterdir()]
    assert "with ESMTPS (TLS_" in mail


def test_we_deliver_to_a_postfix_that_takes_nothing_in_clear(site, postfix, until):
    site.control("rcpthosts", f"example.org\n{POSTFIX_DOMAIN}")
    site.control("smtproutes", f"{POSTFIX_DOMAIN}:127.0.0.1:{postfix.port}")
    site.start()
    site.send("to postfix", to=f"{RECIPIENT}@{POSTFIX_DOMAIN}")
    (name,) = until(lambda: os.listdir(postfix.new), lambda: f"a delivery by Postfix; {site.told()}")
    with open(f"{postfix.new}/{name}") as file:
        mail = file.read()
    assert "Subject: to postfix\n" in mail
    assert "using TLSv1.3 with cipher TLS_" in mail


@pytest.mark.parametrize("port", ["mx", "implicit", "pops"])
def test_sslscan_finds_nothing_old_and_nothing_weak(site, tool, port):
    sslscan = tool("sslscan", "sslscan")
    site.start()
    options = ["--starttls-smtp"] if port == "mx" else []
    command = [sslscan, *options, "--xml=-", "--no-colour", f"127.0.0.1:{site.ports[port]}"]
    found = ET.fromstring(subprocess.run(command, capture_output=True, timeout=100, check=True).stdout)
    spoken = {one.get("type") + one.get("version") for one in found.iter("protocol") if one.get("enabled") == "1"}
    assert spoken == {"tls1.2", "tls1.3"}
    ciphers = [one for one in found.iter("cipher") if one.get("status") in ("accepted", "preferred")]
    assert {one.get("sslversion") for one in ciphers} == {"TLSv1.2", "TLSv1.3"}
    for one in ciphers:
        name = one.get("cipher")
        assert name.startswith(FORWARD_SECRET), name
        assert not any(word in name for word in WEAK), name
        assert int(one.get("bits")) >= 128, name
    assert all(one.get("supported") == "0" for one in found.iter("compression"))
    assert all(one.get("supported") == "0" for one in found.iter("renegotiation"))
    assert all(one.get("vulnerable") == "0" for one in found.iter("heartbleed"))
