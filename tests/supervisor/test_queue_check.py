from __future__ import annotations

import fcntl
import os
import shutil
import stat
from pathlib import Path

import pytest

from pluq.commands import queue_check as command
from pluq.config import Home, current_ids
from pluq.errors import TemporaryFailure
from pluq.supervisor.hier import make_home
from pluq.supervisor.queue_check import RENAMED, QueueCheck, find_split, unused


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(str(tmp_path / "home"))
    os.mkdir(home.path)
    os.mkdir(home.control_dir)
    Path(home.control("singleuser")).touch()
    make_home(home, current_ids())
    return home


def queue(home: Home, *parts: str | int) -> Path:
    return Path(home.queue, *map(str, parts))


def add_message(home: Home, *kinds: str) -> int:
    """Put a message into the queue whose files of `kinds` say which message they belong to; return its number."""
    new = queue(home, "pid/new")
    new.touch()
    number = new.stat().st_ino
    check = QueueCheck(home, current_ids())
    for kind in kinds:
        file = queue(home, check._place(kind, number))
        file.write_text(f"{kind} of {number}\n")
        file.chmod(0o600)
    target = queue(home, check._place("mess", number))
    new.rename(target)
    target.write_text(f"mess of {number}\n")
    target.chmod(0o644)
    for kind in {"todo", "intd"} & set(kinds):
        queue(home, check._place(kind, number)).chmod(0o644)
    return number


def told(home: Home, repair: bool = False, split: int | None = None) -> list[str]:
    found = []
    for findings in QueueCheck(home, current_ids(), split).steps():
        for finding in findings:
            found.append(str(finding))
            if repair:
                finding.repair()
    return found


def snapshot(home: Home) -> dict[str, str]:
    """Return what the message files say, by their place below the queue."""
    base = Path(home.queue)
    return {
        str(path.relative_to(base)): path.read_text()
        for kind in ("mess", "info", "local", "remote", "bounce", "todo", "intd", "stray")
        for path in sorted(base.glob(f"{kind}/**/*"))
        if path.is_file()
    }


def restore_from_copy(home: Home) -> None:
    """Give every file of the queue another inode, as a restore from a backup does."""
    shutil.copytree(home.queue, home.queue + ".copy", ignore=lambda folder, names: [n for n in names if n == "trigger"])
    shutil.rmtree(home.queue)
    os.rename(home.queue + ".copy", home.queue)


def assert_consistent(home: Home, texts: list[str]) -> None:
    """Every message is named by its inode number, and each of its files goes with it."""
    after = snapshot(home)
    assert sorted(after.values()) == sorted(texts)
    names = {text: Path(place).name for place, text in after.items()}
    for place, text in after.items():
        kind, _, old = text.split()
        assert place == QueueCheck(home, current_ids())._place(kind, int(Path(place).name))
        assert names[f"mess of {old}\n"] == Path(place).name
        if kind == "mess":
            assert os.stat(queue(home, place)).st_ino == int(Path(place).name)


def test_a_fresh_queue_is_sound(home: Home) -> None:
    add_message(home, "info", "remote", "bounce")
    add_message(home, "todo", "intd")
    assert told(home) == []


def test_after_a_restore_each_message_gets_its_number_back(home: Home) -> None:
    for kinds in (("info", "local", "remote", "bounce"), ("todo", "intd"), ("info", "local"), ()):
        add_message(home, *kinds)
    texts = list(snapshot(home).values())
    restore_from_copy(home)

    told(home, repair=True)

    assert_consistent(home, texts)
    assert stat.S_ISFIFO(queue(home, "lock/trigger").stat().st_mode)
    assert told(home) == []


