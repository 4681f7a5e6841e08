from __future__ import annotations

import copy
import pickle

import pytest

from ciba_core import errors
from ciba_core.errors import CibaError, Endpoint, ErrorResponse
from ciba_core.values.errors import ERROR_CLASSES
from tests.samples import TOKENS, untrusted

BACKCHANNEL, TOKEN = Endpoint.BACKCHANNEL_AUTHENTICATION, Endpoint.TOKEN

RESPONSES = [
    cls
    for cls in map(vars(errors).get, errors.__all__)
    if isinstance(cls, type) and issubclass(cls, ErrorResponse)
]
EXAMPLES: list[CibaError] = [
    CibaError("message"),
    errors.LocalProtocolError("message"),
    errors.SnapshotError("message"),
    errors.BindingMessageUnfit("message", rule="length"),
    errors.LoginUnderWay("message"),
    errors.NoPendingLogin("message"),
    errors.StoreError("message"),
    errors.StoredContentAltered("message"),
    errors.UnknownStoreSecret("message"),
    errors.UnknownStoreVersion("message"),
    errors.StoreConflict("message"),
    errors.StoreUnavailable("message"),
    errors.LoginStillWaiting("message", wake_at=1.5),
    errors.SessionOfAnotherUser("message"),
    errors.RemoteProtocolError("message", rule="CIBA Core 7.3: expires_in", endpoint=BACKCHANNEL),
    errors.TransportError("message", reason="Reset"),
    errors.RequestNotSent("message", reason="ConnectTimeout"),
    errors.AcknowledgementLost("message", reason="ReadTimeout"),
    errors.TokensRejected(
        "message", rule="OpenID Connect Core 3.1.3.7 (9): exp", endpoint=TOKEN, untrusted=untrusted()
    ),
    errors.KeysUnavailable("message", reason="3 tries", untrusted=untrusted()),
    errors.RefreshLost("message", reason="ReadTimeout"),
    errors.ProviderUnavailable("message", reason="status 503", status=503, retry_after=1.5),
    errors.AuthenticationExpired("message"),
    errors.AuthenticationCancelled("message"),
    errors.GrantDiffers("message", untrusted=untrusted()),
    *(
        cls(
            "some_code",
            endpoint=TOKEN,
            status=400,
            error_description="described",
            error_uri="https://op.example/",
            retry_after=3.0,
        )
        for cls in RESPONSES
    ),
]


PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
GUARDING = (errors.TokensRejected, errors.KeysUnavailable, errors.GrantDiffers)
"""Errors that have tokens in them."""


def test_every_class_has_an_example() -> None:
    """The cases below leave out no class of the hierarchy."""
    assert {type(error).__name__ for error in EXAMPLES} == {*errors.__all__} - {"Endpoint"}


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_errors_are_values(error: CibaError) -> None:
    """Errors compare by content and survive copies and pickles with all their attributes."""
    copies: list[CibaError] = [
        copy.copy(error),
        copy.deepcopy(error),
    ]
    if not isinstance(error, GUARDING):
        copies += (pickle.loads(pickle.dumps(error, protocol)) for protocol in PROTOCOLS)
    for other in copies:
        assert other is not error
        assert type(other) is type(error)
        assert other == error
        assert hash(other) == hash(error)
        assert vars(other) == vars(error)
        assert (str(other), repr(other)) == (str(error), repr(error))


@pytest.mark.parametrize("error", [error for error in EXAMPLES if isinstance(error, GUARDING)], ids=str)
def test_tokens_in_an_error_are_guarded(error: CibaError) -> None:
    """Promise 7: tokens that did not pass show nowhere, and come out by one explicit call only."""
    assert isinstance(error, GUARDING)
    assert error.untrusted.reveal_untrusted().access_token.reveal() == TOKENS["access_token"]
    for shown in (str(error), repr(error), repr(vars(error)), repr(error.args), repr(error.untrusted)):
        assert not any(str(TOKENS[name]) in shown for name in ("access_token", "refresh_token", "id_token"))
    assert not hasattr(error, "tokens")
    for protocol in PROTOCOLS:
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(error, protocol)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_errors_differ_by_class_and_by_every_attribute(error: CibaError) -> None:
    """Errors of another class or with one other attribute are not equal."""
    assert error != "message"
    assert [other for other in EXAMPLES if other == error] == [error]
    for name in vars(error):
        other = copy.copy(error)
        vars(other)[name] = object()
        assert other != error
    if error.args:
        assert error != type(error).__reduce__(error)[0](type(error), ("another",), vars(error))


def test_only_the_message_and_names_of_our_own_are_shown() -> None:
    """Messages say where, what and which rule."""
    remote = errors.RemoteProtocolError("expires_in is missing", rule="CIBA Core 7.3", endpoint=BACKCHANNEL)
    assert str(remote) == "backchannel authentication endpoint: expires_in is missing [CIBA Core 7.3]"
    assert str(errors.RequestNotSent("not sent", reason="ConnectTimeout")) == "not sent (ConnectTimeout)"
    unavailable = errors.ProviderUnavailable("busy", reason="status 503", status=503, retry_after=None)
    assert str(unavailable) == "busy (status 503)"


