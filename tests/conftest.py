from __future__ import annotations

import signal
from collections.abc import Iterator

import hypothesis
import pytest

# How long one example takes is a matter of what else the machine does; the limit for a test holds all the same.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> Iterator[None]:
    """Let SIGINT interrupt, also where the suite was started in the background.

    A shell without job control starts ``command &`` with SIGINT ignored. This goes on to every child process, and
    a test that interrupts itself or a child would wait for ever.
    """
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
