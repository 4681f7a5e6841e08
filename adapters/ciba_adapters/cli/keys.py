"""Single keys from the terminal, without Enter."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Generator
from types import FrameType
from typing import NoReturn

from ciba_adapters.cli.text import is_terminal

if sys.platform != "win32":
    import termios
    import tty

__all__ = ["has_keys", "reading_keys"]


def has_keys() -> bool:
    """Tell whether single keys can be read: standard input is a terminal and this process is in front."""
    if sys.platform == "win32" or not is_terminal(sys.stdin):
        return False
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except OSError:  # without job control no other process can be in front
        return True


@contextlib.contextmanager
def reading_keys(pressed: Callable[[str], None]) -> Generator[None]:
    """Call `pressed`, in another thread, for each key; the terminal is as it was when the block is left.

    Ctrl-C works as usual. A SIGTERM ends the block too, so that the terminal is restored in any case.
    """
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    stopped, stop = os.pipe()

    def read() -> None:
        while True:
            ready, _, _ = select.select([terminal, stopped], [], [])
            if stopped in ready:
                return
            key = os.read(terminal, 1)
            if not key:
                return
            pressed(key.decode("ascii", "replace"))

    thread = threading.Thread(target=read, name="keys", daemon=True)
    terminate = signal.signal(signal.SIGTERM, _terminated)
    try:
        tty.setcbreak(terminal)
        thread.start()
        yield
    finally:
        os.write(stop, b".")
        if thread.is_alive():
            thread.join()
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
        signal.signal(signal.SIGTERM, terminate)
        os.close(stop)
        os.close(stopped)


def _terminated(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + signal.SIGTERM)
