"""Users log in with real mail programs, to a real server, against real judges: a checkpassword program, our file, Dovecot."""

import base64
import hashlib
import os
import re
import smtplib
import socket
import ssl
import subprocess
import textwrap

import pytest
from bench import processes

from pluq.testing.smtp_peer import SmtpPeer
from pluq.testing.stack import PATIENCE, free_port

pytestmark = pytest.mark.integration

USER, PASSWORD = "ann@example.org", "pass word 7"
FAR = "user@far.example"
MESSAGE = "From: ann@example.org\nSubject: {}\n\nhello\n"

PROFILES = """
[profile.mx]
listen = ["127.0.0.1:{mx}"]
plugins = ["size", "tls"]

[profile.submission]
listen = ["127.0.0.1:{submission}"]
plugins = ["size", "tls", "auth"]
tls.required = true
auth.required = true
auth.delay = 0.2
auth.failures = 5

[profile.submissions]
extends = "submission"
listen = ["127.0.0.1:{submissions}"]
tls.implicit = true
"""


def unverified():
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.fixture
def relay():
    """The host that mail for everybody else goes to."""
    with SmtpPeer() as peer:
        yield peer


def others_can_run_python():
    """Say whether the qmail users can reach this interpreter: plugins import what they need when they run."""
    path = os.path.realpath(os.__file__)
    while path != "/":
        path = os.path.dirname(path)
        if not os.stat(path).st_mode & 1:
            return False
    return True


@pytest.fixture
def site(new_stack, relay):
    """A stack with the ports 25, 587 and 465 of a site, a certificate of its own and one user."""
    stack = new_stack(single=not others_can_run_python())
    stack.listens_itself = True
    stack.ports = {"mx": stack.port, "submission": free_port(), "submissions": free_port()}
    stack.control("pluq.toml", PROFILES.format(**stack.ports))
    stack.control("smtproutes", f":127.0.0.1:{relay.port}")
    stack.control("timeoutremote", "20")
    stack.run("pluq", "tls", "self-signed", "--name", "mx.example.org")
    set_password(stack, USER, PASSWORD)
    return stack


def set_password(stack, user, password):
    stack.run("pluq", "auth", "passwd", user, input=f"{password}\n".encode())


def submission(stack):
    client = smtplib.SMTP("127.0.0.1", stack.ports["submission"], timeout=PATIENCE)
    client.starttls(context=unverified())
    return client


def relayed(relay, until, subject):
    """Wait until the relay has the message with this subject; return it."""

    def found():
        messages = [message for session in relay.sessions for message in session.messages]
        return next((one for one in messages if f"Subject: {subject}\r\n".encode() in one), None)

    return until(found, f"{subject} at the relay")


def test_three_ports_of_a_site(site, relay, until):
    site.start()
    with submission(site) as client:
        client.login(USER, PASSWORD)
        client.sendmail(USER, [FAR], MESSAGE.format("by 587"))
    message = relayed(relay, until, "by 587")
    assert re.search(
        rb"Received: \(HELO \S+\) \(ann@example.org\)\r\n  by \S+ with ESMTPSA \(\S+ encrypted, authenticated\)",
        message,
    )
    assert b"auth=pass smtp.auth=ann@example.org\r\n" in message
    with smtplib.SMTP_SSL("127.0.0.1", site.ports["submissions"], timeout=PATIENCE, context=unverified()) as client:
        client.login(USER, PASSWORD)
        client.sendmail(USER, [FAR], MESSAGE.format("by 465"))
    relayed(relay, until, "by 465")
    with smtplib.SMTP("127.0.0.1", site.ports["mx"], timeout=PATIENCE) as client:
        client.ehlo()
        assert not client.has_extn("auth")
        assert client.docmd("AUTH", "PLAIN AGFubgB4")[0] == 502
        client.mail(USER)
        assert client.rcpt(FAR)[0] == 553
        client.rset()
        client.sendmail(USER, ["joe@example.org"], MESSAGE.format("by 25"))
    site.wait_mail("by 25")
    assert PASSWORD not in site.log.read_text()


def test_before_tls_and_before_a_login_there_is_no_way_in(site):
    site.start()
    with smtplib.SMTP("127.0.0.1", site.ports["submission"], timeout=PATIENCE) as client:
        client.ehlo()
        assert not client.has_extn("auth")
        assert client.docmd("AUTH", "PLAIN AGFubgB4")[0] in (530, 538)
        assert client.mail(USER)[0] == 530
        client.starttls(context=unverified())
        client.ehlo()
        assert client.esmtp_features["auth"].split() == ["SCRAM-SHA-256", "LOGIN", "PLAIN"]
        assert client.mail(USER) == (530, b"Authorization required (#5.7.1)")


