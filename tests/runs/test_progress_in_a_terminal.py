"""The bar in terminals of several widths, read from the other end of a pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import sys
import termios
from contextlib import contextmanager

import pytest

from rl_lab.runs.progress import LEAST_BAR, Bar

ROW = {"env_steps": 25_600, "episode_return_mean": 0.108333, "epsilon": 0.4321, "loss": 0.0123456}
SPENT = {
    "learning": 54.0,
    "acting": 21.0,
    "environment": 11.0,
    "evaluation": 8.0,
    "checkpoints": 5.0,
    "other": 1.0,
}
END = "<end>"


class Terminal:
    """A terminal of so many columns, as stderr; `frames` are what stood in its line, one after another."""

    def __init__(self, columns):
        self._reading, writing = os.openpty()
        fcntl.ioctl(writing, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.file = os.fdopen(writing, "w")

    def frames(self):
        self.file.write(END)
        self.file.flush()
        seen = b""
        while not seen.endswith(END.encode()):  # what is written comes in pieces
            seen += os.read(self._reading, 1 << 16)
        text = seen.decode().removesuffix(END)
        return [frame for frame in re.split(r"[\r\n]+|\x1b\[A", text) if frame.strip()]


@contextmanager
def bar_in(columns, monkeypatch, total=100_000):
    terminal = Terminal(columns)
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(sys, "stderr", terminal.file)
    bar = Bar(total)
    yield bar, terminal
    bar.close()


def figures_of(frame):
    """The figures behind the bar, and the number of its columns."""
    found = re.fullmatch(r" *\d+%\|(.*)\| \S+/\S+ \[[^\]]*\](?:, (.*))?", frame)
    return found[2], len(found[1])


@pytest.mark.parametrize(
    ("columns", "figures"),
    [
        (60, None),
        (80, "return 0.1083, eval 0.8333"),
        (100, "return 0.1083, eval 0.8333, time: 54 % learning"),
        (120, "return 0.1083, eval 0.8333, time: 54 % learning, epsilon 0.4321"),
        (200, "return 0.1083, eval 0.8333, time: 54 % learning, epsilon 0.4321, loss 0.01235"),
    ],
)
def test_it_has_as_many_whole_figures_as_there_is_room_for(monkeypatch, columns, figures):
    with bar_in(columns, monkeypatch) as (bar, terminal):
        bar.evaluated({"eval_return_mean": 0.83333})
        bar.show(ROW, SPENT)
        bar.finish(25_600)
        frame = terminal.frames()[-1]
    told, width = figures_of(frame)
    assert told == figures
    assert width >= LEAST_BAR
    assert len(frame) < columns


@pytest.mark.parametrize("columns", [80, 120])
def test_it_says_what_keeps_it_from_moving(monkeypatch, columns):
    with bar_in(columns, monkeypatch) as (bar, terminal):
        bar.show(ROW, SPENT)
        bar.doing("waiting up to 60 s for W&B")
        bar.doing("")
        waiting, over = terminal.frames()[-2:]
    assert figures_of(waiting)[0].split(", ")[0] == "waiting up to 60 s for W&B"
    assert "W&B" not in over


def test_a_narrow_terminal_shows_what_goes_on_instead_of_figures(monkeypatch):
    with bar_in(80, monkeypatch) as (bar, terminal):
        bar.evaluated({"eval_return_mean": 0.83333})
        bar.show(ROW, SPENT)
        bar.doing("evaluation")
        frame = terminal.frames()[-1]
    assert figures_of(frame)[0] == "evaluation, return 0.1083"


def test_the_end_is_shown_at_once(monkeypatch):
    with bar_in(120, monkeypatch) as (bar, terminal):
        bar.show(ROW, SPENT)
        bar.finish(100_000)  # a moment later, in which tqdm by itself shows nothing
        frame = terminal.frames()[-1]
    assert frame.startswith("100%|")
    assert "| 100k/100k [" in frame
    assert figures_of(frame)[0].startswith("return 0.1083, time: 54 % learning")
