"""What happened: CIBA's own events, for the transition table, for people and for logs.

An HTTP answer is decoded into exactly one of these; the machine knows nothing else of HTTP. No event shows a
secret: identifiers and tokens in them are `Secret`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from ciba_core.callbacks.notification import Notification, NotificationRejected
from ciba_core.client.finished_request import FinishedParameters
from ciba_core.client.request import Requested
from ciba_core.provider.draft import Draft
from ciba_core.tokens.errors import KeysUnavailable, TokensRejected
from ciba_core.tokens.issued import TokenResponse
from ciba_core.transaction.key_search import KeySearch
from ciba_core.values.errors import (
    AccessDenied,
    AuthenticationExpired,
    CibaError,
    ErrorResponse,
    RemoteProtocolError,
    TransportError,
)
from ciba_core.values.json import NO_MEMBERS
from ciba_core.values.lenient import ProviderDeviation
from ciba_core.values.secret import Guarded, Secret

__all__ = [
    "AnswerHeaders",
    "AuthReqIdExpired",
    "AuthReqIdIssued",
    "AuthReqIdRecovered",
    "AuthenticationRefused",
    "AuthenticationRequestDrafted",
    "AuthenticationRequestFailed",
    "AuthenticationRequestSent",
    "AuthorizationPending",
    "CallbackAwaited",
    "CancelRequested",
    "DpopNonceRequired",
    "ErrorPushed",
    "Event",
    "KeyRequestFailed",
    "KeyRequestSent",
    "NotificationHeld",
    "NotificationIgnored",
    "PingReceived",
    "PollDrafted",
    "PollFailed",
    "PollSent",
    "PollsIntercepted",
    "PushRejected",
    "SlowDown",
    "StillPending",
    "TokenRequestFailed",
    "TokensHeld",
    "TokensIssued",
    "TokensReceived",
    "TokensUntrusted",
    "Transition",
    "UserDenied",
]


@frozen(weakref_slot=False)
class AuthenticationRequestSent:
    """The authentication request is on its way (CIBA Core 7.1)."""

    requested: Requested
    """What was asked for."""
    again: FinishedParameters | None = field(default=None, eq=False, repr=False)
    """The parameters to send once more if the provider asks for a nonce (RFC 9449 8)."""


@frozen(weakref_slot=False)
class AuthenticationRequestDrafted:
    """The authentication request waits for signatures by keys that only the driver can reach."""

    requested: Requested
    """What was asked for."""
    draft: Draft = field(eq=False)
    again: FinishedParameters | None = field(default=None, eq=False, repr=False)
    """See `AuthenticationRequestSent.again`."""


@frozen(weakref_slot=False)
class PollDrafted:
    """A poll waits for signatures by keys that only the driver can reach."""

    draft: Draft = field(eq=False)


@frozen(weakref_slot=False)
class AuthReqIdIssued:
    """The provider acknowledged the request and asks the user now (CIBA Core 7.3)."""

    auth_req_id: Secret
    expires_at: float
    """POSIX instant at which the authentication ends."""
    interval: float
    """Seconds between polls."""
    next_poll_at: float | None
    """POSIX instant of the first poll; ``None`` when none is planned, since a callback is to come."""
    extra: Mapping[str, Any] = field(default=NO_MEMBERS, repr=False)
    """Members that the standard does not know, such as ``auth_url``, read-only. They may be secret."""


@frozen(weakref_slot=False)
class AuthenticationRefused:
    """The provider refused the authentication request with an error code (CIBA Core 13)."""

    error: ErrorResponse


@frozen(weakref_slot=False)
class AuthenticationRequestFailed:
    """The authentication request got no valid answer. It is not repeated."""

    error: TransportError | RemoteProtocolError


@frozen(weakref_slot=False)
class CallbackAwaited:
    """The acknowledgement is lost, and the user may have been asked: a callback can still tell the rest."""

    reason: str
    """What became of the acknowledgement, short and without secrets."""
    give_up_at: float
    """POSIX instant until which a callback is waited for."""


@frozen(weakref_slot=False)
class AuthReqIdRecovered:
    """The first callback after a lost acknowledgement has named the ``auth_req_id``; no other counts now."""

    auth_req_id: Secret
    expires_at: float
    """POSIX instant until which the result is asked for, or waited for."""
    interval: float
    """Seconds between polls."""


@frozen(weakref_slot=False)
class PollSent:
    """A poll, that is a token request, is on its way (CIBA Core 10.1)."""

    number: int
    """1 for the first poll of the transaction."""


@frozen(weakref_slot=False)
class StillPending:
    """Base of the events after which the transaction waits for its next poll."""

    interval: float
    """Seconds between polls from now on."""
    next_poll_at: float | None
    """POSIX instant of the next poll; ``None`` when none is planned, since a ping is to come."""
    faults: int
    """Polls in a row, so far, that brought no answer to go by."""
    answer_lost: bool
    """Whether the answer to the last poll may have been tokens that never arrived."""


@frozen(weakref_slot=False)
class AuthorizationPending(StillPending):
    """``authorization_pending``: the user has not decided yet (CIBA Core 11)."""


@frozen(weakref_slot=False)
class SlowDown(StillPending):
    """``slow_down``: as pending, and the interval has grown by 5 seconds for good (CIBA Core 11)."""


@frozen(weakref_slot=False)
class DpopNonceRequired(StillPending):
    """``use_dpop_nonce``: the next poll has to show the nonce that came with this answer (RFC 9449 8)."""


@frozen(weakref_slot=False)
class PollFailed(StillPending):
    """A poll brought no answer to go by: the network failed, or the provider is busy or broken.

    The authentication goes on; the next poll comes later than the interval asks for.
    """

    reason: str
    """What went wrong, short and without secrets, such as ``"ConnectTimeout"`` or ``"status 503"``."""
    intercepted: int = 0
    """Polls, since the provider itself answered last, that something in front of it has answered."""


@frozen(weakref_slot=False)
class NotificationHeld:
    """A callback overtook the acknowledgement; it is kept until that is there."""

    notification: Notification


@frozen(weakref_slot=False)
class PingReceived:
    """The provider says that the result is ready: the next poll comes at once (CIBA Core 10.2)."""

    poll_at: float
    """POSIX instant of the next poll; while one is under way, it follows that."""


@frozen(weakref_slot=False)
class PushRejected:
    """A push did not pass its checks. The authentication goes on, since a good push may follow."""

    error: RemoteProtocolError
    """`TokensRejected`, which keeps the tokens apart, when there were any."""


@frozen(weakref_slot=False)
class ErrorPushed:
    """The provider ended the authentication by pushing an error (CIBA Core 12)."""

    error: ErrorResponse


@frozen(weakref_slot=False)
class NotificationIgnored:
    """A good callback that changes nothing, since it came once more or too late."""

    reason: str
    """The reason why it was ignored, without secrets."""


@frozen(weakref_slot=False)
class TokensReceived:
    """The user approved and tokens came; the provider's key set is being fetched to validate them."""

    untrusted: Guarded[TokenResponse]
    search: KeySearch


