"""Draws docs/drive.png and docs/drive.gif: python -m tests.envs.driving.pictures. Takes minutes without a GPU."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import torch
import viser
from PIL import Image

from envs.cli.drive import SHIPPED, what_to_drive
from envs.driving.page import Page
from envs.driving.session import Session
from tests.envs.driving.chromium import Chromium, find_chromium

ROOT = Path(__file__).parents[3]
SIZE, SMALL = (1060, 600), 0.6  # [pixels] of the window; the GIF's share of them
STEPS, DURATION = 9, 150  # control steps between pictures of the GIF; [ms] that each is shown
# Control step, key, how often it is pressed.
PRESSED = ((9, "i", 9), (108, "j", 6), (198, "p", 1), (234, " ", 1))
CODES = {" ": "Space"}
END, STILL = 288, 180  # control steps


def main() -> None:
    torch.set_num_threads(1)
    choices = what_to_drive([])
    session = Session(choices[SHIPPED](1))
    server = viser.ViserServer(host="127.0.0.1", port=8099, verbose=False)
    page = Page(server, session, choices)
    pictures = []
    with tempfile.TemporaryDirectory() as folder:
        browser = Chromium(str(find_chromium()), Path(folder), SIZE)
        browser.resize(SIZE, SMALL)
        browser.call("Page.navigate", url=f"http://127.0.0.1:{server.get_port()}")
        browser.wait_for("document.querySelector('canvas') !== null")
        browser.wait_for("document.body.innerText.includes('vx [m/s]')")
        close = "document.querySelectorAll('.mantine-Notification-closeButton').forEach(b => b.click())"
        while not server.get_clients():
            browser.settle()
        keys = list(PRESSED)
        for step in range(END):
            while keys and keys[0][0] == step:
                _, key, times = keys.pop(0)
                for _ in range(times):
                    browser.press(key, CODES.get(key, f"Key{key.upper()}"))
                browser.settle()
            session.step()
            if step % STEPS == 0:
                browser.value(close)
                for _ in range(10):  # the plots are drawn with every tenth picture
                    page.draw()
                browser.settle()
                picture = Image.open(io.BytesIO(browser.picture())).convert("RGB")
                pictures.append(picture)
                if step == STILL:
                    browser.resize(SIZE)
                    browser.settle()
                    (ROOT / "docs" / "drive.png").write_bytes(browser.picture())
                    browser.resize(SIZE, SMALL)
                print(step, session.shown.command.tolist(), session.falls, flush=True)
        browser.close()
    palette = pictures[len(pictures) // 2].quantize(96)
    frames = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    target = ROOT / "docs" / "drive.gif"
    frames[0].save(target, save_all=True, append_images=frames[1:], duration=DURATION, loop=0, optimize=True)
    print(target, target.stat().st_size)
    server.stop()


if __name__ == "__main__":
    main()
