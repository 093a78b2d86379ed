"""The page in a real browser: Chromium, steered through its pipe (--remote-debugging-pipe)."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import time

import pytest
from tests.status.status_site import EVIL, make_site

from pluq.status.server import Server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(CHROMIUM is None, reason="the Debian package chromium is not installed"),
]
pytest.importorskip("h11", reason="h11 is not installed")
PATIENCE = 60.0
QUIET = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)


class Browser:
    """One headless Chromium with one page."""

    def __init__(self, folder):
        read_end, self._commands = os.pipe()
        self._answers, write_end = os.pipe()

        def places():  # the browser hears on descriptor 3 and speaks on 4
            for number, fd in ((3, read_end), (4, write_end)):
                os.dup2(fd, number)

        spare = [os.dup2(fd, place) for place, fd in enumerate((read_end, write_end), 40)]
        read_end, write_end = spare
        self._process = subprocess.Popen(
            [CHROMIUM, *QUIET, "--remote-debugging-pipe", f"--user-data-dir={folder}", "about:blank"],
            pass_fds=(3, 4, *spare),
            preexec_fn=places,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for fd in spare:
            os.close(fd)
        self._number = 0
        self._buffer = b""
        self.told = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    _session = None

    def call(self, method, **params):
        self._number += 1
        order = {"id": self._number, "method": method, "params": params}
        if self._session:
            order["sessionId"] = self._session
        os.write(self._commands, json.dumps(order).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self.told.append(answer)

    def _read(self):
        while b"\0" not in self._buffer:
            data = os.read(self._answers, 65536)
            assert data, "the browser has gone"
            self._buffer += data
        one, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(one)

    def value(self, expression):
        """Return what a script of ours finds on the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def visit(self, url, width=1280, dark=False, scripts=True):
        self.told.clear()
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=url)
        deadline = time.monotonic() + PATIENCE
        while self.value("document.readyState") != "complete" or self.value("location.href") != url:
            assert time.monotonic() < deadline

    def complaints(self):
        """Return what the browser had to say: faults of scripts, refusals of the policy, and what was loaded but the page itself."""
        logged = [one["params"]["entry"]["text"] for one in self.told if one.get("method") == "Log.entryAdded"]
        faults = [one for one in self.told if one.get("method") == "Runtime.exceptionThrown"]
        return [text for text in logged if "favicon" not in text], faults

    def close(self):
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._commands)
        os.close(self._answers)


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    sock = socket.create_server(("127.0.0.1", 0))
    pid = os.fork()
    if pid == 0:
        try:
            site = make_site(tmp_path_factory.mktemp("home"))
            asyncio.run(Server(site, sock).serve())
        finally:
            os._exit(0)
    port = sock.getsockname()[1]
    sock.close()
    yield f"http://127.0.0.1:{port}/"
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    one = Browser(tmp_path_factory.mktemp("browser"))
    yield one
    one.close()


def test_the_script_runs_and_the_policy_refuses_nothing_of_ours(browser, url):
    browser.visit(url)
    assert browser.complaints() == ([], [])
    assert browser.value("document.getElementById('refresh').hidden") is False
    assert browser.value("getComputedStyle(document.querySelector('.tiles')).display") == "grid"
    assert browser.value("document.scripts.length") == 1
    assert EVIL in browser.value("document.getElementById('main').textContent")


def test_the_policy_refuses_any_other_script(browser, url):
    browser.visit(url)
    script = (
        "new Promise(done => { document.addEventListener('securitypolicyviolation', e => done(e.effectiveDirective));"
        " const s = document.createElement('script'); s.textContent = '1'; document.body.append(s); })"
    )
    assert browser.value(script) == "script-src-elem"


def test_updates_can_be_paused_with_the_keyboard(browser, url):
    browser.visit(url)
    browser.value("document.getElementById('refresh').focus()")
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key=" ", code="Space", text=" ", windowsVirtualKeyCode=32)
    assert browser.value("document.getElementById('refresh').textContent") == "Resume updates"
    assert browser.value("document.getElementById('refresh').getAttribute('aria-pressed')") == "true"


def test_an_update_brings_what_is_new_and_leaves_open_what_was_open(browser, url):
    browser.visit(url)
    browser.value("document.getElementById('main').prepend('out of date'); document.getElementById('day').open = true")
    for _ in range(2):  # paused, and resumed: that asks at once
        browser.value("document.getElementById('refresh').click()")
    deadline = time.monotonic() + PATIENCE
    while "out of date" in browser.value("document.getElementById('main').textContent"):
        assert time.monotonic() < deadline
    assert browser.value("document.getElementById('day').open") is True
    assert browser.value("document.getElementById('note').textContent") == ""
    assert browser.complaints() == ([], [])


def test_the_facts_are_there_without_a_script(browser, url):
    browser.visit(url, scripts=False)
    assert browser.value("document.getElementById('refresh').hidden") is True
    text = browser.value("document.getElementById('main').innerText")
    assert "gmail.example" in text
    assert "1,204" in text


@pytest.mark.parametrize("width", [375, 768, 1280])
def test_nothing_sticks_out_on_a_narrow_screen(browser, url, width):
    browser.visit(url, width=width)
    assert browser.value("document.documentElement.scrollWidth") <= width
    wide = "[...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth + 1).length"
    assert browser.value(wide) == 0


CONTRAST = """
(() => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const light = text => rgb(text).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = node => {
    for (let one = node; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if ((rgb(colour)[3] ?? 1) > 0) return colour;
    }
  };
  const bad = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || node.closest('svg,script,style')) continue;
    const [a, b] = [light(getComputedStyle(node).color), light(behind(node))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) bad.push(node.className + ': ' + walker.currentNode.data.trim());
  }
  return bad;
})()
"""


@pytest.mark.parametrize("dark", [False, True])
def test_every_text_stands_out_from_what_is_behind_it(browser, url, dark):
    browser.visit(url, dark=dark)
    is_dark = browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(16, 24, 28)"
    assert is_dark == dark
    assert browser.value(CONTRAST) == []


def test_who_cannot_see_it_is_told(browser, url):
    browser.visit(url)
    assert browser.value("document.documentElement.lang") == "en"
    assert browser.value("document.querySelectorAll('main, header, footer, nav').length") == 4
    assert browser.value("[...document.querySelectorAll('table')].every(one => one.caption && one.tHead)") is True
    assert browser.value("[...document.querySelectorAll('svg')].every(one => one.ariaLabel || one.ariaHidden)") is True
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    roles = [node["role"]["value"] for node in nodes if not node["ignored"]]
    assert {"main", "navigation", "table", "rowheader", "columnheader", "button"} <= set(roles)


def test_a_picture_can_be_taken(browser, url):
    """And kept, where PLUQ_PICTURES names a folder."""
    for name, width, dark in (("light", 1280, False), ("dark", 1280, True), ("narrow", 375, False)):
        browser.visit(url, width=width, dark=dark)
        picture = base64.b64decode(browser.call("Page.captureScreenshot", captureBeyondViewport=True)["data"])
        assert picture.startswith(b"\x89PNG")
        if "PLUQ_PICTURES" in os.environ:
            with open(f"{os.environ['PLUQ_PICTURES']}/{name}.png", "wb") as file:
                file.write(picture)
