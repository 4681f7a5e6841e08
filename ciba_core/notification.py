"""The client notification endpoint as data: how callbacks are judged (CIBA Core 9, 10.2, 10.3.1).

A web server asks `check_head` about a request's method and header before it reads the body, looks up whose
token that was, and then asks `read_body`. What the notification does is the machine's to say: hand it to
`step` as `NotificationReceived`. `ciba_core.callbacks.routing.receive` does the first part in one call.

No answer tells a caller more than its status: an unknown token and one of another transaction look the same.
"""

from ciba_core.callbacks.notification import (
    ACCEPTED,
    BODY_LIMIT,
    UNKNOWN_TOKEN,
    Notification,
    NotificationRejected,
    Rejection,
    check_head,
    read_body,
    rejection,
    token_hash,
)

__all__ = [
    "ACCEPTED",
    "BODY_LIMIT",
    "UNKNOWN_TOKEN",
    "Notification",
    "NotificationRejected",
    "Rejection",
    "check_head",
    "read_body",
    "rejection",
    "token_hash",
]
