"""Everything that can go wrong, as one hierarchy.

::

    CibaError
    ├── LocalProtocolError              the caller asked for something the protocol or the provider rules out
    │   ├── BindingMessageUnfit         a binding message that the provider or a telephone cannot show
    │   ├── SnapshotError               a stored transaction cannot be restored
    │   ├── LoginUnderWay               another login waits under the same session key
    │   └── NoPendingLogin              there is no login to go on with
    ├── StoreError                      a stored login or session cannot be used, or was not saved
    │   ├── StoredContentAltered        it is not what was stored there: damaged, forged or moved
    │   ├── UnknownStoreSecret          it was encrypted under a secret that is not among those given
    │   ├── UnknownStoreVersion         it is of a form that this release does not know
    │   ├── StoreConflict               somebody else changed it since it was loaded
    │   └── StoreUnavailable            the store cannot be reached, or cannot read or write
    ├── LoginStillWaiting               the wait was left; the login goes on
    ├── SessionOfAnotherUser            tokens came, and the session is somebody else's
    ├── RemoteProtocolError             the provider broke a rule of the protocol; `rule` names it
    │   └── TokensRejected              it issued tokens, and they, or the answer, did not pass the checks
    ├── TransportError                  no usable answer came back
    │   ├── RequestNotSent              nothing reached the provider: safe to try again
    │   ├── AcknowledgementLost         the user may have been asked: never repeated automatically
    │   ├── KeysUnavailable             tokens came, but not the keys to validate them by
    │   ├── RefreshLost                 the refresh token may be used up, and its successor is lost
    │   └── ProviderUnavailable         the provider answered that it cannot serve just now (503, 429)
    ├── AuthenticationExpired           time ran out, by the client's own clock
    │   └── ExpiredToken            (*) ... or the provider said so
    ├── AuthenticationCancelled         the application gave up
    ├── GrantDiffers                    valid tokens for less, more or other than was asked for
    └── ErrorResponse                   the provider answered with an error code
        ├── InvalidRequest              invalid_request             both endpoints
        ├── InvalidClient               invalid_client              both endpoints
        ├── UnauthorizedClient          unauthorized_client         both endpoints
        ├── InvalidScope                invalid_scope               both endpoints
        ├── InvalidTarget               invalid_target              RFC 8707
        ├── InvalidAuthorizationDetails invalid_authorization_details  RFC 9396
        ├── InvalidDpopProof            invalid_dpop_proof          RFC 9449
        ├── ServerError                 server_error
        ├── TemporarilyUnavailable      temporarily_unavailable
        ├── TooManyRequests             too_many_requests
        │   -- backchannel authentication endpoint only (CIBA Core 13)
        ├── AuthenticationRequestDenied access_denied: refused before anybody was asked
        ├── UnknownUserId               unknown_user_id
        ├── ExpiredLoginHintToken       expired_login_hint_token
        ├── InvalidIdTokenHint          invalid_id_token_hint, expired_id_token_hint
        ├── MissingUserCode             missing_user_code
        ├── InvalidUserCode             invalid_user_code
        ├── InvalidBindingMessage       invalid_binding_message
        ├── InvalidRequestObject        invalid_request_object
        │   -- token endpoint only (CIBA Core 11, RFC 6749 5.2)
        ├── AccessDenied                access_denied: the user said no
        ├── ExpiredToken            (*) expired_token
        ├── InvalidGrant                invalid_grant
        │   └── TokenResponseLost       ... after an answer was lost: tokens may have been issued
        ├── UnsupportedGrantType        unsupported_grant_type
        │   -- pushed to the client notification endpoint only (CIBA Core 12)
        ├── TransactionFailed           transaction_failed
        │   -- revocation endpoint only (RFC 7009 2.2.1)
        ├── UnsupportedTokenType        unsupported_token_type
        │   -- UserInfo endpoint only (RFC 6750 3.1)
        ├── InvalidToken                invalid_token
        ├── InsufficientScope           insufficient_scope
        └── (any other code)            an ErrorResponse with `error` kept as it came

``authorization_pending`` and ``slow_down`` are not errors but a status: they show as events. An unknown code
is an `ErrorResponse` itself. No exception of this module carries a credential, an identifier or a response
body in its message: what the provider wrote is in attributes, for the caller to show if that is wanted.
"""

from ciba_core.tokens.errors import AuthenticationCancelled, KeysUnavailable, TokensRejected
from ciba_core.tokens.issued import GrantDiffers
from ciba_core.values.errors import (
    AccessDenied,
    AcknowledgementLost,
    AuthenticationExpired,
    AuthenticationRequestDenied,
    BindingMessageUnfit,
    CibaError,
    Endpoint,
    ErrorResponse,
    ExpiredLoginHintToken,
    ExpiredToken,
    InsufficientScope,
    InvalidAuthorizationDetails,
    InvalidBindingMessage,
    InvalidClient,
    InvalidDpopProof,
    InvalidGrant,
    InvalidIdTokenHint,
    InvalidRequest,
    InvalidRequestObject,
    InvalidScope,
    InvalidTarget,
    InvalidToken,
    InvalidUserCode,
    LocalProtocolError,
    LoginStillWaiting,
    LoginUnderWay,
    MissingUserCode,
    NoPendingLogin,
    ProviderUnavailable,
    RefreshLost,
    RemoteProtocolError,
    RequestNotSent,
    ServerError,
    SessionOfAnotherUser,
    SnapshotError,
    StoreConflict,
    StoredContentAltered,
    StoreError,
    StoreUnavailable,
    TemporarilyUnavailable,
    TokenResponseLost,
    TooManyRequests,
    TransactionFailed,
    TransportError,
    UnauthorizedClient,
    UnknownStoreSecret,
    UnknownStoreVersion,
    UnknownUserId,
    UnsupportedGrantType,
    UnsupportedTokenType,
)

__all__ = [
    "AccessDenied",
    "AcknowledgementLost",
    "AuthenticationCancelled",
    "AuthenticationExpired",
    "AuthenticationRequestDenied",
    "BindingMessageUnfit",
    "CibaError",
    "Endpoint",
    "ErrorResponse",
    "ExpiredLoginHintToken",
    "ExpiredToken",
    "GrantDiffers",
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
    "KeysUnavailable",
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
    "TokensRejected",
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