def test_guessing_ends(site):
    site.start()
    replies = []
    with submission(site) as client:
        client.ehlo()
        for _ in range(6):
            replies.append(client.docmd("AUTH", "PLAIN AGFubgB4")[0])
    assert replies == [535] * 5 + [421]
    with smtplib.SMTP_SSL("127.0.0.1", site.ports["submissions"], timeout=PATIENCE, context=unverified()) as client:
        client.ehlo()
        assert client.docmd("AUTH", "PLAIN AGFubgB4")[0] == 421, "the other port counts as well"


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_swaks_sends_with_a_login(site, relay, until, tool, mechanism):
    swaks = tool("swaks", "swaks")
    site.start()
    run_swaks(swaks, site.ports["submission"], mechanism, "--tls")
    relayed(relay, until, f"swaks {mechanism}")
    wrong = run_swaks(swaks, site.ports["submission"], mechanism, "--tls", password="wrong", check=False)
    assert wrong.returncode == 28, wrong.stdout


def run_swaks(swaks, port, mechanism, *options, password=PASSWORD, check=True):
    command = [swaks, "--server", "127.0.0.1", "--port", str(port), "--from", USER, "--to", FAR, *options]
    command += ["--auth", mechanism, "--auth-user", USER, "--auth-password", password]
    command += ["--header", f"Subject: swaks {mechanism}"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 or not check, result.stdout + result.stderr
    return result


# -- a checkpassword program under tcpserver

CHECKPW = """
#!{python}
import hmac, os, sys
name, secret, challenge, *_ = os.read(3, 512).split(b"\\0") + [b""]
password = b"pass word 7"
if name == b"ann@example.org" and (
    hmac.compare_digest(hmac.new(password, challenge, "md5").hexdigest().encode(), secret) if challenge else secret == password
):
    os.execvp(sys.argv[1], sys.argv[1:])
sys.exit(1)
"""


@pytest.mark.parametrize("host", [(), ("mx.example.org",)])
def test_a_checkpassword_program_under_tcpserver(new_stack, relay, tool, until, host):
    tcpserver, swaks = tool("tcpserver", "ucspi-tcp"), tool("swaks", "swaks")
    stack = new_stack()
    stack.control("smtproutes", f":127.0.0.1:{relay.port}")
    stack.control("pluq.toml", '[profile.msa]\nplugins = ["size", "auth"]\nauth.delay = 0.1')
    stack.start()
    checkpw = stack.folder / "checkpw"
    checkpw.write_text(textwrap.dedent(CHECKPW).lstrip().format(python=os.sys.executable))
    checkpw.chmod(0o755)
    variables = {"PLUQ_PROFILE": "msa", "FORCETLS": "0", "SMTPAUTH": "+cram"}
    port = free_port()
    command = [
        tcpserver,
        "-RHl0",
        "127.0.0.1",
        str(port),
        f"{stack.home.bin}/qmail-smtpd",
        *host,
        str(checkpw),
        "/bin/true",
    ]
    server = subprocess.Popen(command, env=stack.environment() | variables)
    try:
        until(lambda: is_listening(port), "tcpserver")
        for mechanism in ("PLAIN", "LOGIN", "CRAM-MD5"):
            run_swaks(swaks, port, mechanism)
            relayed(relay, until, f"swaks {mechanism}")
        assert run_swaks(swaks, port, "CRAM-MD5", password="wrong", check=False).returncode == 28
        with smtplib.SMTP("127.0.0.1", port, timeout=PATIENCE) as client:
            client.login(USER, PASSWORD)  # smtplib takes CRAM-MD5
            assert client.rcpt(FAR)[0] == 503
    finally:
        processes.end(server.pid)
        server.returncode = 0


def is_listening(port):
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as sock:
            return sock.recv(100).startswith(b"220")
    except OSError:
        return False


# -- Dovecot

DOVECOT = """
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols =
ssl = no
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
auth_mechanisms = plain login cram-md5 scram-sha-256
auth_failure_delay = 0
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
  unix_listener {folder}/auth-client {{
    mode = 0666
  }}
}}
service anvil {{
  chroot =
}}
"""


@pytest.fixture
def dovecot(open_folder, tool, until):
    """A private Dovecot that only answers logins; the path of its socket."""
    program = tool("dovecot", "dovecot-core")
    if os.getuid():
        pytest.skip("needs root: Dovecot's processes change their user")
    folder = open_folder / "dovecot"
    folder.mkdir()
    (folder / "users").write_text(f"{USER}:{{PLAIN}}{PASSWORD}\n")
    (folder / "dovecot.conf").write_text(DOVECOT.format(folder=folder, user="dovecot", group="dovecot"))
    server = subprocess.Popen([program, "-F", "-c", str(folder / "dovecot.conf")])
    try:
        until(lambda: (folder / "auth-client").exists(), "Dovecot's socket")
        yield folder / "auth-client"
    finally:
        server.terminate()
        server.wait(PATIENCE)


def test_dovecot_decides(site, relay, until, dovecot, tool):
    swaks = tool("swaks", "swaks")
    toml = PROFILES.format(**site.ports).replace("auth.delay", f'auth.dovecot = "{dovecot}"\nauth.delay')
    site.control("pluq.toml", toml)
    os.unlink(site.home.control("passwords"))
    site.start()
    with submission(site) as client:
        client.ehlo()
        assert set(client.esmtp_features["auth"].split()) == {"PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256"}
    for mechanism in ("PLAIN", "LOGIN", "CRAM-MD5"):
        run_swaks(swaks, site.ports["submission"], mechanism, "--tls")
        relayed(relay, until, f"swaks {mechanism}")
        wrong = run_swaks(swaks, site.ports["submission"], mechanism, "--tls", password="wrong", check=False)
        assert wrong.returncode == 28, wrong.stdout


# -- our client against our server, and against Dovecot behind it


@pytest.mark.parametrize("judge", ["file", "dovecot"])
def test_our_own_client_logs_in_with_scram(site, new_stack, relay, until, judge, request):
    if judge == "dovecot":
        toml = PROFILES.format(**site.ports).replace(
            "auth.delay",
            f'auth.dovecot = "{request.getfixturevalue("dovecot")}"\nauth.mechanisms = ["SCRAM-SHA-256"]\nauth.delay',
        )
        site.control("pluq.toml", toml)
    site.start()
    other = new_stack(name="other")
    other.control("pluq.toml", '[remote]\nplugins = ["tls", "auth"]')
    other.control("smtproutes", f":127.0.0.1:{site.ports['submission']}|{USER}|{PASSWORD}")
    args = ("far.example", USER, FAR)
    done = other.run("qmail-remote", *args, input=MESSAGE.format("by SCRAM").encode())
    assert done.stdout.startswith(b"r\0K127.0.0.1 accepted message."), done.stdout
    assert b"with ESMTPSA" in relayed(relay, until, "by SCRAM")
    assert "type=scram-sha-256" in site.log.read_text()
    other.control("smtproutes", f":127.0.0.1:{site.ports['submission']}|{USER}|wrong")
    done = other.run("qmail-remote", *args, input=MESSAGE.format("refused").encode())
    assert done.stdout.startswith(b"ZConnected to 127.0.0.1 but authentication was rejected (client-final).")
    other.control("smtproutes", f":127.0.0.1:{site.ports['mx']}|{USER}|{PASSWORD}")
    done = other.run("qmail-remote", *args, input=MESSAGE.format("refused").encode())
    assert b"offers no authentication that I know" in done.stdout


def test_a_relay_on_port_465_is_spoken_to_in_tls(site, new_stack, relay, until):
    toml = PROFILES.format(**(site.ports | {"submissions": 465}))
    site.control("pluq.toml", toml)
    try:
        socket.create_server(("127.0.0.1", 465)).close()
    except OSError as error:
        pytest.skip(f"port 465: {error.strerror}")
    site.start()
    other = new_stack(name="other")
    other.control("pluq.toml", '[remote]\nplugins = ["auth"]')
    other.control("smtproutes", f":127.0.0.1:465|{USER}|{PASSWORD}")
    done = other.run("qmail-remote", "far.example", USER, FAR, input=MESSAGE.format("by 465").encode())
    assert done.stdout.startswith(b"r\0K127.0.0.1 accepted message."), done.stdout
    relayed(relay, until, "by 465")


def test_a_login_bound_to_the_certificate_works_on_a_real_connection(site, relay, until):
    from scramp import ScramClient

    site.control("pluq.toml", PROFILES.format(**site.ports).replace("auth.delay", MECHANISMS + "auth.delay"))
    site.start()
    with submission(site) as client:
        client.ehlo("client.example")
        assert "SCRAM-SHA-256-PLUS" in client.esmtp_features["auth"]
        binding = ("tls-server-end-point", hashlib.sha256(client.sock.getpeercert(binary_form=True)).digest())
        scram = ScramClient(["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"], USER, PASSWORD, channel_binding=binding)
        assert scram.mechanism_name == "SCRAM-SHA-256-PLUS"
        code, text = client.docmd("AUTH", f"{scram.mechanism_name} {encoded(scram.get_client_first())}")
        scram.set_server_first(base64.b64decode(text).decode())
        code, text = client.docmd(encoded(scram.get_client_final()))
        assert code == 334
        scram.set_server_final(base64.b64decode(text).decode())
        assert client.docmd("")[0] == 235
        client.sendmail(USER, [FAR], MESSAGE.format("bound"))
    relayed(relay, until, "bound")


def test_wrong_passwords_count_over_all_workers_of_a_port(site):
    site.control("pluq.toml", PROFILES.format(**site.ports).replace("auth.delay", "workers = 2\nauth.delay"))
    site.start()
    codes = []
    for _ in range(8):
        with submission(site) as client:
            client.ehlo("client.example")
            codes.append(client.docmd("AUTH PLAIN", encoded(f"\0{USER}\0wrong"))[0])
    assert codes == [535] * 5 + [421] * 3


MECHANISMS = 'auth.mechanisms = ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN"]\n'


def encoded(text):
    return base64.b64encode(text.encode()).decode()
