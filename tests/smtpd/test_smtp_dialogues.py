"""Each file in tests/dialogues/smtp is a session, line for line, in every cut of the stream."""

from pathlib import Path

import pytest

from pluq.config import Home
from pluq.smtpd.policy import read_policy
from pluq.testing.smtp_session import Dialogue, Talk, blur, client_bytes, parse_dialogue

DIALOGUES = sorted((Path(__file__).parent.parent / "dialogues" / "smtp").glob("*.txt"))


def start(dialogue: Dialogue, folder: Path) -> Talk:
    (folder / "control").mkdir()
    for name, text in {"me": "mx.example.org\n", **dialogue.controls}.items():
        (folder / "control" / name).write_text(text)
    return Talk(policy=read_policy(Home(str(folder))), environment=dialogue.environment)


def replies(talk: Talk) -> list[str]:
    return [blur(line) for line in talk.said.decode().split("\r\n")[:-1]]


@pytest.mark.parametrize("path", DIALOGUES, ids=lambda path: path.stem)
def test_the_session_goes_as_written(path: Path, tmp_path: Path) -> None:
    dialogue = parse_dialogue(path.read_text())
    talk = start(dialogue, tmp_path)
    expected, queued = [], []
    for letter, text in dialogue.steps:
        if letter == "C":
            assert replies(talk) == expected, f"before {text!r}"
            talk.send(client_bytes(text))
        elif letter == "S":
            expected.append(text)
        else:
            queued.append([word.replace("\\s", " ") for word in text.split(" ")])
    assert replies(talk) == expected
    assert [[one.sender.decode(), *(rcpt.decode() for rcpt in one.recipients)] for one in talk.queue.messages] == queued


@pytest.mark.parametrize("path", DIALOGUES, ids=lambda path: path.stem)
@pytest.mark.parametrize("step", [1, 3, 1 << 20])
def test_how_the_stream_is_cut_makes_no_difference(path: Path, step: int, tmp_path: Path) -> None:
    dialogue = parse_dialogue(path.read_text())
    talk = start(dialogue, tmp_path)
    stream = b"".join(client_bytes(text) for letter, text in dialogue.steps if letter == "C")
    for begin in range(0, len(stream), step):
        talk.send(stream[begin : begin + step])
    assert replies(talk) == [text for letter, text in dialogue.steps if letter == "S"]
