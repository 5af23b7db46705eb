"""Plays a session in a thread of its own, and hands out its newest view."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from rl_lab.storage.errors import NotWritten
from rl_lab.types import UsageError
from rl_lab.watching.messages import Command
from rl_lab.watching.session import Session, View

# Share of a view's time after which the next may come, so that none is dropped at exactly that rate.
EARLY = 0.95
WAITING_COMMANDS = 256  # more than that are refused
Reply = Callable[[dict[str, Any]], None]
Carry = Callable[[Session, Command], "str | None"]
"""Carries out a command; returns a line for whoever asked, or None."""


def carry_out(session: Session, command: Command) -> str | None:
    """Carry out a command that needs nothing but the session."""
    command.apply(session)
    return None


class Player(threading.Thread):
    """Steps a session when its next step is due, and carries out commands in between.

    Args:
        on_view: called from this thread with each new view; it must not block.
        on_end: called once when the thread ends, with the error that ended it, or None.
        carry: carries out commands.
        idle: called whenever nothing was asked for, a few times a second at least; returns whether the view changed.
        is_seen: whether anybody looks; while nobody does, nothing is played.
        on_refusal: called with a message for the pages when the session can't go on; it is paused then.
    """

    def __init__(
        self,
        session: Session,
        on_view: Callable[[View], None],
        on_end: Callable[[Exception | None], None] = lambda error: None,
        carry: Carry = carry_out,
        idle: Callable[[Session], bool] = lambda session: False,
        is_seen: Callable[[], bool] = lambda: True,
        on_refusal: Reply = lambda message: None,
    ):
        super().__init__(name="session", daemon=True)
        self.session = session
        self._on_view, self._on_end, self._carry, self._idle = on_view, on_end, carry, idle
        self._is_seen, self._on_refusal = is_seen, on_refusal
        self._commands: queue.Queue[tuple[Command, Reply] | None] = queue.Queue(WAITING_COMMANDS)
        self._due = self._show_due = 0.0
        self._stopping = False

    def ask(self, command: Command, reply: Reply) -> None:
        """Have a command carried out; `reply` is called from this thread, with an error if it can't be."""
        try:
            self._commands.put_nowait((command, reply))
        except queue.Full:
            reply({"type": "error", "text": "too many commands are waiting (allowed: fewer at once)"})

    def stop(self) -> None:
        """End the thread, and wait for it."""
        self._stopping = True
        with suppress(queue.Full):  # it looks at the flag after each command
            self._commands.put_nowait(None)
        if self.is_alive():
            self.join(timeout=10)

    def run(self) -> None:
        """Play until `stop` is called or the session fails."""
        error: Exception | None = None
        try:
            self._show()
            while not self._stopping:
                self._turn()
        # Environments and policies may raise anything: it is reported where it is seen.
        except Exception as raised:
            error = raised
        finally:
            self.session.close()
            self._on_end(error)

    def _turn(self) -> None:
        """Wait for a command or the next step, whichever comes first, and do it."""
        try:
            item = self._commands.get(timeout=self._wait())
        except queue.Empty:
            changed = self._is_seen() and self._idle(self.session)
            if self._plays() and time.monotonic() >= self._due:
                changed = self._advance() or changed
                self._set_due()
            if changed:
                self._show_in_time()
            return
        if item is not None:
            self._do(*item)

    def _advance(self) -> bool:
        """Advance the session; if it can't go on, pause it and say why. Return whether the view changed."""
        try:
            return self.session.advance()
        except UsageError as error:
            self.session.pause()
            self._on_refusal({"type": "error", "text": str(error)})
            return True

    def _wait(self) -> float:
        """Return the seconds until something is due, never so many that a following run would look frozen."""
        idle = 0.25
        return max(1e-4, min(idle, self._due - time.monotonic())) if self._plays() else idle

    def _plays(self) -> bool:
        return self.session.playing and self._is_seen()

    def _set_due(self) -> None:
        """Say when the next step is due; a delay is made up for by one step at most, so that nothing runs away."""
        now, period = time.monotonic(), self.session.seconds_to_next
        self._due = max(self._due + period, now)
        if self.session.is_over or self._due > now + period:
            self._due = now + period

    def _do(self, command: Command, reply: Reply) -> None:
        was_playing, factor = self.session.playing, self.session.factor
        try:
            line = self._carry(self.session, command)
        except (UsageError, NotWritten) as error:
            reply({"type": "error", "text": str(error)})
            return
        if line is not None:
            reply({"type": "done", "text": line})
        if self.session.playing != was_playing or self.session.factor != factor:
            self._due = time.monotonic()
        self._show()

    def _show_in_time(self) -> None:
        """Hand out the view, unless they come too fast and another follows at once."""
        if time.monotonic() >= self._show_due or self.session.is_over:
            self._show()

    def _show(self) -> None:
        # A view that came late doesn't hold back the next one, which comes in time.
        seconds = EARLY / self.session.frames_per_second
        self._show_due = max(self._show_due, time.monotonic() - seconds) + seconds
        self._on_view(self.session.view())