@pytest.mark.parametrize(
    ("code", "description", "shown"),
    [
        ("access_denied", None, "token endpoint answered 400 access_denied"),
        ("access_denied", "echo", "token endpoint answered 400 access_denied; see error_description"),
        ("not_registered", None, "token endpoint answered 400 not_registered"),
        *(
            (code, None, f"token endpoint answered 400 {code}")
            for code in (
                "invalid-request",
                "InvalidRequest",
                "invalidRequest",
                "INVALID_REQUEST",
                "Not Found",
                "Forbidden",
                "ERR.1042",
                "AADSTS50011",
                "1042",
                "invalid_request2",
                "urn:example:error:no-consent",
                "_internal",
                "a" * 64,
            )
        ),
        *(
            (secret, None, "token endpoint answered 400 (code not shown)")
            for secret in (
                "1c266114-a1be-4252-8ad1-04986c5b9ac1",
                "G5kXH2wHvUra0sHlDy1iTkDJgsgUO1bN",
                "W4SCT",
                "491701234567",
                "alice@example.com",
                "+491701234567",
                "7Fjfp0ZBr1KtDRbnfVdmIw",
                "a=b",
                "\u00e4",
                "a\u2028b",
                "\x1b[1m",
            )
        ),
        ("eyJhbGciOi.echo", None, "token endpoint answered 400 (code not shown)"),
        ("eyJhbGciOi", None, "token endpoint answered 400 (code not shown)"),
        ("a" * 65, None, "token endpoint answered 400 (code not shown)"),
        ("access_denied\nforged line", None, "token endpoint answered 400 (code not shown)"),
        ("access_denied\n", None, "token endpoint answered 400 (code not shown)"),
        ("", None, "token endpoint answered 400 (code not shown)"),
    ],
)
def test_text_of_the_provider_is_not_in_messages(code: str, description: str | None, shown: str) -> None:
    """CIBA-11: what a provider writes is kept as it came, in attributes, and sanitised in messages."""
    error = ErrorResponse(code, endpoint=TOKEN, status=400, error_description=description, error_uri="echo")
    assert str(error) == shown
    assert repr(error) == "ErrorResponse()"
    assert (error.error, error.error_description, error.error_uri) == (code, description, "echo")


BOTH = {
    "invalid_request": errors.InvalidRequest,
    "invalid_client": errors.InvalidClient,
    "unauthorized_client": errors.UnauthorizedClient,
    "invalid_scope": errors.InvalidScope,
    "invalid_target": errors.InvalidTarget,
    "invalid_authorization_details": errors.InvalidAuthorizationDetails,
    "invalid_dpop_proof": errors.InvalidDpopProof,
    "server_error": errors.ServerError,
    "temporarily_unavailable": errors.TemporarilyUnavailable,
    "too_many_requests": errors.TooManyRequests,
}


def test_codes_of_the_backchannel_authentication_endpoint() -> None:
    """CIBA-13-01..12, RAR-05, RES-03, AUTH-06: one class for each code of Core 13 and of the extensions."""
    assert ERROR_CLASSES[BACKCHANNEL] == BOTH | {
        "expired_login_hint_token": errors.ExpiredLoginHintToken,
        "unknown_user_id": errors.UnknownUserId,
        "missing_user_code": errors.MissingUserCode,
        "invalid_user_code": errors.InvalidUserCode,
        "invalid_binding_message": errors.InvalidBindingMessage,
        "access_denied": errors.AuthenticationRequestDenied,
        "invalid_id_token_hint": errors.InvalidIdTokenHint,
        "expired_id_token_hint": errors.InvalidIdTokenHint,
        "invalid_request_object": errors.InvalidRequestObject,
    }


def test_codes_of_the_token_endpoint() -> None:
    """CIBA-11-03..15: one class for each code of Core 11, RFC 6749 5.2 and the extensions."""
    assert ERROR_CLASSES[TOKEN] == BOTH | {
        "expired_token": errors.ExpiredToken,
        "access_denied": errors.AccessDenied,
        "invalid_grant": errors.InvalidGrant,
        "unsupported_grant_type": errors.UnsupportedGrantType,
    }


def test_both_kinds_of_expiry_are_caught_as_one() -> None:
    """A caller that asks for expiry gets it, whoever's clock it was."""
    with pytest.raises(errors.AuthenticationExpired):
        raise errors.ExpiredToken("expired_token", endpoint=TOKEN, status=400)
    assert issubclass(errors.TokenResponseLost, errors.InvalidGrant)
    assert not issubclass(errors.AccessDenied, errors.AuthenticationRequestDenied)
