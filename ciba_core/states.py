"""The states of one transaction, and every transition between them.

A state holds just what is true in it; there are no tokens to read from a state that has none. `TRANSITIONS`
is the whole table: `advance` obeys it, the tests walk it, and the diagram in the README is drawn from it. A
pair of state and event that is not in the table cannot happen.
"""

from ciba_core.transaction.states import (
    TRANSITIONS,
    Authenticated,
    AwaitingAcknowledgement,
    AwaitingCallback,
    AwaitingKeys,
    Cancelled,
    Denied,
    Expired,
    Failed,
    FetchingKeys,
    New,
    Pending,
    Polling,
    Refused,
    SigningAuthentication,
    SigningPoll,
    State,
    TerminalState,
    advance,
)

__all__ = [
    "TRANSITIONS",
    "Authenticated",
    "AwaitingAcknowledgement",
    "AwaitingCallback",
    "AwaitingKeys",
    "Cancelled",
    "Denied",
    "Expired",
    "Failed",
    "FetchingKeys",
    "New",
    "Pending",
    "Polling",
    "Refused",
    "SigningAuthentication",
    "SigningPoll",
    "State",
    "TerminalState",
    "advance",
]
