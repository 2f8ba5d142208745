"""The page: sliders and keys for the command, what can be done to the robots, and what they do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from cmg_ref.core.command_layout import CommandChannel
from cmg_ref.core.shorten import one_line
from envs.driving.robots import DrivenRobots
from envs.driving.scene import Scene
from envs.driving.session import Session
from envs.playing.playback import COMMANDED, MEASURED

PICTURES = 30  # a second
# Keys that make channels more and less, in the order of the layout: viser moves its camera by wasd, qe and the arrows.
KEYS = (("I", "K"), ("U", "O"), ("J", "L"), ("Y", "H"), ("T", "G"))
_PLOT_EVERY, _POLICY_EVERY = 10, 60  # pictures
_SLIDER_STEPS = 10  # in what a key changes
_BRAND = (31, 95, 168)


class Page:
    """Shows a session to everyone who opens the page, and takes their orders.

    Nothing here is waited for by the session's loop, however slow a browser is.

    Args:
        server: Of viser.
        session: What is driven.
        choices: What can be driven, by name: given a number of robots, it makes them. The first is driven already.

    Attributes:
        sliders: One for each channel of the command.
    """

    def __init__(self, server: Any, session: Session, choices: Mapping[str, Callable[[int], DrivenRobots]]) -> None:
        self._server, self._session, self._choices = server, session, choices
        self._scene, self._lock, self._ended = Scene(server), threading.RLock(), threading.Event()
        self._pictures, self._trouble = 0, ""
        gui = server.gui
        gui.configure_theme(show_logo=False, show_share_button=False, brand_color=_BRAND)
        gui.set_panel_label("cmg-drive")
        self._status = gui.add_markdown("")
        self._choice = gui.add_dropdown("moved by", list(choices), hint="a policy, or the reference by itself")
        self._driven = self._choice.value
        self._command_folder = gui.add_folder("Command")
        with gui.add_folder("Robot"):
            self._reset = gui.add_button("reset", hint="key R")
            self._push = gui.add_button("push", hint="in a random direction; key P")
            self._speed = gui.add_slider("push [m/s]", 0.1, 2.0, 0.1, 0.6)
            self._friction = gui.add_slider("friction", 0.1, 1.5, 0.05, 1.0, hint="between soles and floor")
        with gui.add_folder("View"):
            self._ghost = gui.add_checkbox("reference", True, hint="what the robot should look like, in green")
            self._follow = gui.add_checkbox("follow", True, hint="the camera goes along")
        panel = gui.add_panel()
        self._plot_tab = panel.add_tab("Command and measured")
        panel.float(x=15, y=15, width=270)
        self.sliders: list[Any] = []
        self._of_robots: list[Any] = []
        self._reset.on_click(lambda _: self.reset())
        self._push.on_click(lambda _: session.push(self._speed.value))
        self._friction.on_update(lambda _: session.set_friction(self._friction.value))
        self._choice.on_update(lambda _: self.choose(self._choice.value))
        for label, key, action in (
            ("Stand", "space", self.stop),
            ("Reset", "R", self.reset),
            ("Push", "P", lambda: session.push(self._speed.value)),
        ):
            _on_key(gui, label, key, action)
        self._take()

    def run(self) -> None:
        """Draw until `end` is called."""
        due = time.monotonic()
        while not self._ended.wait(max(0.0, due - time.monotonic())):
            due = max(due + 1.0 / PICTURES, time.monotonic())
            self.draw()

    def end(self) -> None:
        """Let `run` return."""
        self._ended.set()

    def draw(self) -> None:
        """Draw what there is to see now, if anybody looks."""
        self._pictures += 1
        if self._pictures % _POLICY_EVERY == 0:
            robots = self._session.robots
            before = robots.origin
            try:
                robots.refresh_policy()
            except ValueError as error:
                self._trouble = f" · {one_line(str(error))}"
            if robots.origin != before:
                self._trouble = ""
        if not self._server.get_clients():
            return
        with self._lock:
            self._scene.draw(self._session.shown, self._follow.value, self._ghost.value)
            if self._pictures % _PLOT_EVERY == 0:
                self._write()

    def stop(self) -> None:
        """Want the command at rest."""
        with self._lock:
            self._random.value = False
            self._set(self._session.robots.layout.rest().tolist())

    def reset(self) -> None:
        """Stand where the robots began."""
        self.stop()
        self._session.reset()

    def choose(self, name: str) -> None:
        """Drive what has a name; what was driven goes on until that is there, and for good if it cannot be made."""
        if name == self._driven:
            return
        self._choice.disabled = True
        try:
            self._session.drive(self._choices[name](self._session.robots.num_robots))
            self._driven = name
            self._take()
        except (ValueError, OSError) as error:
            for client in self._server.get_clients().values():
                client.add_notification("Cannot be driven", one_line(str(error)), color="red")
        finally:
            self._choice.disabled, self._choice.value = False, self._driven

    # Inside -----------------------------------------------------------------------------------------------------------

    def _take(self) -> None:
        """Make the page fit the robots."""
        session, robots, gui = self._session, self._session.robots, self._server.gui
        with self._lock:
            for handle in self._of_robots:
                handle.remove()
            self._scene.take(robots, session.shown)
            with self._command_folder:
                self.sliders = [self._slider(column) for column in range(robots.layout.size)]
                stop = gui.add_button("stop", hint="the space bar")
                self._random = gui.add_checkbox("random schedule", False, hint="another command every few seconds")
            stop.on_click(lambda _: self.stop())
            self._random.on_update(lambda _: setattr(session, "random", self._random.value))
            with self._plot_tab:
                self._plots = [self._plot(column) for column in range(robots.layout.size)]
            keys = [self._keys(column) for column in range(min(robots.layout.size, len(KEYS)))]
            self._of_robots = [
                *self.sliders,
                stop,
                self._random,
                *self._plots,
                *(key for pair in keys for key in pair),
            ]
        self._push.disabled, self._friction.disabled = not robots.can_be_pushed, not robots.changes_friction
        session.random = False
        if robots.changes_friction and self._friction.value != 1.0:
            session.set_friction(self._friction.value)

    def _slider(self, column: int) -> Any:
        robots = self._session.robots
        channel = robots.layout.channels[column]
        low, high = float(robots.lowest[column]), float(robots.highest[column])
        keys = f"keys {' and '.join(KEYS[column])}" if column < len(KEYS) else None
        slider = self._server.gui.add_slider(
            _title(channel), low, high, channel.step / _SLIDER_STEPS, min(max(channel.rest, low), high), hint=keys
        )
        slider.on_update(lambda event: self._steer(by_hand=event.client is not None))
        return slider

    def _plot(self, column: int) -> Any:
        robots = self._session.robots
        low, high = float(robots.lowest[column]), float(robots.highest[column])
        margin = 0.1 * (high - low)
        return self._server.gui.add_uplot(
            (np.zeros(1), np.zeros(1), np.zeros(1)),
            (
                {"label": "time [s]"},
                {"label": "command", "stroke": COMMANDED, "width": 2},
                {"label": "measured", "stroke": MEASURED, "width": 2},
            ),
            title=_title(robots.layout.channels[column]),
            scales={"x": {"time": False}, "y": {"range": (low - margin, high + margin)}},
            legend={"show": column == 0, "live": False},
            aspect=2.2,
        )

    def _keys(self, column: int) -> list[Any]:
        channel = self._session.robots.layout.channels[column]

        def move(steps: float) -> None:
            with self._lock:  # viser hears every key in a thread of its own: two at once must count twice
                values = [slider.value for slider in self.sliders]
                values[column] += steps * channel.step
                self._random.value = False
                self._set(values)

        more, less = KEYS[column]
        return [
            _on_key(self._server.gui, f"More {channel.description}", more, lambda: move(1.0)),
            _on_key(self._server.gui, f"Less {channel.description}", less, lambda: move(-1.0)),
        ]

    def _set(self, values: list[float]) -> None:
        """Put the sliders to a command, and want it."""
        robots = self._session.robots
        within = torch.minimum(torch.maximum(torch.tensor(values), robots.lowest), robots.highest)
        for slider, value in zip(self.sliders, within.tolist(), strict=True):
            slider.value = round(value, 4)
        self._steer(by_hand=False)

    def _steer(self, by_hand: bool) -> None:
        """Want what the sliders say, unless they show what is drawn at random."""
        with self._lock:
            if by_hand:
                self._random.value = False
            if not self._random.value:
                self._session.want(torch.tensor([slider.value for slider in self.sliders]))

    def _write(self) -> None:
        """Bring status, plots and, under a random schedule, sliders up to date."""
        session = self._session
        factor = session.real_time_factor
        pace = f" · real time: {factor:.0%}" if factor else ""
        self._status.content = (
            f"**{session.robots.origin}** · {session.shown.time:.0f} s{pace} · falls: {session.falls}{self._trouble}"
        )
        if self._random.value:
            self._set(session.wanted.tolist())
        record = session.record()
        if record is None or record.command.shape[1] != len(self._plots):
            return
        every = slice(None, None, 4)
        for column, plot in enumerate(self._plots):
            shown = (record.time, record.command[:, column], record.measured[:, column])
            plot.data = tuple(values[every].numpy() for values in shown)


def _title(channel: CommandChannel) -> str:
    return f"{channel.label} [{channel.unit}]"


def _on_key(gui: Any, label: str, key: str, action: Callable[[], None]) -> Any:
    command = gui.add_command(label, hotkey=key)
    command.on_trigger(lambda _: action())
    return command
