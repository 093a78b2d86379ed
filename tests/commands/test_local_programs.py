"""qmail-local, qmail-newu, qmail-pw2u and qmail-getpw as programs: words, exit codes, output."""

import os
import pwd
import subprocess
import sys

import pytest

from pluq.store.cdb import Cdb

ASSIGN = b"=joe:joe:507:100:/home/joe:::\n+joe-:joe:507:100:/home/joe:-::\n.\n"
PASSWD = b"alias:x:7790:2108::/a:/bin/true\njoe:x:507:100::/home/joe:/bin/sh\n"


@pytest.fixture
def run(tmp_path):
    for name in ("users", "control"):
        (tmp_path / "qmail" / name).mkdir(parents=True)

    def start(module, *argv, stdin=b""):
        code = f"import sys; sys.argv[0] = {module.replace('_', '-')!r}; from pluq.commands.{module} import main; sys.exit(main())"
        with open(tmp_path / "stdin", "wb") as file:
            file.write(stdin)
        with open(tmp_path / "stdin", "rb") as file:
            done = subprocess.run(
                [sys.executable, "-c", code, *argv],
                stdin=file,
                env={**os.environ, "PLUQ_HOME": f"{tmp_path}/qmail"},
                capture_output=True,
                timeout=60,
                check=False,
            )
        return done.returncode, done.stdout, done.stderr

    return start


@pytest.fixture
def joe(tmp_path):
    place = tmp_path / "joe"
    place.mkdir(mode=0o755)
    (place / ".qmail").write_bytes(b"# hi\n./Mailbox\n./Maildir/ \n|prog x\n&a@b\nc@d\n")
    return place


def test_n_says_what_would_be_done(run, joe):
    code, out, err = run("qmail_local", "-n", "joe", str(joe), "joe", "", "", "h", "s@x", "./Mailbox")
    assert (code, err) == (0, b"")
    assert out == b"mbox ./Mailbox\nmaildir ./Maildir/\nprogram prog x\nforward a@b\nforward c@d\ndid 2+2+1\n"
    assert os.listdir(joe) == [".qmail"]


def test_n_warns_of_a_sticky_home_and_goes_on(run, joe):
    joe.chmod(0o1755)
    code, out, err = run("qmail_local", "-n", "joe", str(joe), "joe", "", "", "h", "s@x", "./Mailbox")
    assert (code, err) == (0, b"Warning: home directory is sticky.\n")
    assert out.endswith(b"did 2+2+1\n")
    code, out, err = run("qmail_local", "joe", str(joe), "joe", "", "", "h", "s@x", "./Mailbox")
    assert code == 111


@pytest.mark.parametrize(
    "argv", [(), ("joe", "home", "joe", "", "", "h", "s", "x"), ("joe", "/h", "joe", "", "", "h", "s"), ("-x",)]
)
def test_wrong_arguments_are_permanent(run, argv):
    code, out, err = run("qmail_local", *argv)
    assert (code, out) == (100, b"")
    assert err.endswith(
        b"qmail-local: usage: qmail-local [ -nN ] user homedir local dash ext domain sender aliasempty\n"
    )


def test_a_delivery_as_a_program(run, joe):
    (joe / ".qmail-x").write_bytes(b"|cat; pwd\n./Mailbox\n")
    argv = ("joe", str(joe), "joe-x", "-", "x", "h", "s@x", "./Mailbox")
    code, out, err = run("qmail_local", *argv, stdin=b"Subject: hi\n\n")
    assert (code, out, err) == (0, b"Subject: hi\n\n%b\ndid 1+0+1\n" % os.fsencode(joe), b"")
    assert b"Delivered-To: joe-x@h\nSubject: hi\n\n\n" in (joe / "Mailbox").read_bytes()


@pytest.mark.parametrize(
    ("ext", "code", "text"),
    [
        ("none", 100, b"Sorry, no mailbox here by that name. (#5.1.1)\n"),
        ("soft", 111, b""),
        ("hard", 100, b""),
        ("file", 111, b"Unable to open ./no/box: file does not exist. (#4.2.1)\n"),
    ],
)
def test_failures_have_qmails_codes_and_words(run, joe, ext, code, text):
    (joe / ".qmail-soft").write_bytes(b"|exit 1\n")
    (joe / ".qmail-hard").write_bytes(b"|exit 100\n")
    (joe / ".qmail-file").write_bytes(b"./no/box\n")
    argv = ("joe", str(joe), f"joe-{ext}", "-", ext, "h", "s@x", "./Mailbox")
    assert run("qmail_local", *argv, stdin=b"x\n") == (code, b"", text)


def test_newu_compiles(run, tmp_path):
    (tmp_path / "qmail/users/assign").write_bytes(ASSIGN)
    assert run("qmail_newu") == (0, b"", b"")
    assert Cdb(f"{tmp_path}/qmail/users/cdb").get(b"!joe\0") == b"joe\x00507\x00100\0/home/joe\0\0"
    assert os.stat(tmp_path / "qmail/users/cdb").st_mode & 0o777 == 0o644


def test_newu_says_what_is_wrong(run, tmp_path):
    assert run("qmail_newu") == (111, b"", b"qmail-newu: fatal: unable to open users/assign\n")
    (tmp_path / "qmail/users/assign").write_bytes(b"=joe\n.\n")
    assert run("qmail_newu") == (111, b"", b"qmail-newu: fatal: bad format in users/assign\n")
    (tmp_path / "qmail/users/assign").write_bytes(ASSIGN)
    (tmp_path / "qmail/users/cdb.tmp").unlink()
    (tmp_path / "qmail/users/cdb.tmp").mkdir()
    assert run("qmail_newu") == (111, b"", b"qmail-newu: fatal: unable to open users/cdb.tmp\n")


def test_pw2u_takes_users_files_into_account(run, tmp_path):
    (tmp_path / "qmail/users/exclude").write_bytes(b"nobody\n")
    (tmp_path / "qmail/users/append").write_bytes(b"=x:y:1:1:/y:::\n")
    code, out, err = run("qmail_pw2u", "-H", "-c+", stdin=PASSWD)
    assert (code, err) == (0, b"")
    assert out.splitlines() == [
        b"+:alias:7790:2108:/a:-::",
        b"=alias:alias:7790:2108:/a:::",
        b"+alias+:alias:7790:2108:/a:-::",
        b"=joe:joe:507:100:/home/joe:::",
        b"+joe+:joe:507:100:/home/joe:-::",
        b"=x:y:1:1:/y:::",
        b".",
    ]


def test_pw2u_needs_an_alias_user(run):
    code, _out, err = run("qmail_pw2u", "-H", stdin=b"joe:x:507:100::/home/joe:/bin/sh\n")
    assert (code, err) == (111, b"qmail-pw2u: fatal: unable to find alias user\n")


def test_getpw_prints_six_fields(run):
    me = pwd.getpwuid(os.getuid())
    code, out, _err = run("qmail_getpw", f"{me.pw_name}-Ext")
    if code == 0:  # where there is an alias user, or we may get mail
        assert out.count(b"\0") == 6
        assert out.split(b"\0")[5].endswith(b"Ext")
    else:
        assert (code, out) == (116, b"")
    assert run("qmail_getpw") == (100, b"", b"")