@frozen(weakref_slot=False)
class TokensHeld:
    """The user approved and tokens came, signed with a key that is not known.

    The key set was fetched a moment ago; it will be fetched again. The tokens are kept.
    """

    untrusted: Guarded[TokenResponse]
    search: KeySearch
    next_try_at: float
    """POSIX instant at which the key set is fetched."""


@frozen(weakref_slot=False)
class KeyRequestFailed:
    """The key set could not be fetched; another try follows. The tokens are kept."""

    search: KeySearch
    next_try_at: float
    """POSIX instant of the next try."""
    reason: str
    """What went wrong, short and without secrets."""


@frozen(weakref_slot=False)
class KeyRequestSent:
    """The key set is being fetched, the wait for that being over."""

    search: KeySearch


@frozen(weakref_slot=False)
class TokensIssued:
    """The user approved, and the provider issued tokens that have passed validation (CIBA Core 10.1.1)."""

    tokens: TokenResponse


@frozen(weakref_slot=False)
class TokensUntrusted:
    """Tokens came, but they failed validation, or could not be validated in time. They are not handed out."""

    error: TokensRejected | KeysUnavailable


@frozen(weakref_slot=False)
class UserDenied:
    """``access_denied``: the user said no (CIBA Core 11)."""

    error: AccessDenied


@frozen(weakref_slot=False)
class AuthReqIdExpired:
    """Time ran out: by the client's own clock, or the provider answered ``expired_token``."""

    error: AuthenticationExpired


@frozen(weakref_slot=False)
class TokenRequestFailed:
    """The provider ended the authentication with another error, or broke the protocol."""

    error: CibaError


@frozen(weakref_slot=False)
class CancelRequested:
    """The application gave up."""


@frozen(weakref_slot=False)
class PollsIntercepted(ProviderDeviation):
    """Something in front of the provider keeps answering in its place. Nothing of the provider comes through.

    It is told with the third answer in a row. The authentication goes on, unless
    `PollingPolicy.intercepted_limit` says otherwise.
    """

    count: int
    """Answers so far."""


@frozen(weakref_slot=False)
class AnswerHeaders:
    """An answer came with header fields that the client wants to know of; it changes nothing."""

    headers: Mapping[str, str] = field(repr=False)
    """Those of `ClientConfig.answer_headers` that were there, by their names in lower case."""


Transition = (
    AuthenticationRequestDrafted
    | AuthenticationRequestSent
    | PollDrafted
    | AuthReqIdIssued
    | CallbackAwaited
    | AuthReqIdRecovered
    | AuthenticationRefused
    | AuthenticationRequestFailed
    | PollSent
    | AuthorizationPending
    | SlowDown
    | DpopNonceRequired
    | PollFailed
    | NotificationHeld
    | PingReceived
    | PushRejected
    | ErrorPushed
    | TokensReceived
    | TokensHeld
    | KeyRequestFailed
    | KeyRequestSent
    | TokensIssued
    | TokensUntrusted
    | UserDenied
    | AuthReqIdExpired
    | TokenRequestFailed
    | CancelRequested
)
"""Events that change the state."""

Event = Transition | ProviderDeviation | NotificationIgnored | NotificationRejected | AnswerHeaders
