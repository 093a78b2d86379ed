"""Services of inetd, xinetd and systemd, and run scripts in execline: what is read, and that no text breaks it."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pluq.migrate import execline, superservers
from pluq.migrate.tree import Tree

SMTPD = "/var/qmail/bin/qmail-smtpd"


@pytest.fixture
def commands(tmp_path):
    def found(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return list(superservers.commands(Tree(str(tmp_path))))

    return found


def test_a_line_of_inetd_may_go_through_tcpd(commands):
    line = f"192.0.2.1:smtp stream tcp nowait qmaild.nofiles /usr/sbin/tcpd /var/qmail/bin/tcp-env {SMTPD}\n"
    (one,) = commands({"etc/inetd.conf": "# smtp\nftp stream tcp nowait root ftpd ftpd\n" + line})
    assert one.argv == ["/usr/sbin/tcpd", "/var/qmail/bin/tcp-env", SMTPD]
    assert one.listener.arguments == ("192.0.2.1", "smtp")
    assert (one.listener.options, one.line) == ({"u": "qmaild.nofiles"}, 3)


def test_xinetd_has_its_own_names_for_everything(commands):
    text = (
        "service unlisted\n{\n flags = NAMEINARGS\n port = 2525\n bind = 192.0.2.9\n user = qmaild\n server = /var/qmail/bin/tcp-env\n"
        f' server_args = tcp-env -R {SMTPD}\n env = A=1\n env += B="two words"\n}}\nservice x {{\n'
    )
    (one,) = commands({"etc/xinetd.d/lan": text})
    assert (one.name, one.argv) == ("lan", ["/var/qmail/bin/tcp-env", "-R", SMTPD])
    assert one.listener.arguments == ("192.0.2.9", "2525")
    assert {name: value for name, (value, _, _) in one.variables.items()} == {"A": "1", "B": "two words"}
    assert not one.down


def test_a_drop_in_takes_the_place_of_a_units_command(commands):
    files = {
        "etc/systemd/system/smtp.service": "[Service]\nUser=qmaild\nExecStart=/old/tcpserver 0 25 qmail-smtpd\n",
        "etc/systemd/system/smtp.service.d/port.conf": f"[Service]\nExecStart=\nExecStart=/new/tcpserver \\\n 0 26 {SMTPD}\n",
        "lib/systemd/system/smtp.service": "[Service]\nExecStart=/vendor/tcpserver 0 24 qmail-smtpd\n",
    }
    (one,) = commands(files)
    assert one.argv == ["setuidgid", "qmaild", "/new/tcpserver", "0", "26", SMTPD]


def test_execline_is_one_command_line():
    text = (
        '#!/bin/execlineb -P\n# why\nfdmove -c 2 1\ncd sub\nif -n { test -e /x }\nexport A "b \\"c\\" # d"\n'
        'foreground { background { true } echo } s6-tcpserver "0" 25 qmail-smtpd\n'
    )
    assert execline.is_execline(text)
    outcome = execline.run(text, "/s/run", "/s")
    (started,) = outcome.started
    assert started.argv == ("s6-tcpserver", "0", "25", "qmail-smtpd")
    assert (started.variables["A"].value, started.folder, started.line) == ('b "c" # d', "/s/sub", 7)


@pytest.mark.parametrize(
    "text",
    [
        "backtick -n X { hostname } importas X X tcpserver 0 25 qmail-smtpd",
        "define P 25 tcpserver 0 ${P} qmail-smtpd",
        "foreground { tcpserver",
        'tcpserver "0 25',
    ],
)
def test_what_execline_cannot_know_is_a_fault_and_no_guess(text):
    outcome = execline.run("#!/bin/execlineb\n" + text, "/s/run", "/s")
    assert outcome.faults and not outcome.started


@settings(deadline=None)
@given(st.text(alphabet='{}"\\ \n#$ab', max_size=60))
def test_no_text_breaks_execline(text):
    execline.run("#!/bin/execlineb -P\n" + text, "/s/run", "/s")


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet='=+{}[]"\\ \n#%$,aE:', max_size=60))
def test_no_text_breaks_the_readers_of_units(tmp_path, text):
    for name in ("etc/inetd.conf", "etc/xinetd.d/smtp", "etc/systemd/system/qmail.service", "etc/hosts.allow"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f"service smtp\n{{\nserver = qmail-smtpd\nExecStart=qmail-smtpd {text}\nEnvironment={text}\ntcp-env: {text}\n}}"
        )
    tree = Tree(str(tmp_path))
    list(superservers.commands(tree))
    list(superservers.host_rules(tree))
