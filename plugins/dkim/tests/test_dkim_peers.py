"""dkim and the others: our signatures verify with dkimpy, OpenDKIM and rspamd, and theirs with ours; the RFC's own example."""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dkim as dkimpy
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pluq import Delivery, Message
from pluq.config import Home
from pluq.dns import Resolver
from pluq.signatures.finding import Code, Finding
from pluq.signatures.keys import load_key
from pluq.testing.dns import FakeDns
from pluq.testing.plugins import make_plugin
from pluq.testing.ports import free_port
from pluq_dkim import Dkim
from pluq_dkim.verify import Policy, verify_message

RSA = rsa.generate_private_key(65537, 2048)
ED25519 = ed25519.Ed25519PrivateKey.generate()
FORMS = {"r": "relaxed/relaxed", "s": "simple/simple", "t": "relaxed/simple", "u": "simple/relaxed"}
HEADER = (
    b"Received: from x\nFrom: Joe \t <joe@example.org>\nTo: ann@example.net,\n\t bob@example.net  \nSubject: hello\n  world\t again \n"
    b"Date: Sat, 21 Nov 2026 13:00:00 +0000\nMessage-ID: <1@example.org>\nReferences: <a@b>\n <c@d>\nMIME-Version: 1.0\n"
    b"Content-Type: text/plain; charset=utf-8\n"
)
BODIES = {
    "plain": b"hello\n",
    "blanks": b" leading\n\ttab  and \t blanks \t\n\n. dot\n..\n \n\t\n\n\n",
    "empty": b"",
    "only lines": b"\n\n\n",
    "only blanks": b" \t\n  \n",
    "octets": b"\xc3\xa9 \xff\xfe\n" * 50,
    "long": b"x" * 5000 + b" \t" * 500 + b"\n" + b"y\n" * 3000,
}