@pytest.mark.parametrize("steps", range(1, 24))
def test_an_interrupted_repair_is_finished_by_the_next(home: Home, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for kinds in (("info", "local", "remote", "bounce"), ("todo", "intd"), ("info", "local")):
        add_message(home, *kinds)
    texts = list(snapshot(home).values())
    restore_from_copy(home)
    rename, left = os.rename, steps

    def interrupted(source: str, target: str) -> None:
        nonlocal left
        if not left:
            raise KeyboardInterrupt
        left -= 1
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", interrupted)
        try:
            told(home, repair=True)
        except KeyboardInterrupt:
            pass
    told(home, repair=True)

    assert_consistent(home, texts)


def test_nothing_changes_without_repair(home: Home) -> None:
    add_message(home, "info", "local")
    restore_from_copy(home)
    queue(home, "info/7/999999999").write_text("x")
    before = snapshot(home)
    assert told(home)
    assert snapshot(home) == before
    assert not queue(home, "lock/trigger").exists()


def test_another_split_moves_every_message(home: Home) -> None:
    number = add_message(home, "info", "remote")
    texts = list(snapshot(home).values())
    told(home, repair=True, split=7)
    assert queue(home, "info", number % 7, number).exists()
    assert sorted(snapshot(home).values()) == sorted(texts)


def test_a_lost_folder_in_the_middle_does_not_shrink_the_split(home: Home) -> None:
    queue(home, "mess/5").rmdir()
    queue(home, "local").rename(queue(home, "gone"))
    assert find_split(home.queue) == 23
    told(home, repair=True)
    assert queue(home, "mess/5").is_dir() and queue(home, "local/22").is_dir()
    assert told(home) == []


def test_strangers_are_put_aside_and_never_lost(home: Home) -> None:
    number = add_message(home, "info")
    place = f"info/{(number + 1) % 23}/{number}"
    queue(home, place).write_text("a second one")
    queue(home, "local/3/123456789").write_text("of nobody")
    queue(home, "todo/core").write_text("dumped")
    queue(home, "mess/4/folder").mkdir()

    told(home, repair=True)

    assert queue(home, "stray", place.replace("/", ".")).read_text() == "a second one"
    assert queue(home, "stray/local.3.123456789").read_text() == "of nobody"
    assert queue(home, "stray/todo.core").read_text() == "dumped"
    assert queue(home, "stray/mess.4.folder").is_dir()
    assert queue(home, "info", number % 23, number).read_text() == f"info of {number}\n"
    assert told(home) == []


def test_modes_that_keep_the_queue_from_working_are_set_right(home: Home) -> None:
    number = add_message(home, "info")
    queue(home, "mess", number % 23, number).chmod(0o600)
    queue(home, "info", number % 23, number).chmod(0o666)
    queue(home, "todo").chmod(0o777)
    queue(home, "lock/trigger").chmod(0o600)
    os.truncate(queue(home, "lock/tcpto"), 10)
    assert len(told(home, repair=True)) == 5
    assert told(home) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes owners")
def test_owners_are_set_right(home: Home) -> None:
    number = add_message(home, "info")
    for place in ("bounce", f"mess/{number % 23}/{number}", f"info/{number % 23}/{number}"):
        os.chown(queue(home, place), 65534, 65534)
    assert len(told(home, repair=True)) == 3
    assert told(home) == []


def test_a_split_todo_is_checked_like_the_others(home: Home) -> None:
    for kind in ("todo", "intd"):
        for part in range(23):
            queue(home, kind, part).mkdir(mode=0o750 if kind == "todo" else 0o700)
    number = add_message(home, "todo", "intd")
    texts = list(snapshot(home).values())
    restore_from_copy(home)
    told(home, repair=True)
    assert_consistent(home, texts)
    assert not queue(home, "todo", number % 23, number).exists()


@pytest.mark.parametrize("place", ["lock/sendmutex", "pool"])
def test_a_queue_in_use_is_left_alone(home: Home, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    descriptor = os.open(queue(home, place), os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(TemporaryFailure, match="running"), unused(home):
        pass
    os.close(descriptor)
    with unused(home):
        pass


def test_the_command_tells_repairs_and_says_how_it_ended(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add_message(home, "info")
    restore_from_copy(home)

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["pluq queue check", "--home", home.path, *arguments])
        return command.main(), capsys.readouterr().out

    code, text = run()
    assert code == 1 and "its inode number is" in text and "--repair mends them" in text
    assert run("--repair")[0] == 0
    assert run() == (0, f"{home.queue}: nothing is wrong\n")
    assert not list(Path(home.queue).rglob(f"*{RENAMED}"))
