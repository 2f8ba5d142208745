"""A headless Chromium, driven through its own debugging protocol: no package beside what viser brings."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

PATIENCE = 600.0  # [s] for what takes a second on a machine with nothing else to do
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--use-gl=angle", "--use-angle=swiftshader"),
    *("--enable-unsafe-swiftshader", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-port=0"),
)
_MIDDLE = "const r = b.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2];"


def find_chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Chromium:
    """One page of a browser of its own.

    Args:
        program: Path to Chromium.
        folder: Of its profile.
        size: Of the window [pixels].
    """

    def __init__(self, program: str, folder: Path, size: tuple[int, int] = (1280, 720)) -> None:
        from websockets.sync.client import connect

        flags = (*FLAGS, f"--user-data-dir={folder}", f"--window-size={size[0]},{size[1]}")
        self._process = subprocess.Popen([program, *flags, "about:blank"], stderr=subprocess.DEVNULL)
        try:
            port_file, end = folder / "DevToolsActivePort", time.monotonic() + PATIENCE
            while not (port_file.is_file() and port_file.read_text().count("\n") >= 1):
                if time.monotonic() > end or self._process.poll() is not None:
                    raise RuntimeError("Chromium does not start")
                time.sleep(0.1)
            port = port_file.read_text().split()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=PATIENCE) as answer:
                page = next(target for target in json.load(answer) if target["type"] == "page")
            self._socket = connect(page["webSocketDebuggerUrl"], max_size=None)
        except BaseException:
            self._process.kill()
            raise
        self._number = 0
        self.resize(size)

    def call(self, method: str, within: float = PATIENCE, **parameters: Any) -> Any:
        """Result of a method of the protocol; raises TimeoutError if none comes within a time [s]."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv(timeout=within))
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def resize(self, size: tuple[int, int], scale: float = 1.0) -> None:
        """Give the window a size, and pictures of it so many pixels for each of its own."""
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": scale, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)

    def value(self, expression: str, within: float = PATIENCE) -> Any:
        """Value of an expression of JavaScript in the page."""
        return self.call("Runtime.evaluate", within, expression=expression, returnByValue=True)["result"].get("value")

    def settle(self) -> None:
        """Wait until what the server has sent by now is drawn."""
        frames = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"
        time.sleep(0.2)
        self.call("Runtime.evaluate", expression=frames, awaitPromise=True)

    def wait_for(self, expression: str) -> Any:
        """Its value once that is true."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            # What is asked while a page takes the place of another may never be answered.
            with contextlib.suppress(TimeoutError):
                value = self.value(expression, 20.0)
                if value:
                    return value
            time.sleep(0.1)
        raise AssertionError(f"the page never came to: {expression}; it says: {self.value('document.body.innerText')}")

    def press(self, key: str, code: str) -> None:
        """Press and release a key."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=code)

    def click(self, x: float, y: float) -> None:
        """Click at a place of the window [pixels]."""
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def click_button(self, text: str) -> None:
        """Click the button that says this."""
        find = f"[...document.querySelectorAll('button')].find(b => b.innerText.trim() === {json.dumps(text)})"
        show = f"(b => {{ if (!b) return null; b.scrollIntoView({{block: 'center'}}); {_MIDDLE} }})({find})"
        x, y = self.wait_for(show)
        self.click(x, y)

    def picture(self) -> bytes:
        """The window as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def close(self) -> None:
        self._socket.close()
        self._process.kill()
        self._process.wait()
