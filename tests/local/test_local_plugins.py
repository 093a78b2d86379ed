"""Plugins that carry out delivery instructions."""

import os
import subprocess
import sys

import pytest

PLUGIN = '''
from pluq import Accept, Defer, Plugin, Reject, hook

class Keep(Plugin):
    """Takes Maildir deliveries over."""
    name = "keep"

    @hook
    def local_deliver(self, delivery, instruction, environment):
        if instruction.endswith(b"/"):
            if b"full" in delivery.recipients[0]:
                return Reject(552, "5.2.2", "mailbox is full")
            if b"busy" in delivery.recipients[0]:
                return Defer(452, "4.2.2", "come back later")
            with open(environment["HOME"] + "/kept", "ab") as file:
                file.write(instruction + b" " + delivery.sender + b"\\\\n" + delivery.message.as_bytes())
            return Accept()
'''.replace("\\\\n", "\\n")


@pytest.fixture
def joe(stack):
    for name in ("control/singleuser", "control/pluq.toml"):
        open(f"{stack.home.path}/{name}", "wb").close()
    os.mkdir(stack.home.plugins)
    with open(f"{stack.home.plugins}/keep.py", "w") as file:
        file.write(PLUGIN)
    with open(stack.home.control("pluq.toml"), "w") as file:
        file.write('[local]\nplugins = ["keep"]\n')
    return stack.user("joe")


def test_a_plugin_takes_the_place_of_the_core(stack, joe):
    stack.start()
    assert stack.deliver(b"joe@h", data=b"Subject: x\n\ny\n") == b"Kdid 1+0+0\n"
    assert (joe / "kept").read_bytes() == b"./Maildir/ s@src.example\nSubject: x\n\ny\n"
    assert os.listdir(joe / "Maildir/new") == []


@pytest.mark.parametrize(
    ("local", "report"), [(b"full", b"Dmailbox is full (#5.2.2)\n"), (b"busy", b"Zcome back later (#4.2.2)\n")]
)
def test_a_verdict_is_the_report(stack, joe, local, report):
    (joe / f".qmail-{local.decode()}").write_bytes(b"./Maildir/\n")
    stack.start()
    assert stack.deliver(b"joe-%b@h" % local) == report


@pytest.mark.parametrize(
    ("toml", "sized"), [("[core]\n", True), ("[core]\nmaildir_sizes = false\n", False), (None, False)]
)
@pytest.mark.parametrize("lines", [b"./Maildir/\n", b"./Maildir/\n|true\n"])
def test_names_tell_sizes_where_the_site_has_a_pluq_toml(stack, joe, toml, sized, lines):
    if toml is None:
        os.unlink(stack.home.control("pluq.toml"))
    else:
        with open(stack.home.control("pluq.toml"), "w") as file:
            file.write(toml)
    (joe / ".qmail").write_bytes(lines)
    stack.start()
    assert stack.deliver(b"joe@h")[:1] == b"K"
    [name] = os.listdir(joe / "Maildir/new")
    size = os.path.getsize(joe / "Maildir/new" / name)
    assert name.endswith(f",S={size}") is sized
    assert ("," in name) is sized


RESEND = """
from pluq import Plugin, Reject, hook

class Resend(Plugin):
    \"\"\"Changes the envelope of what is sent on.\"\"\"
    name = "keep"

    @hook
    def forward_envelope(self, delivery, environment):
        if environment["EXT"] == "no":
            return Reject(550, "5.7.1", "not from here")
        delivery.sender = delivery.channel.encode() + b"+" + delivery.sender
        delivery.recipients.append(b"copy@example.org")
"""


@pytest.mark.parametrize("line", ["&ann@x.example", "|forward ann@x.example"])
def test_a_plugin_changes_what_is_sent_on(stack, joe, line):
    with open(f"{stack.home.plugins}/keep.py", "w") as file:
        file.write(RESEND)
    with open(f"{stack.home.path}/bin/qmail-queue", "w") as file:
        file.write(f"#!/bin/sh\ncat > /dev/null\ncat <&1 > {joe}/envelope\n")
    os.chmod(file.name, 0o755)
    os.symlink(f"{os.path.dirname(sys.executable)}/forward", f"{stack.home.path}/bin/forward")
    for name in (".qmail", ".qmail-no"):
        (joe / name).write_text(f"{line}\n")
    stack.own()
    stack.start()
    assert stack.deliver(b"joe@h")[:1] == b"K"
    assert (joe / "envelope").read_bytes() == b"Fforward+s@src.example\0Tann@x.example\0Tcopy@example.org\0\0"
    report = stack.deliver(b"joe-no@h")
    assert report[:1] == b"D" and b"not from here (#5.7.1)" in report


@pytest.mark.parametrize(("code", "exit_code"), [(1, 1), (77, 77), (128, 100), (552, 100)])
def test_the_code_of_a_refusal_is_that_of_qmail_local(stack, joe, code, exit_code):
    with open(f"{stack.home.plugins}/keep.py", "w") as file:
        file.write(PLUGIN.replace("552", str(code)))
    (joe / ".qmail-full").write_bytes(b"./Maildir/\n")
    (joe / "message").write_bytes(b"Subject: x\n\n")
    argv = ["joe", str(joe), "joe-full", "-", "full", "h", "s@x", "./Maildir/"]
    program = "import sys; from pluq.commands.qmail_local import main; sys.exit(main())"
    with open(joe / "message", "rb") as message:
        done = subprocess.run(
            [sys.executable, "-c", program, *argv],
            stdin=message,
            env={**os.environ, "PLUQ_HOME": stack.home.path},
            capture_output=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (exit_code, b"mailbox is full (#5.2.2)\n")


def test_what_it_has_no_opinion_of_the_core_delivers(stack, joe):
    (joe / ".qmail").write_bytes(b"./Mailbox\n|echo ran\n")
    stack.start()
    assert stack.deliver(b"joe@h") == b"Kran\ndid 1+0+1\n"
    assert (joe / "Mailbox").exists()


def test_qmail_local_asks_it_too(stack, joe):
    with open(joe / "message", "wb") as file:
        file.write(b"Subject: x\n\n")
    argv = ["joe", str(joe), "joe", "", "", "h", "s@x", "./Maildir/"]
    code = "import sys; from pluq.commands.qmail_local import main; sys.exit(main())"
    with open(joe / "message", "rb") as message:
        done = subprocess.run(
            [sys.executable, "-c", code, *argv],
            stdin=message,
            env={**os.environ, "PLUQ_HOME": stack.home.path},
            capture_output=True,
            timeout=60,
            check=True,
        )
    assert done.stdout == b"did 1+0+0\n"
    assert (joe / "kept").exists()
