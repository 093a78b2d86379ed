"""Addresses that mean something to a shell, to a program's option parser, or to a path. They stay addresses.

Exim 2019-10149, OpenSMTPD 2020-7247 and 2020-8794, Shellshock through qmail-local.
"""

import contextlib
import smtplib

import pytest

from pluq.testing.stack import wait_until

pytestmark = pytest.mark.integration

TRAP = "touch$IFS/tmp/pluq-was-fooled"
LOCALS = (
    ";{trap};", "`{trap}`", "$({trap})", "|{trap}", "&{trap}&", "${{run{{{trap}}}}}", "() {{ :;}}; {trap}", "'{trap}'", '"{trap}"',
    "-froot", "-oQ/tmp", "--help", "../../etc/passwd", ".%2e", "a/../../b", "..", "A" * 300, "%00", "~root", "*", "?", "\\",
)  # fmt: skip


@pytest.fixture
def catching(stack):
    """Joe's program takes every extension and writes down what it was given."""
    seen = stack.folder / "joe" / "seen"
    seen.mkdir(mode=0o777, exist_ok=True)
    seen.chmod(0o777)
    (stack.folder / "joe" / ".qmail-default").write_text(
        "|f=$(mktemp -p "
        + str(seen)
        + ' x.XXXXXX); { printf "%s\\0" "$#" "$EXT" "$SENDER" "$HOST"; cat > /dev/null; } > $f; mv $f $f.done\n'
    )
    yield seen
    for path in seen.iterdir():
        path.unlink()


def quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@pytest.mark.parametrize("role", ["recipient", "sender"])
def test_no_address_is_run_or_taken_for_an_option(stack, catching, tmp_path, role):
    trap = tmp_path / "fooled"
    command = f"touch {trap}"
    sent = 0
    for template in LOCALS:
        local = template.format(trap=command) if "trap" in template else template
        if role == "recipient":
            sender, recipient = "me@far.example", f"{quoted('joe-' + local)}@example.org"
        else:
            sender, recipient = f"{quoted(local)}@far.example", "joe-x@example.org"
        with stack.client() as client, contextlib.suppress(smtplib.SMTPException):
            client.helo("x")
            if client.docmd(f"MAIL FROM:<{sender}>")[0] == 250 and client.docmd(f"RCPT TO:<{recipient}>")[0] == 250:
                sent += client.data("Subject: x\n\nx\n")[0] == 250
    assert sent > len(LOCALS) // 2
    wait_until(lambda: not stack.queued(), stack.told)
    assert not trap.exists()
    found = [path.read_bytes().split(b"\0") for path in catching.glob("*.done")]
    assert found, "the program was run for the others"
    assert {arguments for arguments, *_ in found} == {b"0"}, "nothing in argv"
    if role == "recipient":
        assert not any(extension.startswith(b"() {") for _, extension, *_ in found)


@pytest.mark.parametrize("path", ["../secret", "..", "a/../../secret", "/etc/passwd", "%2e%2e"])
def test_an_extension_never_leaves_the_home(stack, path):
    (stack.folder / "joe" / ".qmail-default").unlink(missing_ok=True)
    (stack.folder / ".qmail-secret").write_text("./Maildir/\n")
    (stack.folder / "secret").write_text("./Maildir/\n")
    before = stack.subjects()
    stack.send("escape", to=f"joe-{path}@example.org")
    wait_until(lambda: not stack.queued(), stack.told)
    assert stack.subjects() == before


def test_options_of_sendmail_and_inject_end_where_addresses_begin(stack, far):
    before = len(far.messages)
    stack.run("sendmail", "-fme@example.org", "--", "-froot@far.example", input=b"Subject: x\n\nx\n")
    wait_until(lambda: len(far.messages) > before, stack.told)
    assert b"RCPT TO:<-froot@far.example>" in far.sessions[-1].commands
