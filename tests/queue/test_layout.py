"""Paths in the queue, and what is read from it."""

import os

from pluq.queue.layout import QueueLayout, make_queue


def test_a_queue_is_made_with_the_classic_split(tmp_path):
    make_queue(str(tmp_path / "queue"))
    layout = QueueLayout(str(tmp_path / "queue"))

    assert (layout.split, layout.todo_split) == (23, False)
    assert layout.mess(100) == f"{layout.path}/mess/8/100"
    assert layout.todo(100) == f"{layout.path}/todo/100"
    assert os.path.getsize(f"{layout.path}/lock/tcpto") == 1024


def test_another_split_and_big_todo_are_found(tmp_path):
    make_queue(str(tmp_path / "queue"), split=7, todo_split=True)
    layout = QueueLayout(str(tmp_path / "queue"))

    assert (layout.split, layout.todo_split) == (7, True)
    assert layout.todo(9) == f"{layout.path}/todo/2/9"
    assert layout.intd(9) == f"{layout.path}/intd/2/9"
    assert len(layout.todo_dirs()) == 7


def test_what_exists_is_left_alone(tmp_path):
    queue = str(tmp_path / "queue")
    make_queue(queue)
    os.chmod(f"{queue}/mess/3", 0o700)
    make_queue(queue)
    assert os.stat(f"{queue}/mess/3").st_mode & 0o777 == 0o700
