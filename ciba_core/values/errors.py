"""What can go wrong; the errors that carry tokens are in the room of the tokens.

`ciba_core.errors` offers them all, and draws the hierarchy.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from ciba_core.values.secret import Secret

__all__ = [
    "AccessDenied",
    "AcknowledgementLost",
    "AuthenticationExpired",
    "AuthenticationRequestDenied",
    "BindingMessageUnfit",
    "CibaError",
    "Endpoint",
    "ErrorResponse",
    "ExpiredLoginHintToken",
    "ExpiredToken",
    "InsufficientScope",
    "InvalidAuthorizationDetails",
    "InvalidBindingMessage",
    "InvalidClient",
    "InvalidDpopProof",
    "InvalidGrant",
    "InvalidIdTokenHint",
    "InvalidRequest",
    "InvalidRequestObject",
    "InvalidScope",
    "InvalidTarget",
    "InvalidToken",
    "InvalidUserCode",
    "LocalProtocolError",
    "LoginStillWaiting",
    "LoginUnderWay",
    "MissingUserCode",
    "NoPendingLogin",
    "ProviderUnavailable",
    "RefreshLost",
    "RemoteProtocolError",
    "RequestNotSent",
    "ServerError",
    "SessionOfAnotherUser",
    "SnapshotError",
    "StoreConflict",
    "StoreError",
    "StoreUnavailable",
    "StoredContentAltered",
    "TemporarilyUnavailable",
    "TokenResponseLost",
    "TooManyRequests",
    "TransactionFailed",
    "TransportError",
    "UnauthorizedClient",
    "UnknownStoreSecret",
    "UnknownStoreVersion",
    "UnknownUserId",
    "UnsupportedGrantType",
    "UnsupportedTokenType",
]


class Endpoint(enum.Enum):
    """Where an error came from: an endpoint of the provider, or what it sent to the client's."""

    BACKCHANNEL_AUTHENTICATION = "backchannel authentication endpoint"
    TOKEN = "token endpoint"  # noqa: S105  # a name, not a credential
    METADATA = "provider metadata"
    KEYS = "key set"
    REVOCATION = "revocation endpoint"
    USERINFO = "UserInfo endpoint"
    CLIENT_NOTIFICATION = "client notification"


class CibaError(Exception):
    """Base of every exception and error value of this library.

    Errors are values too: they stand in the terminal states of a transaction, compare by content, and can be
    copied and pickled.
    """

    answer_headers: Mapping[str, str] = MappingProxyType({})
    """Header fields of the last answer, by the names of `ClientConfig.answer_headers` in lower case. They are
    from outside, and no part of the message."""

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self.args == other.args and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), self.args))

    def __reduce__(self) -> tuple[Any, ...]:
        # The default of `BaseException` would call the class with `args`, without the keyword arguments.
        return _rebuild, (type(self), self.args, vars(self).copy())


def _rebuild(cls: type[CibaError], args: tuple[Any, ...], attributes: dict[str, Any]) -> CibaError:
    error = cls.__new__(cls, *args)
    vars(error).update(attributes)
    return error


class LocalProtocolError(CibaError):
    """The caller asked for what the protocol, or the provider's metadata, rules out. Nothing was sent."""


class BindingMessageUnfit(LocalProtocolError):
    """A binding message is too long, or has characters that do not show. Nothing was sent.

    `rule` says what is wrong: ``length``, ``characters [...]`` with the allowed ones, ``control character``,
    ``bidirectional control``, ``invisible character``, ``combining mark`` or ``empty``.
    """

    def __init__(self, message: str, *, rule: str) -> None:
        super().__init__(message)
        self.rule: Final = rule


class SnapshotError(LocalProtocolError):
    """A stored transaction cannot be restored: unknown version, wrong owner, missing secrets, damaged."""


class LoginUnderWay(LocalProtocolError):
    """A login of this session key has not come to its end, or has tokens that are not in the session yet.

    Go on with it by ``resume_pending``; a second one would prompt the user again.
    """


class NoPendingLogin(LocalProtocolError):
    """Nothing is stored of a login under this session key: none was begun, or it is long over."""