def pem(key: Any, form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    data: bytes = key.private_bytes(Encoding.PEM, form, NoEncryption())
    return data


def records() -> dict[str, str]:
    found = {}
    for selector, key in (("default", RSA), ("ed25519", ED25519)):
        loaded = load_key(f"/{selector}", pem(key))
        public = base64.b64encode(loaded.public_octets()).decode()
        found[f"{selector}._domainkey.example.org"] = f"v=DKIM1; k={loaded.kind}; p={public}"
    return found


def zone() -> dict[str, Any]:
    return {name: [("TXT", text)] for name, text in records().items()}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    folder = tmp_path / "control" / "domainkeys" / "example.org"
    folder.mkdir(parents=True)
    for name, key in (("default", RSA), ("ed25519", ED25519)):
        (folder / name).write_bytes(
            pem(key, PrivateFormat.PKCS8 if name == "ed25519" else PrivateFormat.TraditionalOpenSSL)
        )
        (folder / name).chmod(0o600)
    return Home(str(tmp_path))


async def signed_by_us(home: Home, letter: str, body: bytes, more: str = "") -> bytes:
    """Return a message with both signatures."""
    options = f"-c {letter} {more}"
    plugin = make_plugin(
        Dkim, home=home, role="remote", extra_key="control/domainkeys/%/ed25519", options=options, extra_options=options
    )
    message = Message.from_bytes(HEADER + b"\n" + body)
    delivery = Delivery("remote", 1, b"joe@example.org", [b"ann@example.net"], b"example.net", message)
    await plugin.remote_message(delivery, message)
    return message.as_bytes()


async def verified_by_us(message: bytes, known: dict[str, Any] | None = None) -> list[Finding]:
    with FakeDns(known or zone()) as server:
        resolver = Resolver([server.address])
        found = await verify_message(
            Message.from_bytes(message), resolver, Policy(accept_partial_body=True), int(time.time())
        )
        await resolver.close()
    return found


# -- RFC 8463, appendix A

EXAMPLE = b"""DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game.  Are you hungry yet?

Joe.
"""
EXAMPLE_ZONE = {
    "brisbane._domainkey.football.example.com": [
        ("TXT", "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
    ],
    "test._domainkey.football.example.com": [
        (
            "TXT",
            "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/b"
            "yYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB",
        )
    ],
}
EXAMPLE_SEED = b"nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="


async def test_the_example_of_rfc_8463_verifies() -> None:
    found = await verified_by_us(EXAMPLE, EXAMPLE_ZONE)
    assert [(one.code, one.algorithm) for one in found] == [(Code.GOOD, "ed25519-sha256"), (Code.GOOD, "rsa-sha256")]
    changed = await verified_by_us(EXAMPLE.replace(b"dinner", b"supper"), EXAMPLE_ZONE)
    assert [one.code for one in changed] == [Code.BAD_SIGNATURE, Code.BAD_SIGNATURE]


def test_the_private_key_of_rfc_8463_has_the_public_key_of_its_record() -> None:
    key = load_key("/brisbane", EXAMPLE_SEED)
    assert base64.b64encode(key.public_octets()) == b"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="


# -- dkimpy


def dkimpy_key(name: bytes, timeout: int = 5) -> bytes:
    return records()[name.decode().rstrip(".")].encode()


@pytest.mark.parametrize("letter", FORMS)
@pytest.mark.parametrize("body", BODIES)
async def test_dkimpy_verifies_what_we_sign(home: Home, letter: str, body: str) -> None:
    for more in ("", "-l"):
        signed = await signed_by_us(home, letter, BODIES[body], more)
        for index in range(2):
            assert dkimpy.DKIM(signed.replace(b"\n", b"\r\n")).verify(idx=index, dnsfunc=dkimpy_key)


@pytest.mark.parametrize("form", FORMS.values())
@pytest.mark.parametrize("body", BODIES)
async def test_we_verify_what_the_command_of_dkimpy_signs(home: Home, form: str, body: str) -> None:
    program = Path(sys.executable).with_name("dkimsign")
    if not program.exists():
        pytest.skip("dkimpy's commands are not installed beside this Python")
    header_form, _, body_form = form.partition("/")
    argv = [str(program), "--hcanon", header_form, "--bcanon", body_form, "default", "example.org"]
    argv.append(f"{home.path}/control/domainkeys/example.org/default")
    message = (HEADER + b"\n" + BODIES[body]).replace(b"\n", b"\r\n")
    signed = subprocess.run(
        argv, input=message, stdout=subprocess.PIPE, check=True, env={**os.environ, "PYTHONWARNINGS": ""}
    ).stdout
    assert [one.code for one in await verified_by_us(signed.replace(b"\r\n", b"\n"))] == [Code.GOOD]


# -- OpenDKIM


def needs(program: str, package: str) -> str:
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        pytest.skip(f"needs {program} (apt-get install {package})")
    return found


@pytest.mark.integration
@pytest.mark.parametrize("letter", FORMS)
@pytest.mark.parametrize("body", BODIES)
async def test_opendkim_verifies_what_we_sign(home: Home, tmp_path: Path, letter: str, body: str) -> None:
    program = needs("opendkim", "opendkim")
    keys, config, message = tmp_path / "keys", tmp_path / "config", tmp_path / "message"
    keys.write_text("".join(f"{name} {text}\n" for name, text in records().items()))
    config.write_text(f"Mode v\nSyslog no\nTestPublicKeys {keys}\nAlwaysAddARHeader yes\n")
    for more in ("", "-l"):
        message.write_bytes((await signed_by_us(home, letter, BODIES[body], more)).replace(b"\n", b"\r\n"))
        ran = subprocess.run(
            [program, "-x", config, "-t", message, "-vvv"], capture_output=True, text=True, check=False
        )
        assert ran.stdout.count("dkim=pass") == 2, ran.stdout + ran.stderr


@pytest.mark.integration
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("selector", ["default", "ed25519"])
async def test_we_verify_what_opendkim_signs(home: Home, tmp_path: Path, selector: str, body: str) -> None:
    program = needs("opendkim", "opendkim")
    key = f"{home.path}/control/domainkeys/example.org/{selector}"
    message, config = tmp_path / "message", tmp_path / "config"
    text = HEADER + b"\n" + BODIES[body]
    message.write_bytes(text.replace(b"\n", b"\r\n"))
    algorithm = "ed25519-sha256" if selector == "ed25519" else "rsa-sha256"
    for form in FORMS.values():
        if selector == "ed25519" and form.startswith("simple"):
            continue  # what OpenDKIM 2.11 makes then is not verified by OpenDKIM itself, nor by dkimpy
        config.write_text(
            f"Mode s\nSyslog no\nDomain example.org\nSelector {selector}\nKeyFile {key}\nCanonicalization {form}\n"
            f"SignatureAlgorithm {algorithm}\nRequireSafeKeys no\n"
        )
        ran = subprocess.run(
            [program, "-x", config, "-t", message, "-vvv"], capture_output=True, text=True, check=False
        )
        field = ran.stdout.partition("hvalue='")[2].partition("'\n")[0]
        assert "b=" in field, ran.stdout + ran.stderr
        # The test mode prints the value with a space before it where it would insert one.
        signed = b"DKIM-Signature: " + field.strip().encode() + b"\n" + text
        assert [one.code for one in await verified_by_us(signed)] == [Code.GOOD], (form, field)


# -- rspamd


@contextmanager
def rspamd(program: str, folder: Path, server: FakeDns) -> Iterator[int]:
    """Run rspamd with nothing but its DKIM module; yield its port."""
    port = free_port()
    (folder / "rspamd.conf").write_text(
        f'options {{ filters = "dkim"; explicit_modules = ["dkim"]; rundir = "{folder}"; tempdir = "{folder}"; hs_cache_dir = "{folder}";\n'
        f'  dns {{ nameserver = ["127.0.0.1:{server.address[1]}:1"]; timeout = 2s; retransmits = 2; }} }}\n'
        'logging { type = "console"; level = "notice"; }\ndkim { }\n'
        f'worker "normal" {{ bind_socket = "127.0.0.1:{port}"; count = 1; mime = true; }}\n'
    )
    user = ["-i", "-u", "root", "-g", "root"] if os.geteuid() == 0 else []
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, *user, "-f", "-c", folder / "rspamd.conf"], stdout=log, stderr=log)
        try:
            wait_for(port, process, folder / "log")
            yield port
        finally:
            process.terminate()
            process.wait(60)


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 240  # it compiles for seconds, and a busy machine makes minutes of them
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("rspamd does not listen: " + log.read_text())


@pytest.mark.integration
async def test_rspamd_verifies_what_we_sign(home: Home, tmp_path: Path) -> None:
    program = needs("rspamd", "rspamd")
    folder = tmp_path / "rspamd"
    folder.mkdir()
    with FakeDns(zone()) as server, rspamd(program, folder, server) as port:
        for letter in FORMS:
            for name, body in BODIES.items():
                if name == "only blanks":
                    continue  # rspamd 3.4 sees something in such a body; dkimpy and OpenDKIM, as the RFC, nothing
                message = (await signed_by_us(home, letter, body)).replace(b"\n", b"\r\n")
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                connection.request("POST", "/checkv2", message, {"IP": "192.0.2.1"})
                said = json.loads(connection.getresponse().read())
                connection.close()
                allowed = said["symbols"].get("R_DKIM_ALLOW", {}).get("options", [])
                assert sorted(allowed) == ["example.org:s=default", "example.org:s=ed25519"], (letter, body[:40], said)
