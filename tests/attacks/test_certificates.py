"""Certificates of other servers, where the site wants a name proved (control/tlshosts): one good one, and all that look like one. TLS in general: nothing
is taken up in the middle of a connection.
"""

import datetime
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from pluq.dns import Resolver
from pluq.testing.dns import FakeDns
from pluq.testing.plugins import make_plugin, plan_of
from pluq.testing.remote_home import WIRE, RemoteHome, make_job
from pluq.testing.smtp_peer import SmtpPeer
from pluq_tls import Settings, Tls
from pluq_tls.contexts import server_context

NAME = "mx.dst.example"
NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
AUTHORITY_KEY = rsa.generate_private_key(65537, 2048)
OTHER_KEY = rsa.generate_private_key(65537, 2048)
DNS = x509.DNSName
NAMES = [DNS(NAME)]


def certificate(subject, key, issuer, issuer_key, names, begin, end, digest=None, is_authority=False):
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(issuer_key, digest or hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


AUTHORITY = certificate("us", AUTHORITY_KEY, "us", AUTHORITY_KEY, [], NOW - DAY, NOW + DAY, is_authority=True)

# what the server shows: names, begin, end, who signs it, its own key
CASES = {
    "good": (NAMES, NOW - DAY, NOW + DAY, AUTHORITY_KEY, 2048),
    "good, with a wildcard for one label": ([DNS("*.dst.example")], NOW - DAY, NOW + DAY, AUTHORITY_KEY, 2048),
    "good, an old one with a common name only": ([], NOW - DAY, NOW + DAY, AUTHORITY_KEY, 2048),
    "expired": (NAMES, NOW - 2 * DAY, NOW - DAY, AUTHORITY_KEY, 2048),
    "not yet valid": (NAMES, NOW + DAY, NOW + 2 * DAY, AUTHORITY_KEY, 2048),
    "another name": ([DNS("evil.example")], NOW - DAY, NOW + DAY, AUTHORITY_KEY, 2048),
    "a name that begins like it": ([DNS(NAME + ".evil.example")], NOW - DAY, NOW + DAY, AUTHORITY_KEY, 2048),
    "a wildcard inside": ([DNS("mx.*.example")], NOW - DAY, NOW + DAY, AUTHORITY_KEY, 2048),
    "a wildcard for all": ([DNS("*.example")], NOW - DAY, NOW + DAY, AUTHORITY_KEY, 2048),
    "a bare wildcard": ([DNS("*")], NOW - DAY, NOW + DAY, AUTHORITY_KEY, 2048),
    "a NUL in the name": ([DNS(NAME + "\0.evil.example")], NOW - DAY, NOW + DAY, AUTHORITY_KEY, 2048),
    "the name as common name beside others": ([DNS("evil.example")], NOW - DAY, NOW + DAY, AUTHORITY_KEY, 2048),
    "signed by nobody we know": (NAMES, NOW - DAY, NOW + DAY, OTHER_KEY, 2048),
    "a key of 1024 bits": (NAMES, NOW - DAY, NOW + DAY, AUTHORITY_KEY, 1024),
}  # fmt: skip


def shows(folder, names, begin, end, issuer_key, bits):
    """Return the context of a server that shows such a certificate."""
    key = rsa.generate_private_key(65537, bits)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + certificate(NAME, key, "us", issuer_key, names, begin, end)
    (folder / "peer.pem").write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.load_cert_chain(folder / "peer.pem")
    return context


@pytest.mark.parametrize("case", CASES)
async def test_only_a_certificate_for_the_name_by_the_sites_authority_gets_the_message(tmp_path, case):
    home = RemoteHome(tmp_path)
    (home.path / "control" / "tlshosts").mkdir()
    home.control(f"tlshosts/{NAME}.pem", AUTHORITY.decode())
    plugin = make_plugin(Tls, home=home.home, role="remote")
    plugin.start()
    with (
        SmtpPeer(capabilities=[b"STARTTLS"], tls=shows(tmp_path, *CASES[case])) as peer,
        FakeDns({NAME: [("A", "127.0.0.1")]}) as server,
    ):
        home.control("smtproutes", f":{NAME}:{peer.port}\n")
        resolver = Resolver([server.address])
        records = await home.deliverer(plan=plan_of(plugin), resolver=resolver).deliver(make_job())
        await resolver.close()
    is_good = case.startswith("good")
    assert records[-1][:1] == (b"K" if is_good else b"Z"), records
    assert peer.messages == ([WIRE] if is_good else [])


def test_a_server_takes_up_nothing_in_the_middle_of_a_connection(tmp_path):
    """No renegotiation, no compression; no early data: Python's TLS servers take none."""
    shows(tmp_path, *CASES["good"])
    context = server_context("peer.pem", "", Settings().minimum, "", lambda name: (tmp_path / name).read_bytes())
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
