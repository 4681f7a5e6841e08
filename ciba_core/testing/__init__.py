"""A simulated OpenID provider, a virtual clock and faults on demand, to test CIBA clients without a network.

In process, an hour of polling takes milliseconds::

    clock = VirtualClock()
    provider = SimulatedProvider(
        clock,
        clients=[SimulatedClient("s6BhdRkqt3", "gX1fBat3bV")],
        users={"alice": Approve(after_polls=2), "bob": Deny(after=30), "carol": Ignore()},
    )
    provider.inject("token", DropAfter())
    response = provider.send(request)

`LoopbackServer` puts it behind a real port. `check_driver` holds a driver of your own to what the core relies
on. `ciba_core.testing.strategies`, which needs Hypothesis, has values to test the rest with.
"""

from __future__ import annotations

from .clock import Clock, VirtualClock
from .conformance import SCENARIOS, Drive, Duty, Finding, Report, check_driver
from .provider import AnswerDropped, Endpoint, JournalEntry, PendingRequest, SimulatedProvider
from .script import (
    Answer,
    Approve,
    Busy,
    Delay,
    Deny,
    DropAfter,
    DropBefore,
    Fault,
    Ignore,
    Refuse,
    SimulatedClient,
    SlowDown,
    Truncate,
    User,
)
from .server import LoopbackServer
from .wire import Handler, NoReply, Reply

__all__ = [
    "SCENARIOS",
    "Answer",
    "AnswerDropped",
    "Approve",
    "Busy",
    "Clock",
    "Delay",
    "Deny",
    "Drive",
    "DropAfter",
    "DropBefore",
    "Duty",
    "Endpoint",
    "Fault",
    "Finding",
    "Handler",
    "Ignore",
    "JournalEntry",
    "LoopbackServer",
    "NoReply",
    "PendingRequest",
    "Refuse",
    "Reply",
    "Report",
    "SimulatedClient",
    "SimulatedProvider",
    "SlowDown",
    "Truncate",
    "User",
    "VirtualClock",
    "check_driver",
]