class StoreError(CibaError):
    """A stored login or session cannot be used, or was not saved. Nothing was sent or overwritten."""


class StoredContentAltered(StoreError):
    """A stored text is not what was stored there.

    It was damaged or forged, or it is the record of another key, client or provider.
    """


class UnknownStoreSecret(StoreError):
    """A stored text was encrypted under a secret that is not among those that were given."""


class UnknownStoreVersion(StoreError):
    """A stored text, or the database itself, is of a form that this release does not know."""


class StoreConflict(StoreError):
    """Somebody else changed, created or removed the record since it was loaded; theirs stands."""


class StoreUnavailable(StoreError):
    """A store cannot be reached, or cannot read or write: locked, full, read-only, out of order, gone.

    Where a login could not be saved for so long that it was given up, `snapshot` has what was not saved, with
    all its secrets: `Transaction.from_json` reads it, so that tokens can be kept or revoked. Else ``None``.
    """

    def __init__(self, message: str, *, snapshot: Secret | None = None) -> None:
        super().__init__(message)
        self.snapshot: Final = snapshot


class LoginStillWaiting(CibaError):
    """The wait for a login was left before its end; the login itself goes on and can be resumed.

    `wake_at` is the POSIX instant at which there is something to do for it.
    """

    def __init__(self, message: str, *, wake_at: float) -> None:
        super().__init__(message)
        self.wake_at: Final = wake_at


class SessionOfAnotherUser(CibaError):
    """The provider authenticated a user who is not, or is not known to be, the one of the stored session.

    Neither was touched: the session is as it was, and the tokens stay with the login. Remove the session, and
    ``resume_pending`` stores the new one in its place; or remove the login, and the tokens are given up.
    """


class RemoteProtocolError(CibaError):
    """The provider broke the protocol.

    `rule` is a short identifier of the broken rule and its source, such as ``"CIBA Core 7.3: expires_in"``;
    `endpoint` says where.
    """

    def __init__(self, message: str, *, rule: str, endpoint: Endpoint) -> None:
        super().__init__(message)
        self.rule: Final = rule
        self.endpoint: Final = endpoint

    def __str__(self) -> str:
        return f"{self.endpoint.value}: {self.args[0]} [{self.rule}]"


