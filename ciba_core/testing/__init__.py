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

Clients with keys are registered by the names of OpenID Connect registration, bad ID Tokens are planned like
other faults, and keys rotate when told to::

    SimulatedClient("me", token_endpoint_auth_method="private_key_jwt", jwks=jwks)
    provider.inject("token", BadIdToken(signature="wrong_key"))
    provider.rotate_keys(keep_old=False)

`LoopbackServer` puts it behind a real port. `check_driver` holds a driver of your own to what the core relies
on. `ciba_core.testing.strategies`, which needs Hypothesis, has values to test the rest with.
"""

from __future__ import annotations

from .assertions import AssertionAudience
from .clock import Clock, VirtualClock
from .conformance import SCENARIOS, Drive, Duty, Finding, Report, check_driver
from .provider import AnswerDropped, Endpoint, JournalEntry, PendingRequest, SimulatedProvider
from .script import (
    Answer,
    Approve,
    BadIdToken,
    Busy,
    Delay,
    Deny,
    DropAfter,
    DropBefore,
    Fault,
    Ignore,
    IgnoreDpop,
    OtherSubject,
    Refuse,
    SimulatedClient,
    SlowDown,
    Truncate,
    Twist,
    User,
)
from .server import LoopbackServer
from .wire import Handler, NoReply, Reply

__all__ = [
    "SCENARIOS",
    "Answer",
    "AnswerDropped",
    "Approve",
    "AssertionAudience",
    "BadIdToken",
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
    "IgnoreDpop",
    "JournalEntry",
    "LoopbackServer",
    "NoReply",
    "OtherSubject",
    "PendingRequest",
    "Refuse",
    "Reply",
    "Report",
    "SimulatedClient",
    "SimulatedProvider",
    "SlowDown",
    "Truncate",
    "Twist",
    "User",
    "VirtualClock",
    "check_driver",
]
