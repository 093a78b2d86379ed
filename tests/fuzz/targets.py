"""All targets by name, each with inputs to begin from.

A target is a function of any bytes. What it raises is a finding: it catches the errors that the parser promises, and asserts what
else it promises.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from tests.fuzz import from_files, from_network, from_plugins

from pluq_milter.packets import Options as MilterOptions
from pluq_tls.selfsigned import make_certificate

FOUND = Path(__file__).with_name("found")
SESSION = b"EHLO x\r\nMAIL FROM:<a@b> SIZE=3\r\nRCPT TO:<x@example.org>\r\nDATA\r\nSubject: hi\r\n\r\n..dot\r\n.\r\nRSET\r\nQUIT\r\n"
SIGNED = (
    b"v=DKIM1; k=rsa; h=sha256; t=s; p=MIGf\0DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/simple; d=example.org; s=s1;\n"
    b" h=from:subject; l=3; t=1; x=2; i=@example.org; bh=AAAA; b=AAAA\nFrom: a@example.org\nSubject: x\n\nbody\n"
)
KEY = (
    b"MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCc6MCzUsu8Q+LFa9Ca8AhMMzNhICW9LXjmn2nljdUUE8wPyspntP7ssZ1UktrfsU8Hu1X2/t"
    b"jNQlTRZ0c+xRMNULG5PbJTZHKjD16BA7qGmaGGZyT4LffOhWhWwVaQYzDy8lvCnjbNDdcCdCR4lSSoPUpgwA/Nzn6WO41nHD7dFQIDAQAB"
)
SIGNED_NOW = SIGNED.replace(b"MIGf", KEY).replace(b" t=1; x=2;", b"").replace(b" l=3;", b"").replace(b"t=s; ", b"")
SEALED = (
    SIGNED_NOW.replace(
        b"DKIM-Signature: v=1;",
        b"ARC-Seal: i=1; a=rsa-sha256; cv=none; d=example.org; s=s1; b=AAAA\nARC-Message-Signature: i=1;",
    )
    .replace(b" i=@example.org;", b"")
    .replace(b"From: a@", b"ARC-Authentication-Results: i=1; x; spf=pass\nFrom: a@")
)
CERTIFICATE = ssl.PEM_cert_to_DER_cert(
    "-----BEGIN CERT"
    + make_certificate(["mx.example.org"], 30, datetime.now(UTC)).decode().partition("-----BEGIN CERT")[2]
)
DNS = bytes.fromhex(
    "0000818000010001000000000765786d616d706c65036f726700000f0001c00c000f00010000003c0009000a046d61696cc00c"
)
TOML = b'[core]\nauthserv_id = "x"\n[profile.mx]\nlisten = ["0.0.0.0:25"]\nplugins = ["spf"]\nspf.mode = "shadow"\nextends = "y"\n'


class Target(NamedTuple):
    """What to call, and what to begin with."""

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


TARGETS = {
    "smtp-commands": Target(from_network.smtp_commands, (SESSION, b"HELO\r\nVRFY a\r\nMAIL FROM:<@x:a@b>\r\nRCPT TO: x@[127.0.0.1]\r\n")),
    "addresses": Target(from_network.addresses, (b'FROM:<"a b"@c.d> SIZE=1', b"TO:<@x,@y:a%b@[1.2.3.4]>", b"x-@host-@[]")),
    "received": Target(from_network.received, (b"host\x001.2.3.4\0joe\0helo",)),
    "headers": Target(from_network.headers, (b"From: a\n b\nTo: c, d\n\nbody\n", b"Return-Path: <x>\nnothing\n\nx", b"From x\nA: b")),
    "address-lists": Target(from_network.address_lists, (b'a, "b" (c) <d@e>, f: g@[1.2.3.4], h;', b"<@a,@b:c@d>, (x(y)\\))e.f")),
    "authentication-results": Target(from_network.authentication_results, (b'((\\)))"mx.example.org" 1; spf=pass (x) smtp.mailfrom=a',)),
    "netstrings": Target(from_network.netstrings, (b"3:abc,0:,", b"5:12345,x")),
    "qmqp-and-qmtp": Target(from_network.qmqp_and_qmtp, (b"24:6:\nhello,3:a@b,3:c@d,,", b"15:Kok 123 qp 4567,")),
    "remote-replies": Target(from_network.remote_replies, (b"250 ok\r\n250-a\r\n250 SIZE 3\r\n354 x\r\n250 2.0.0 ok\r\n", b"A550 5.1.1 no\r\n")),
    "dots": Target(from_network.dots, (b"a\n.\n..b\n", b"\r\n.\r\n")),
    "dns-replies": Target(from_network.dns_replies, (DNS, DNS.replace(b"\x00\x0f", b"\x00\x05"))),
    "bounces": Target(from_network.bounces, (b"joe@example.org\x00550 no\n\n\nx\n",)),
    "pop3": Target(from_network.pop3, (b"USER x\r\nPASS y\r\nTOP 1 2\r\nUIDL 3\r\n",)),
    "envelopes": Target(from_files.envelopes, (b"Fa@b\0Tc@d\0Te@f\0\0", b"u1\0p2\0Fa@b\0Tc@d\0", b"Ta@b\0Dc@d\0")),
    "spawn-protocol": Target(from_files.spawn_protocol, (b"\x010/12\0a@b\0c@d\0", b"\x01\x001/2\0\0c@d\0", b"\x01Kok\0")),
    "workers-packets": Target(from_files.workers_packets, (b"1\x000\0ok\x002\x00111\0no\0", b"joe\x001\x002\0/home\0-\0x\0")),
    "dot-qmail": Target(from_files.dot_qmail, (b"# x\n|prog\n./Maildir/\n/mbox\n&a@b\nc@d\n+list\n",)),
    "control-files": Target(from_files.control_files, (b'1.2.3.4-9:allow,A="b",C=/d/\n:deny\n', b"=a:b:1:2:/h:-:x:\n+c-:d:1:2:/h:-::\n.\n")),
    "alias-files": Target(from_files.alias_files, (b'a: b, c@d, "|x", :include:/y\n  e\n', b"cmd,x:y;|z\n#\n")),
    "cdb": Target(from_files.cdb, (bytes(2048), b"\0\x08\0\0\1\0\0\0" * 256 + b"\3\0\0\0\1\0\0\0joex")),
    "site-file": Target(from_files.site_file, (TOML, b"[remote]\nplugins=['tls']\n[profile.a]\ntls.required=true\n")),
    "dkim": Target(from_plugins.dkim, (SIGNED, SIGNED_NOW)),
    "arc": Target(from_plugins.arc, (SEALED,)),
    "dmarc": Target(from_plugins.dmarc, (b"v=DMARC1; p=none; sp=reject; pct=5; rua=mailto:a@b", b"From: (c) \"a@b\" <d@e.f>, g: h@i.j;\nTo: x\n")),
    "mta-sts": Target(from_plugins.mta_sts, (b"version: STSv1\nmode: enforce\nmx: *.example.org\nmax_age: 600\n", b"v=STSv1; id=1\0x")),
    "dane": Target(from_plugins.dane, (CERTIFICATE, CERTIFICATE + b"-----" + CERTIFICATE)),
    "dkim-files": Target(from_plugins.dkim_files, (b"-c r -x 60 -i a@b -l", b"example.org:/key:A=b,C=d", b"x:remote:/bin/qmail-dkim:A=b")),
    "spf": Target(from_plugins.spf, (b"include:a.b a mx/24 ptr ip4:1.2.3.0/24 exists:%{i}._%{l1r-}.%{d} ~all\0a-b@c", b"redirect=a.b exp=%{h}")),
    "srs": Target(from_plugins.srs, (b"SRS0=abcd=AB=example.com=joe@example.org", b"=abcd=host==efgh=AB=c.d=joe@x", b"joe@example.net")),
    "logins": Target(
        from_plugins.logins,
        (*(base64.b64encode(one) for one in (b"\0joe\0secret", b"joe 0123", b"n,,n=joe,r=abc")), b"\nam9l\nc2VjcmV0"),
    ),
    "password-file": Target(from_plugins.password_file, (b"# x\n:seed\njoe:$2b$12$abcdefghijklmnopqrstuv:4096,AA==,BB==,CC==\n",)),
    "international-addresses": Target(
        from_plugins.international_addresses, ("jos\u00e9@b\u00fccher.example".encode(), b"a@xn--bcher-kva.example", b"\xff@x")
    ),
    "links": Target(
        from_plugins.links,
        (b"see http://www.evil.test/x and https://1.2.3.4:80 HTTP://a=2Eb.co.uk\n", b"aHR0cDovL2V2aWwudGVzdC8=\n&#104;ttp://x.y"),
    ),
    "milter": Target(
        from_plugins.milter,
        (
            MilterOptions().encode()[5:] + b"m\0\0\0\1X-A\0b\r\n c\0",
            MilterOptions().encode()[5:] + b"+<x@y>\0",
            b"550 5.7.1 no%%\0",
        ),
    ),
    "programs-output": Target(from_plugins.programs_output, (b"R550 no\nHField: x\nSA=b\nN\n", b"E421 later\n")),
}  # fmt: skip


def inputs(name: str) -> list[bytes]:
    """Return what a target begins from: its seeds, and all inputs that ever found something."""
    folder = FOUND / name
    found = [path.read_bytes() for path in sorted(folder.iterdir())] if folder.is_dir() else []
    return [*TARGETS[name].seeds, *found]