class TransportError(CibaError):
    """A request brought no usable answer. `reason` is short and without secrets."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason: Final = reason

    def __str__(self) -> str:
        return f"{self.args[0]} ({self.reason})"


class RequestNotSent(TransportError):
    """The request never reached the provider, so that it can be sent again without harm."""


class AcknowledgementLost(TransportError):
    """The authentication request was sent, but its acknowledgement did not arrive, or the provider failed.

    The provider may have prompted the user already. The library never repeats the request by itself; whether
    to ask the user a second time is the application's decision. In ping and push mode a callback was waited
    for first, which would have told the rest: see `PollingPolicy.callback_after_loss`.
    """


class RefreshLost(TransportError):
    """The refresh request was sent, but no usable answer arrived.

    The provider may have acted on it. Where it rotates refresh tokens, the one that was sent is used up then,
    and its successor is lost: sending it again may be taken for theft and end the whole grant. The library
    never repeats it by itself. The access token at hand lives on until it expires, if the provider lets it;
    a new authentication always helps.
    """


class ProviderUnavailable(TransportError):
    """The provider cannot serve the request just now.

    `status` is the HTTP status; `retry_after` the seconds it asked to wait, or ``None``.
    """

    def __init__(self, message: str, *, reason: str, status: int, retry_after: float | None) -> None:
        super().__init__(message, reason=reason)
        self.status: Final = status
        self.retry_after: Final = retry_after


class AuthenticationExpired(CibaError):
    """The time that the provider granted (``expires_in``) ran out before a decision came.

    Whether the user decided nothing, or the decision did not get through, is told by these: `faults`, how
    many polls brought no answer to go by; `last_polls`, how the last three ended, the latest at the end: an
    error code of CIBA Core 11, or a reason without secrets; `push_rejected`, why a push was turned away, or
    ``None``.
    """

    def __init__(
        self,
        *message: str,
        faults: int = 0,
        last_polls: tuple[str, ...] = (),
        push_rejected: str | None = None,
    ) -> None:
        super().__init__(*message)
        self.faults: Final = faults
        self.last_polls: Final = last_polls
        self.push_rejected: Final = push_rejected


# Words of one spelling, perhaps with a number, as codes are written: invalid_request, InvalidRequest, ERR.42.
# Tokens, and identifiers that nobody can guess, mix letters and digits otherwise.
_WORD: Final = r"(?:(?:[A-Z]+|[A-Z]?[a-z]+(?:[A-Z][a-z]+)*)[0-9]{0,6}|[0-9]{1,6})"
_SHOWABLE: Final = re.compile(rf"(?!.*eyJ)(?=.{{1,64}}\Z)_*{_WORD}(?:[_.:/ -]+{_WORD})*_*")


class ErrorResponse(CibaError):
    """An OAuth error response (RFC 6749 5.2, CIBA Core 11 and 13).

    `error`, `error_description` and `error_uri` are what the provider sent, unchanged: text from outside,
    which may repeat what it was sent. They are attributes and not part of the message for that reason.
    `status` is the HTTP status, or ``None`` for an error that was pushed; `retry_after` the seconds of a
    ``Retry-After`` header or ``None``, `endpoint` where the error came from.
    """

    def __init__(
        self,
        error: str,
        *,
        endpoint: Endpoint,
        status: int | None,
        error_description: str | None = None,
        error_uri: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__()
        self.error: Final = error
        self.error_description: Final = error_description
        self.error_uri: Final = error_uri
        self.endpoint: Final = endpoint
        self.status: Final = status
        self.retry_after: Final = retry_after

    def __str__(self) -> str:
        # What is not written like a code might be an echo of a secret.
        code = self.error if _SHOWABLE.fullmatch(self.error) else "(code not shown)"
        described = "; see error_description" if self.error_description else ""
        said = "brought" if self.status is None else f"answered {self.status}"
        return f"{self.endpoint.value} {said} {code}{described}"


class InvalidRequest(ErrorResponse):
    """``invalid_request``: a parameter is missing, repeated or malformed, or there are several hints."""


class InvalidClient(ErrorResponse):
    """``invalid_client``: client authentication failed."""


class UnauthorizedClient(ErrorResponse):
    """``unauthorized_client``: this client may not use CIBA, or not in this delivery mode."""


class InvalidScope(ErrorResponse):
    """``invalid_scope``: the requested scope is invalid, unknown or malformed."""


class InvalidTarget(ErrorResponse):
    """``invalid_target``: the provider does not accept a ``resource`` (RFC 8707 2)."""


class InvalidAuthorizationDetails(ErrorResponse):
    """``invalid_authorization_details``: unknown type or wrong members (RFC 9396 5)."""


class InvalidDpopProof(ErrorResponse):
    """``invalid_dpop_proof``: the DPoP proof was rejected (RFC 9449 5)."""


class ServerError(ErrorResponse):
    """``server_error``: the provider failed."""


class TemporarilyUnavailable(ErrorResponse):
    """``temporarily_unavailable``: the provider is overloaded or down for maintenance."""


class TooManyRequests(ErrorResponse):
    """``too_many_requests``: a rate limit of the provider; see `retry_after`."""


class AuthenticationRequestDenied(ErrorResponse):
    """``access_denied`` at the backchannel authentication endpoint: refused before the user was asked."""


class UnknownUserId(ErrorResponse):
    """``unknown_user_id``: the provider cannot tell which user the hint names."""


class ExpiredLoginHintToken(ErrorResponse):
    """``expired_login_hint_token``: get a new hint token."""


class InvalidIdTokenHint(ErrorResponse):
    """``invalid_id_token_hint`` or ``expired_id_token_hint``: the ID Token is no longer taken as a hint."""


class MissingUserCode(ErrorResponse):
    """``missing_user_code``: ask the user for the user code and send a new request."""


class InvalidUserCode(ErrorResponse):
    """``invalid_user_code``: the user code was wrong."""


class InvalidBindingMessage(ErrorResponse):
    """``invalid_binding_message``: too long, or with characters that the provider does not show."""


class InvalidRequestObject(ErrorResponse):
    """``invalid_request_object``: the signed authentication request was rejected."""


class AccessDenied(ErrorResponse):
    """``access_denied`` at the token endpoint, or pushed: the user said no."""


class ExpiredToken(ErrorResponse, AuthenticationExpired):
    """``expired_token``: the provider says that the ``auth_req_id`` has expired."""

    def __init__(
        self,
        error: str,
        *,
        endpoint: Endpoint,
        status: int | None,
        error_description: str | None = None,
        error_uri: str | None = None,
        retry_after: float | None = None,
        faults: int = 0,
        last_polls: tuple[str, ...] = (),
        push_rejected: str | None = None,
    ) -> None:
        super().__init__(
            error,
            endpoint=endpoint,
            status=status,
            error_description=error_description,
            error_uri=error_uri,
            retry_after=retry_after,
        )
        vars(self).update(faults=faults, last_polls=last_polls, push_rejected=push_rejected)


class InvalidGrant(ErrorResponse):
    """``invalid_grant``: the ``auth_req_id`` or refresh token is invalid, used up, or another client's."""


