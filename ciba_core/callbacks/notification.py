"""The client notification endpoint as data: how callbacks are judged (CIBA Core 9, 10.2, 10.3.1).

A web server asks `check_head` about a request's method and header before it reads the body, looks up whose
token that was, and then asks `read_body`. What the notification does is the machine's to say: hand it to
`step` as `NotificationReceived`. `ciba_core.callbacks.routing.receive` does the first part in one call.

No answer tells a caller more than its status: an unknown token and one of another transaction look the same.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from attrs import evolve, field, frozen

from ciba_core.provider.terms import CIBA
from ciba_core.values.http import HttpResponse
from ciba_core.values.json import FrozenMapping, JsonFault, freeze_object
from ciba_core.values.lenient import ProviderDeviation, is_absent, parse_body, present
from ciba_core.values.secret import Secret

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

BODY_LIMIT: Final = 64 << 10
"""Octets of a callback's body, unless the caller says otherwise: several times the largest set of tokens."""

_DEPTH: Final = 32
# RFC 6750 2.1, and the length that CIBA Core 7.1 allows.
_BEARER_TOKEN: Final = re.compile(r"[A-Za-z0-9\-._~+/]{1,1024}=*")
_RESULT: Final = ("access_token", "id_token", "refresh_token", "error")

ACCEPTED: Final = HttpResponse(204, (), b"")
"""The answer to a good callback, and to one that comes once more (CIBA Core 10.2, 10.3.1)."""


@frozen(weakref_slot=False)
class NotificationRejected:
    """A callback was not accepted; the transaction goes on as if nothing had come. Worth a warning."""

    rule: str
    """The rule that it breaks, and its source."""
    message: str
    """What was found; nothing of the callback's content is in it."""


@frozen(weakref_slot=False)
class Rejection:
    """A callback that is answered without looking further."""

    answer: HttpResponse
    event: NotificationRejected


def _frozen(members: Mapping[str, Any]) -> Mapping[str, Any]:
    return members if isinstance(members, FrozenMapping) else freeze_object(members)


@frozen(weakref_slot=False)
class Notification:
    """A callback under a known token, well-formed; whether it fits the transaction is for `step` to say."""

    auth_req_id: Secret
    members: Mapping[str, Any] = field(repr=False, converter=_frozen)
    """All members of the JSON object, read-only. Those of a push are tokens."""
    deviations: tuple[ProviderDeviation, ...] = ()
    """What deviates from the standards in it and was read all the same; `step` makes events of them."""

    @property
    def is_ping(self) -> bool:
        """Whether it carries no result: that is to be fetched at the token endpoint (CIBA Core 10.2).

        Members of a result that are ``null`` or empty are none.
        """
        return all(is_absent(self.members.get(name)) for name in _RESULT)


def rejection(status: int, rule: str, message: str, *headers: tuple[str, str]) -> Rejection:
    """Return the answer with that status, and the event that says why."""
    return Rejection(HttpResponse(status, headers, b""), NotificationRejected(rule, message))


_BEARER: Final = ("WWW-Authenticate", "Bearer")
_BAD_BEARER: Final = ("WWW-Authenticate", 'Bearer error="invalid_token"')

UNKNOWN_TOKEN: Final = rejection(
    401, "CIBA Core 10.2: bearer token", "a token that no transaction waits for", _BAD_BEARER
)
"""For a token that is not known, and for one that belongs to another ``auth_req_id`` (RFC 6750 3.1)."""


def token_hash(token: Secret) -> str:
    """Return what a ``client_notification_token`` is looked up by: its SHA-256 in hexadecimal.

    A lookup by the hash takes the same time whatever of the token is right, and a store of hashes gives no
    token away.
    """
    return hashlib.sha256(token.reveal().encode("utf-8", "surrogatepass")).hexdigest()


def check_head(
    method: str, headers: Iterable[tuple[str, str]], *, body_limit: int = BODY_LIMIT
) -> str | Rejection:
    """Judge a request by its method and header; the body need not have been read.

    Args:
        method: as it came.
        headers: name and value pairs as they came; names in any case.
        body_limit: octets of the body, at most.

    Returns:
        The hash of the presented token (see `token_hash`), or why the request is turned away: 405, 401, 415
        or 413.

    """
    if method != "POST":
        return rejection(405, "CIBA Core 10.2: POST", "a method other than POST", ("Allow", "POST"))
    fields: dict[str, str] = {}
    authorizations = 0
    for name, value in headers:
        lowered = name.lower()
        fields.setdefault(lowered, value)
        authorizations += lowered == "authorization"
    if authorizations != 1:
        found = "more than one Authorization field" if authorizations else "no Authorization field"
        return rejection(401, "CIBA Core 9: bearer token", found, _BEARER)
    scheme, _, token = fields["authorization"].strip(" \t").partition(" ")
    if scheme.lower() != "bearer":
        return rejection(401, "CIBA Core 9: bearer token", "another authentication scheme", _BEARER)
    token = token.strip(" ")
    if not _BEARER_TOKEN.fullmatch(token):
        return rejection(401, "RFC 6750 2.1: b64token", "a malformed bearer token", _BAD_BEARER)
    media_type = fields.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        return rejection(415, "CIBA Core 10.2: application/json", "a body of another media type")
    if fields.get("content-encoding", "identity").strip().lower() != "identity":
        return rejection(415, "RFC 9110 8.4: Content-Encoding", "a body with a content coding")
    length = fields.get("content-length", "0").strip()
    if length.isascii() and length.isdigit() and (len(length) > 18 or int(length) > body_limit):
        return _too_large(body_limit)
    return token_hash(Secret(token))


def read_body(body: bytes, *, body_limit: int = BODY_LIMIT) -> Notification | Rejection:
    """Read the body of a request whose token is known (CIBA Core 10.2, 10.3.1, 12).

    Args:
        body: its octets; of a longer one, `body_limit` + 1 are enough.
        body_limit: octets, at most.

    Returns:
        The notification, or why the request is turned away: 413 or 400.

    """
    if len(body) > body_limit:
        return _too_large(body_limit)
    noted: list[ProviderDeviation] = []
    members = parse_body(body, depth_limit=_DEPTH, noted=noted)
    if isinstance(members, JsonFault):
        return rejection(400, "CIBA Core 10.2: JSON object", f"a body that is {members.value}")
    auth_req_id = members.get(CIBA.handle)
    if not isinstance(auth_req_id, str) or not auth_req_id:
        missing = "missing" if CIBA.handle not in members else "not a non-empty string"
        return rejection(400, f"CIBA Core 10.2: {CIBA.handle}", f"{CIBA.handle} is {missing}")
    notification = Notification(Secret(auth_req_id), FrozenMapping(members))
    if notification.is_ping:
        # What is empty in a push is noted where its tokens are read.
        for name in _RESULT:
            present(members, name, "CIBA Core 10.2", noted)
    return evolve(notification, deviations=tuple(noted)) if noted else notification


def _too_large(body_limit: int) -> Rejection:
    return rejection(413, "size limit", f"a body of more than {body_limit} octets")
