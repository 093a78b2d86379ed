"""`pluq install` makes a home that instcheck finds nothing wrong with, and gives back what it found when it goes."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from pluq.config import Home, current_ids, qmail_ids
from pluq.supervisor.distribution import UNIT, Brought
from pluq.supervisor.install import Installer
from pluq.supervisor.instcheck import complaints
from pluq.supervisor.manifest import Entry, entries
from pluq.testing.stack import BIN


@pytest.fixture(scope="module")
def brought():
    return Brought()


@pytest.fixture
def home(tmp_path):
    tmp_path.chmod(0o755)
    return Home(str(tmp_path / "qmail"))


def wrong(home, brought, ids=None):
    return list(complaints(home, ids or home.ids(), entries(brought)))


def install(home, brought, **options):
    installer = Installer(home, home.ids(), **options)
    installer.install(entries(brought))
    return installer


def test_everything_that_is_installed_is_what_instcheck_wants(home, brought):
    install(home, brought)
    assert wrong(home, brought) == []
    done = subprocess.run([f"{home.bin}/qmail-showctl", "--help"], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0
    assert {"qmail-send.8", "pluq.1"} <= {path.name for path in Path(home.path, "man").glob("man*/*")}
    assert "srsfilter" in os.listdir(home.bin)


@pytest.mark.skipif(qmail_ids().single, reason="needs root and the qmail users")
def test_owners_are_the_qmail_users(home, brought):
    install(home, brought)
    ids = qmail_ids()
    for name, owner, mode in [
        ("bin/qmail-queue", 0, 0o755),
        ("bin/qmail-lspawn", 0, 0o700),
        ("queue/lock/trigger", ids.uid["qmails"], 0o622),
        ("queue/lock/tcpto", ids.uid["qmailr"], 0o644),
        ("queue/mess/22", ids.uid["qmailq"], 0o750),
        ("alias", ids.uid["alias"], 0o2755),
        ("man/man8/qmail-send.8", 0, 0o644),
    ]:
        status = os.stat(f"{home.path}/{name}")
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (owner, ids.gid["qmail"], mode), name


@pytest.mark.parametrize(
    ("path", "spoil", "complaint"),
    [
        ("queue/todo", lambda path: path.chmod(0o777), "{home}/queue/todo has wrong permissions"),
        ("queue/lock/trigger", Path.unlink, "{home}/queue/lock/trigger does not exist"),
        ("bin/qmail-smtpd", Path.unlink, ".../bin/qmail-smtpd does not exist"),
        ("man/man8/qmail-send.8", lambda path: path.chmod(0o600), ".../man/man8/qmail-send.8 has wrong permissions"),
        ("queue/pid", lambda path: path.rmdir() or path.touch(0o700), "{home}/queue/pid has wrong type"),
    ],
    ids=lambda value: value if isinstance(value, str) and "/" in value and "{" not in value else "",
)
def test_instcheck_complains_in_the_words_of_qmail_and_install_mends(home, brought, path, spoil, complaint):
    install(home, brought)
    spoil(Path(home.path, path))
    assert complaint.format(home=home.path) in wrong(home, brought)
    if "type" not in complaint:
        install(home, brought)
        assert wrong(home, brought) == []


@pytest.mark.skipif(qmail_ids().single, reason="needs root and the qmail users")
def test_wrong_owners_and_groups_are_told(home, brought):
    install(home, brought)
    os.chown(f"{home.path}/queue/todo", 0, 0)
    assert [line.rpartition("/")[2] for line in wrong(home, brought)] == [
        "todo has wrong owner",
        "todo has wrong group",
    ]


def test_a_staged_home_has_its_final_place_and_needs_no_accounts(tmp_path, brought):
    home = Home("/srv/qmail")
    installer = Installer(home, current_ids(), str(tmp_path))
    installer.install(entries(brought))
    installer.link_sendmail()
    installer.install_unit(brought.shared[UNIT])
    assert wrong(Home(str(tmp_path / "srv/qmail")), brought, current_ids()) == []
    assert os.readlink(tmp_path / "usr/sbin/sendmail") == "/srv/qmail/bin/sendmail"
    assert "ExecStart=/srv/qmail/bin/pluq serve" in (tmp_path / "usr/lib/systemd/system/pluq.service").read_text()
    assert 'PATH="/srv/qmail/bin:$PATH"' in (tmp_path / "srv/qmail/boot/home").read_text()
    assert not Path("/srv/qmail").exists()


def test_what_another_qmail_had_comes_back(home, brought):
    stock = Path(home.path, "bin", "qmail-queue")
    stock.parent.mkdir(parents=True)
    stock.write_bytes(b"\x7fELF stock")
    stock.chmod(0o4711)
    page = Path(home.path, "man/man8/qmail-send.8")
    page.parent.mkdir(parents=True)
    page.write_text("the page of stock qmail")
    for _ in range(2):  # a second time is an upgrade
        installer = install(home, brought)
        assert wrong(home, brought) == []
    kept = Path(home.path, "before-pluq/bin/qmail-queue")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o4711
    Path(home.control("me")).write_text("mail.example.org\n")
    message = Path(home.queue, "mess/1/24")
    message.write_text("mail")

    assert installer.remove() == []
    assert stock.read_bytes() == b"\x7fELF stock"
    assert stat.S_IMODE(stock.stat().st_mode) == 0o4711
    assert page.read_text() == "the page of stock qmail"
    assert os.listdir(home.bin) == ["qmail-queue"]
    assert not {"boot", "before-pluq", "installed-by-pluq"} & set(os.listdir(home.path))
    assert {"alias", "control", "queue", "users"} <= set(os.listdir(home.path))
    assert message.read_text() == "mail"
    assert Path(home.control("me")).exists()


def test_a_program_that_was_put_back_by_hand_stays(home, brought):
    installer = install(home, brought)
    other = Path(home.bin, "qmail-remote")
    other.unlink()
    other.write_bytes(b"\x7fELF stock")
    assert wrong(home, brought) == []  # whoever put it there decides
    assert installer.remove() == [str(other)]
    assert other.exists()


def test_a_link_in_the_queue_is_not_followed(home, brought, tmp_path):
    install(home, brought)
    victim = tmp_path / "victim"
    victim.touch(0o600)
    lock = Path(home.queue, "lock/tcpto")
    lock.unlink()
    lock.symlink_to(victim)
    with pytest.raises(OSError, match="tcpto"):
        install(home, brought)
    assert stat.S_IMODE(victim.stat().st_mode) == 0o600


def test_the_links_of_sendmail_give_way_again(tmp_path, brought):
    sendmail = tmp_path / "usr/sbin/sendmail"
    sendmail.parent.mkdir(parents=True)
    sendmail.write_text("another mail system")
    installer = Installer(Home("/var/qmail"), current_ids(), str(tmp_path))
    installer.link_sendmail()
    installer.link_sendmail()
    assert os.readlink(sendmail) == "/var/qmail/bin/sendmail"
    installer.remove()
    assert sendmail.read_text() == "another mail system"
    assert not os.path.lexists(tmp_path / "usr/lib/sendmail")


def test_a_package_builder_gets_a_list_of_owners_and_modes():
    done = subprocess.run(
        [str(BIN / "pluq"), "install", "--list"], capture_output=True, text=True, timeout=60, check=True
    )
    assert "0755 root qmail /var/qmail/bin/qmail-queue\n" in done.stdout
    assert "2755 alias qmail /var/qmail/alias\n" in done.stdout


def test_the_commands_say_what_they_need(tmp_path):
    def run(*words):
        return subprocess.run([str(BIN / "pluq"), *words], capture_output=True, text=True, timeout=60, check=False)

    gone = run("instcheck", "--home", str(tmp_path / "none"))
    assert (gone.returncode, gone.stderr) == (
        111,
        f"instcheck: fatal: unable to switch to {tmp_path / 'none'}: file does not exist\n",
    )
    (tmp_path / "file").touch()
    failed = run("install", "--home", str(tmp_path / "file" / "home"))
    assert failed.returncode == 111
    assert failed.stderr.startswith("pluq install: fatal: ")
    home = str(tmp_path / "home")
    assert run("install", "--home", home).returncode == 0
    assert run("instcheck", "--home", home).returncode == 0
    os.unlink(f"{home}/bin/qmail-clean")
    checked = run("instcheck", "--home", home)
    assert (checked.returncode, checked.stderr) == (1, "instcheck: warning: .../bin/qmail-clean does not exist\n")


def test_entries_are_not_twice_in_the_list(brought):
    paths = [entry.path for entry in entries(brought)]
    assert len(paths) == len(set(paths))
    assert isinstance(next(entries(brought)), Entry)