class TokenResponseLost(InvalidGrant):
    """``invalid_grant`` right after a token answer was lost: tokens may have been issued and lost.

    Nothing can bring them back; only a new authentication request can. Whether the user approved is unknown.
    """


class UnsupportedGrantType(ErrorResponse):
    """``unsupported_grant_type``: the provider does not know the CIBA grant."""


class TransactionFailed(ErrorResponse):
    """``transaction_failed``: the authentication failed at the provider; neither denied nor expired."""


class UnsupportedTokenType(ErrorResponse):
    """``unsupported_token_type``: the provider does not revoke tokens of this kind (RFC 7009 2.2.1)."""


class InvalidToken(ErrorResponse):
    """``invalid_token``: the access token is expired, revoked or malformed, or shown without its key."""


class InsufficientScope(ErrorResponse):
    """``insufficient_scope``: the access token does not go that far."""


_BOTH: Final[dict[str, type[ErrorResponse]]] = {
    "invalid_request": InvalidRequest,
    "invalid_client": InvalidClient,
    "unauthorized_client": UnauthorizedClient,
    "invalid_scope": InvalidScope,
    "invalid_target": InvalidTarget,
    "invalid_authorization_details": InvalidAuthorizationDetails,
    "invalid_dpop_proof": InvalidDpopProof,
    "server_error": ServerError,
    "temporarily_unavailable": TemporarilyUnavailable,
    "too_many_requests": TooManyRequests,
}

ERROR_CLASSES: Final[dict[Endpoint, dict[str, type[ErrorResponse]]]] = {
    Endpoint.BACKCHANNEL_AUTHENTICATION: {
        **_BOTH,
        "access_denied": AuthenticationRequestDenied,
        "unknown_user_id": UnknownUserId,
        "expired_login_hint_token": ExpiredLoginHintToken,
        "invalid_id_token_hint": InvalidIdTokenHint,
        "expired_id_token_hint": InvalidIdTokenHint,
        "missing_user_code": MissingUserCode,
        "invalid_user_code": InvalidUserCode,
        "invalid_binding_message": InvalidBindingMessage,
        "invalid_request_object": InvalidRequestObject,
    },
    Endpoint.TOKEN: {
        **_BOTH,
        "access_denied": AccessDenied,
        "expired_token": ExpiredToken,
        "invalid_grant": InvalidGrant,
        "unsupported_grant_type": UnsupportedGrantType,
    },
    Endpoint.CLIENT_NOTIFICATION: {
        "access_denied": AccessDenied,
        "expired_token": ExpiredToken,
        "transaction_failed": TransactionFailed,
    },
    Endpoint.REVOCATION: {**_BOTH, "unsupported_token_type": UnsupportedTokenType},
    Endpoint.USERINFO: {
        "invalid_request": InvalidRequest,
        "invalid_token": InvalidToken,
        "insufficient_scope": InsufficientScope,
        "invalid_dpop_proof": InvalidDpopProof,
    },
}
"""Which class stands for which registered code at which endpoint."""
