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

Clients in ping and push mode are called back when the user decides. In process, the provider hands each
callback as a value to a function. `CallbackSender` is such a function; it sends the callback over HTTP::

    client = SimulatedClient(
        "me", "gX1fBat3bV",
        backchannel_token_delivery_mode="ping",
        backchannel_client_notification_endpoint="https://client.example/cb",
    )
    provider = SimulatedProvider(clock, clients=[client], users=users, deliver=receive)
    provider.inject_callback(BeforeAcknowledgement(), Repeat())
    provider.inject_callback(Forge("foreign_token"))

`LoopbackServer` puts the provider behind a real port. `check_driver` checks that a driver of your own does
what the core relies on; `check_transaction_store` and `check_session_store` do the same for a store.
`ciba_core.testing.strategies`, which needs Hypothesis, generates values to test your own code with.
"""

from __future__ import annotations

from .assertions import AssertionAudience
from .callbacks import Callback, Notifier
from .clock import Clock, RealClock, SchedulingClock, VirtualClock
from .conformance import (
    NOTIFIED_SCENARIOS,
    SCENARIOS,
    Drive,
    Duty,
    Finding,
    NotifiedDrive,
    Report,
    check_driver,
    check_notified_driver,
)
from .journal import AnswerDropped, Endpoint, JournalEntry, PendingRequest
from .provider import SimulatedProvider
from .script import (
    Answer,
    Approve,
    BadIdToken,
    BeforeAcknowledgement,
    Busy,
    CallbackFault,
    Delay,
    Deny,
    DropAfter,
    DropBefore,
    Fault,
    Forge,
    Forgery,
    Ignore,
    IgnoreDpop,
    OtherSubject,
    Overtaken,
    Refuse,
    Repeat,
    SimulatedClient,
    SlowDown,
    Truncate,
    Twist,
    User,
)
from .sender import CallbackSender
from .server import LoopbackServer
from .stores import StoreFinding, StoreReport, check_session_store, check_transaction_store
from .wire import Handler, NoReply, Reply

__all__ = [
    "NOTIFIED_SCENARIOS",
    "SCENARIOS",
    "Answer",
    "AnswerDropped",
    "Approve",
    "AssertionAudience",
    "BadIdToken",
    "BeforeAcknowledgement",
    "Busy",
    "Callback",
    "CallbackFault",
    "CallbackSender",
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
    "Forge",
    "Forgery",
    "Handler",
    "Ignore",
    "IgnoreDpop",
    "JournalEntry",
    "LoopbackServer",
    "NoReply",
    "NotifiedDrive",
    "Notifier",
    "OtherSubject",
    "Overtaken",
    "PendingRequest",
    "RealClock",
    "Refuse",
    "Repeat",
    "Reply",
    "Report",
    "SchedulingClock",
    "SimulatedClient",
    "SimulatedProvider",
    "SlowDown",
    "StoreFinding",
    "StoreReport",
    "Truncate",
    "Twist",
    "User",
    "VirtualClock",
    "check_driver",
    "check_notified_driver",
    "check_session_store",
    "check_transaction_store",
]
