"""Draws docs/drive.png and docs/drive.gif: python tests/envs/driving/pictures.py. Takes minutes without a GPU."""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

import torch
import viser
from PIL import Image

ROOT = Path(__file__).parents[3]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from chromium import Chromium, find_chromium

from envs.cli.drive import SHIPPED, what_to_drive
from envs.driving.page import Page
from envs.driving.session import Session

SIZE, SMALL = (1120, 630), (720, 405)  # [pixels] of the window, of the GIF
STEPS, DURATION = 6, 120  # control steps between pictures of the GIF; [ms] that each is shown
# Control step, key, how often it is pressed.
PRESSED = ((10, "i", 9), (150, "j", 6), (270, "j", -6), (290, "p", 1), (360, "k", 9), (420, "o", 3), (520, " ", 1))
CODES = {" ": "Space"}
END, STILL = 570, 255  # control steps


def main() -> None:
    torch.set_num_threads(1)
    choices = what_to_drive([])
    session = Session(choices[SHIPPED](1))
    server = viser.ViserServer(host="127.0.0.1", port=8099, verbose=False)
    page = Page(server, session, choices)
    pictures = []
    with tempfile.TemporaryDirectory() as folder:
        browser = Chromium(str(find_chromium()), Path(folder), SIZE)
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
                key, times = (key, times) if times > 0 else ({"j": "l"}[key], -times)
                for _ in range(times):
                    browser.press(key, CODES.get(key, f"Key{key.upper()}"))
                browser.settle()
            session.step()
            if step % STEPS == 0 or step == STILL:
                browser.value(close)
                for _ in range(10 if step % (2 * STEPS) == 0 else 1):  # the plots are drawn with every tenth picture
                    page.draw()
                browser.settle()
                picture = Image.open(io.BytesIO(browser.picture())).convert("RGB")
                if step == STILL:
                    picture.save(ROOT / "docs" / "drive.png", optimize=True)
                else:
                    pictures.append(picture.resize(SMALL, Image.Resampling.LANCZOS))
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
