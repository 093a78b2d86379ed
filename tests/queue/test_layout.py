"""Paths in the queue, and what is read from it."""

import os

from pluq.queue.layout import QueueLayout


def test_the_classic_split_is_found(home):
    layout = QueueLayout(home.queue)

    assert (layout.split, layout.todo_split) == (23, False)
    assert layout.mess(100) == f"{home.queue}/mess/8/100"
    assert layout.todo(100) == f"{home.queue}/todo/100"
    assert layout.number_path(100) == "8/100"


def test_another_split_and_big_todo_are_found(tmp_path):
    for part in range(7):
        for folder in ("mess", "todo", "intd"):
            os.makedirs(tmp_path / folder / str(part))
    layout = QueueLayout(str(tmp_path))

    assert (layout.split, layout.todo_split) == (7, True)
    assert layout.todo(9) == f"{tmp_path}/todo/2/9"
    assert layout.intd(9) == f"{tmp_path}/intd/2/9"
    assert len(layout.todo_dirs()) == 7
