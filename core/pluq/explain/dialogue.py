r"""The client's side of a session from a file, and what the real session says to it.

Two forms. A dialogue has a letter in front of each line: `C:` what the client sends (\r \n \0 \\ and \xNN are those octets), `S:` what the
server had said then, which is compared, `E: NAME=value` a variable of the connection, `#` a comment. Any other file is what a client sends,
line for line.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from pluq.explain.door import Door
from pluq.explain.listener import Heard
from pluq.explain.rehearsal import Exchange, Rehearsal
from pluq.explain.step import Found
from pluq.smtpd.offline import blur, client_line

HIDDEN = b"(not shown)"
_MARKED = re.compile(r"^(?:[CSEKQ]:|#|\s*$)")


@dataclass
class Script:
    """What the client sends, each line with what the server had said to it (nothing where that was not recorded)."""

    greeting: list[str] = field(default_factory=list)
    lines: list[tuple[bytes, list[str]]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)


def parse_script(data: bytes) -> Script:
    """Return the client's lines in a file of either form."""
    rows = data.decode("utf-8", "surrogateescape").removesuffix("\n").split("\n")
    script = Script()
    if not all(_MARKED.match(row) for row in rows):
        script.lines = [(row.removesuffix("\r").encode("utf-8", "surrogateescape"), []) for row in rows]
        return script
    for row in rows:
        letter, rest = row[:1], row[2:].removeprefix(" ").removesuffix("\r")
        if letter == "C":
            script.lines.append((client_line(rest), []))
        elif letter == "S":
            (script.lines[-1][1] if script.lines else script.greeting).append(rest)
        elif letter == "E":
            name, _, value = rest.partition("=")
            script.environment[name] = value
    return script


@dataclass(frozen=True)
class Turn:
    """One line of the client (None: it connected), what came of it, and what was recorded."""

    line: bytes | None
    exchange: Exchange
    recorded: Sequence[str]

    @property
    def said(self) -> list[str]:
        return self.exchange.reply.decode("utf-8", "replace").replace("\r", "").split("\n")[:-1]

    @property
    def differs(self) -> bool:
        """True if something else had been said."""
        return bool(self.recorded) and [blur(one) for one in self.recorded] != [blur(one) for one in self.said]


def rehearse(door: Door, ip: str, script: Script, as_json: bool) -> Found:
    """Return what a script comes to. The facts: the dialogue as text, and whether it differs from the recorded one. Raises ConfigError."""
    return asyncio.run(_rehearse(door, ip, script, as_json))


async def _rehearse(door: Door, ip: str, script: Script, as_json: bool) -> Found:
    rehearsal, steps = door.rehearse(ip, script.environment)
    if rehearsal is None:
        return Found(steps, {})
    turns = await replay(rehearsal, script)
    differs = any(turn.differs for turn in turns)
    if as_json:
        answer = {"profile": door.profile.name, "ip": ip, "turns": [turn_json(turn) for turn in turns], "log": door.log}
        return Found([], {"text": json.dumps(answer) + "\n", "differs": differs})
    rows = [f"# {steps[0].what}  [{steps[0].by}]"]
    rows += [row for turn in turns for row in turn_lines(turn)] + [f"# logged: {line}" for line in door.log]
    return Found([], {"text": "".join(f"{row}\n" for row in rows), "differs": differs})


async def replay(rehearsal: Rehearsal, script: Script) -> list[Turn]:
    """Say the script to the session; return what it answered, to its end."""
    turns = [Turn(None, await rehearsal.begin(), script.greeting)]
    try:
        for line, recorded in script.lines:
            if rehearsal.is_over:
                break
            shown = without_secret(line, rehearsal.awaits_secret)
            turns.append(Turn(shown, await rehearsal.say(line), recorded))
    finally:
        await rehearsal.end()
    return turns


def without_secret(line: bytes, is_secret: bool) -> bytes:
    """Return a line as it may be shown: passwords are for nobody's screen."""
    if is_secret:
        return HIDDEN
    words = line.split(b" ", 2)
    return b" ".join([*words[:2], HIDDEN]) if words[0].upper() == b"AUTH" and len(words) > 2 else line


def turn_lines(turn: Turn) -> list[str]:
    """Return a turn as text: the client's line, the plugins that were asked with their times, the reply and what made it."""
    rows = [] if turn.line is None else [f"C: {turn.line.decode('utf-8', 'backslashreplace')}"]
    rows += [f"      {heard_row(one)}" for one in turn.exchange.heard]
    rows += [f"S: {row}" for row in turn.said]
    if turn.said:
        rows[-1] += f"  [{turn.exchange.by}]"
    if turn.differs:
        rows += [f"!  recorded: {row}" for row in turn.recorded]
    return rows


def heard_row(heard: Heard) -> str:
    return f"{heard.name} {heard.seconds * 1000:.2f} ms: {heard.said()}"


def turn_json(turn: Turn) -> dict[str, object]:
    return {
        "client": None if turn.line is None else turn.line.decode("utf-8", "backslashreplace"),
        "reply": turn.said,
        "by": turn.exchange.by,
        "differs": turn.differs,
        "hooks": [
            {"plugin": one.plugin, "hook": one.hook, "ms": round(one.seconds * 1000, 3), "said": one.said()}
            for one in turn.exchange.heard
        ],
    }
