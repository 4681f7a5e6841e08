"""What comes after the tokens: refresh, revocation, UserInfo.

Each is a value that is driven like a transaction: `Operation.start` returns the request to send, and
`Operation.proceed` takes what came of it, until a step is finished::

    current = Refresh(tokens, client=client, provider=provider).start(now, shared)
    while not current.is_finished:
        if current.request is not None:
            input = ...  # send it: ResponseReceived(...) or RequestFailed(...)
        else:
            ...  # wait `current.operation.deadline - now` seconds
            input = TimerFired(current.operation.deadline)
        current = current.operation.proceed(input, now, current.shared)
    current.error or current.result

An operation is over in a moment, so it cannot be stored. After a fault nothing is sent again; a request is
only repeated when the provider asks for a nonce (RFC 9449 8 and 9). An answer that is signed with an unknown
key waits while that key is looked for, as the tokens of a transaction do.

`Cancel` gives an operation up at any point. The error says what had happened by then, with the reason
``cancelled``: the request was not signed, its answer is lost, or what it brought could not be validated.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Final, Generic, Literal, Protocol, Self, TypeVar

from attrs import evolve, field, frozen
from attrs.validators import in_, optional

from ciba_core.client.config import ClientConfig
from ciba_core.jose.dpop import supplied_nonce
from ciba_core.jose.keys import KeySet
from ciba_core.jose.unsigned_jwt import NotSigned
from ciba_core.provider.answers import (
    challenge,
    error_response,
    has_error,
    is_busy,
    is_redirect,
    too_large,
    unavailable,
    violation,
)
from ciba_core.provider.draft import Draft
from ciba_core.provider.metadata import ProviderMetadata
from ciba_core.provider.requests import RequestMaker, with_nonce
from ciba_core.provider.shared import NOTHING_SHARED, Shared
from ciba_core.tokens.endpoint import Unanswered, read_token_answer
from ciba_core.tokens.issued import TokenResponse
from ciba_core.tokens.response import expected_token_type
from ciba_core.tokens.signed_claims import IdTokenError, KeysNeeded, validate_userinfo
from ciba_core.tokens.validation import keys_unavailable, missing_claim, no_key, validate_refreshed
from ciba_core.transaction.inputs import (
    Cancel,
    RequestFailed,
    ResponseReceived,
    SignaturesMade,
    SigningFailed,
    TimerFired,
)
from ciba_core.transaction.key_search import Decided, Fetch, KeySearch, NoKey, Unavailable, Verify, Wait
from ciba_core.values import check
from ciba_core.values.errors import (
    ERROR_CLASSES,
    CibaError,
    Endpoint,
    ErrorResponse,
    LocalProtocolError,
    RefreshLost,
    RemoteProtocolError,
    RequestNotSent,
    TransportError,
)
from ciba_core.values.http import Delivery, HttpRequest, HttpResponse, Purpose
from ciba_core.values.json import FrozenMapping, JsonFault
from ciba_core.values.lenient import parse_body
from ciba_core.values.secret import Guarded, Secret

__all__ = ["Operation", "OperationInput", "OperationStep", "Refresh", "Revocation", "UserInfo"]

ResultT = TypeVar("ResultT")
OperationInput = ResponseReceived | RequestFailed | SignaturesMade | SigningFailed | TimerFired | Cancel


@frozen(weakref_slot=False)
class _Done(Generic[ResultT]):
    """The result, when all went well."""

    result: ResultT


class _Unvalidated(Protocol[ResultT]):
    """What an answer brought, before its signature is verified. Implementations keep it out of their repr."""

    def validate(self, keys: KeySet | None, now: float, /) -> _Done[ResultT] | CibaError | KeysNeeded:
        """Validate it by the keys that are known."""
        ...

    def no_key(self) -> CibaError:
        """Return the error for a signature that no key of the provider fits."""
        ...

    def keys_unavailable(self, reason: str) -> CibaError:
        """Return the error for a key set that could not be fetched."""
        ...


@frozen(weakref_slot=False)
class KeysAwaited(Generic[ResultT]):
    """An answer, and the search for the key to validate it by."""

    untrusted: _Unvalidated[ResultT] = field(repr=False)
    search: KeySearch
    next_try_at: float | None
    """POSIX instant of the next try; ``None`` while the key set is on its way."""


@frozen(weakref_slot=False)
class Progress(Generic[ResultT]):
    """How far an operation has come."""

    requests: int = 0
    """Requests and drafts so far; the `id` of the last one."""
    in_flight: HttpRequest | Draft | None = field(default=None, repr=False)
    """The request that is to be answered, or the draft that is to be signed."""
    repeated: bool = False
    """Whether the request was repeated already, because the provider asked for a nonce."""
    keys_awaited: KeysAwaited[ResultT] | None = None
    """The answer, if it has come and the key to validate it by is not known yet."""


_NOT_STARTED: Final = Progress[Any]()
_CANCELLED: Final = "cancelled"
"""The `reason` in the error of an operation that was given up; its class says how far it had come."""


@frozen(weakref_slot=False)
class OperationStep(Generic[ResultT]):
    """What came of an input."""

    operation: Operation[ResultT]
    """The next value of the operation; the old one is of no more use."""
    request: HttpRequest | None = None
    """The one request to send now, if any."""
    draft: Draft | None = None
    """A request that needs signatures, as `Step.draft`."""
    result: ResultT | None = field(default=None, repr=False)
    """The result, once the operation has succeeded. A `Revocation` has none."""
    error: CibaError | None = None
    """Why the operation failed, if it did."""
    shared: Shared = NOTHING_SHARED
    """What is known of the provider now; as `Step.shared`."""

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing more to send, to sign or to wait for."""
        return self.request is None and self.draft is None and self.operation.deadline is None


@frozen(kw_only=True, weakref_slot=False)
class Operation(ABC, Generic[ResultT]):
    """What the operations have in common. Immutable: each step has the next value of the operation."""

    client: ClientConfig = field(validator=check.a(ClientConfig), repr=False)
    provider: ProviderMetadata = field(validator=check.a(ProviderMetadata), repr=False)
    progress: Progress[ResultT] = field(default=_NOT_STARTED, repr=False)
    """How far it has come; not for callers to set."""

    @property
    def deadline(self) -> float | None:
        """POSIX instant at which to feed `TimerFired`, or ``None`` while there is nothing to wait for.

        Wait by a monotonic clock, for as long as it is from the `now` of the last step to this instant.
        """
        awaited = self.progress.keys_awaited
        return None if awaited is None else awaited.next_try_at

    def start(self, now: float, shared: Shared = NOTHING_SHARED) -> OperationStep[ResultT]:
        """Begin.

        Args:
            now: POSIX seconds.
            shared: what is known of the provider.

        Raises:
            LocalProtocolError: the provider has no such endpoint, the tokens lack something that is needed,
                `now` is not finite, or the operation was started already. Nothing was sent.

        """
        check.now(now)
        if self.progress.requests:
            raise LocalProtocolError("the operation was started already")
        return self._send(now, shared, repeated=False)

    def proceed(
        self,
        input: OperationInput,  # noqa: A002  # the word of the design
        now: float,
        shared: Shared = NOTHING_SHARED,
    ) -> OperationStep[ResultT]:
        """Go on with what came of the request, the draft or the wait of the last step.

        Args:
            input: what happened.
            now: POSIX seconds.
            shared: what is known of the provider.

        Raises:
            LocalProtocolError: the operation does not wait for that, `now` is not finite, or `elapsed` is
                negative; the operation is unchanged.

        """
        check.now(now)
        in_flight, awaited = self.progress.in_flight, self.progress.keys_awaited
        match input:
            case SignaturesMade() if isinstance(in_flight, Draft) and input.draft_id == in_flight.id:
                make = self._maker(in_flight.id, now, shared)
                try:
                    request = make.signed_post(in_flight, input.signatures)
                except NotSigned as problem:
                    reason = problem.reason
                else:
                    return self._sent(request, shared)
                return self._not_signed(reason, shared)
            case SigningFailed() if isinstance(in_flight, Draft) and input.draft_id == in_flight.id:
                return self._not_signed(input.reason, shared)
            case ResponseReceived() | RequestFailed() if (
                isinstance(in_flight, HttpRequest) and input.request_id == in_flight.id
            ):
                check.elapsed(input.elapsed)
                if awaited is None:
                    return self._answered(in_flight, input, now, shared)
                return self._keys(awaited, input, now, shared)
            case TimerFired(deadline) if awaited is not None and deadline == awaited.next_try_at:
                verify = self._verifier(awaited.untrusted, now)
                found = awaited.search.waited(verify, shared, now, until=deadline)
                return self._searched(found, awaited.untrusted, now, shared)
            case Cancel() if awaited is not None:
                return self._finished(awaited.untrusted.keys_unavailable(_CANCELLED), shared)
            case Cancel() if isinstance(in_flight, HttpRequest):
                return self._finished(self._lost(_CANCELLED), shared)
            case Cancel() if in_flight is not None:
                return self._not_signed(_CANCELLED, shared)
            case _:
                raise LocalProtocolError("that is nothing the operation waits for")

    @abstractmethod
    def _prepare(self, make: RequestMaker) -> HttpRequest | Draft:
        """Make the request, or raise `LocalProtocolError`."""

    @abstractmethod
    def _lost(self, reason: str) -> CibaError:
        """Return the error for an answer that was lost."""

    @abstractmethod
    def _decode(
        self, response: HttpResponse, now: float
    ) -> _Done[ResultT] | CibaError | _Unvalidated[ResultT]:
        """Read an answer."""

    def _maker(self, number: int, now: float, shared: Shared) -> RequestMaker:
        return RequestMaker(self.client, self.provider, number, now, shared)

    def _send(self, now: float, shared: Shared, *, repeated: bool) -> OperationStep[ResultT]:
        number = self.progress.requests + 1
        try:
            prepared = self._prepare(self._maker(number, now, shared))
        except NotSigned as problem:
            reason = problem.reason
        else:
            after = evolve(self, progress=Progress(number, prepared, repeated))
            if isinstance(prepared, Draft):
                return OperationStep(after, draft=prepared, shared=shared)
            return OperationStep(after, prepared, shared=shared)
        return self._not_signed(reason, shared)

    def _not_signed(self, reason: str, shared: Shared) -> OperationStep[ResultT]:
        return self._finished(RequestNotSent("the request could not be signed", reason=reason), shared)

    def _sent(self, request: HttpRequest, shared: Shared, **changes: Any) -> OperationStep[ResultT]:
        progress = evolve(self.progress, requests=request.id, in_flight=request, **changes)
        return OperationStep(evolve(self, progress=progress), request, shared=shared)

    def _finished(self, outcome: _Done[ResultT] | CibaError, shared: Shared) -> OperationStep[ResultT]:
        after = evolve(self, progress=Progress(self.progress.requests))
        if isinstance(outcome, _Done):
            return OperationStep(after, result=outcome.result, shared=shared)
        return OperationStep(after, error=outcome, shared=shared)

    def _answered(
        self,
        request: HttpRequest,
        input: ResponseReceived | RequestFailed,  # noqa: A002
        now: float,
        shared: Shared,
    ) -> OperationStep[ResultT]:
        if isinstance(input, RequestFailed):
            if input.delivery is Delivery.NOT_SENT:
                error = RequestNotSent("the request could not be sent", reason=input.reason)
                return self._finished(error, shared)
            return self._finished(self._lost(input.reason), shared)
        proven = any(name == "DPoP" for name, _ in request.headers)
        shared = with_nonce(shared, request.url, input.response)
        outcome = self._decode(input.response, now)
        if proven and isinstance(outcome, ErrorResponse) and outcome.error == "use_dpop_nonce":
            if supplied_nonce(input.response) is None:
                broken = violation(outcome.endpoint, "DPoP-Nonce is missing or malformed", "RFC 9449 8")
                return self._finished(broken, shared)
            if not self.progress.repeated:
                return self._send(now, shared, repeated=True)
        if isinstance(outcome, (_Done, CibaError)):
            return self._finished(outcome, shared)
        found = KeySearch.begin(
            self._verifier(outcome, now), shared, now, jwks_uri=self.provider.jwks_uri, give_up_at=now
        )
        return self._searched(found, outcome, now, shared)

    def _keys(
        self,
        awaited: KeysAwaited[ResultT],
        input: ResponseReceived | RequestFailed,  # noqa: A002
        now: float,
        shared: Shared,
    ) -> OperationStep[ResultT]:
        found, shared = awaited.search.fetched(
            self._verifier(awaited.untrusted, now),
            shared,
            now,
            client=self.client,
            outcome=input,
            noted=[],
        )
        return self._searched(found, awaited.untrusted, now, shared)

    def _verifier(self, untrusted: _Unvalidated[ResultT], now: float) -> Verify[_Done[ResultT] | CibaError]:
        def verify(keys: KeySet | None) -> Decided[_Done[ResultT] | CibaError] | None:
            verdict = untrusted.validate(keys, now)
            return None if isinstance(verdict, KeysNeeded) else Decided(verdict)

        return verify

    def _searched(
        self,
        found: Decided[_Done[ResultT] | CibaError] | NoKey | Fetch | Wait | Unavailable,
        untrusted: _Unvalidated[ResultT],
        now: float,
        shared: Shared,
    ) -> OperationStep[ResultT]:
        match found:
            case Decided(verdict):
                return self._finished(verdict, shared)
            case NoKey():
                return self._finished(untrusted.no_key(), shared)
            case Unavailable(reason):
                return self._finished(untrusted.keys_unavailable(reason), shared)
            case Wait(search, until):
                awaited = KeysAwaited(untrusted, search, until)
                progress = evolve(self.progress, in_flight=None, keys_awaited=awaited)
                return OperationStep(evolve(self, progress=progress), shared=shared)
            case _:
                request = self._maker(self.progress.requests + 1, now, shared).keys()
                return self._sent(request, shared, keys_awaited=KeysAwaited(untrusted, found.search, None))


def _check_bound(tokens: TokenResponse) -> None:
    if tokens.token_type.lower() == "dpop" and tokens.dpop_key is None:
        raise LocalProtocolError("tokens: dpop_key is missing, to which the access token is bound")


# --- refresh ---------------------------------------------------------------------------------------------


@frozen(repr=False, weakref_slot=False)
class _RefreshedTokens:
    guarded: Guarded[TokenResponse]
    refresh: Refresh

    def validate(self, keys: KeySet | None, now: float) -> _Done[TokenResponse] | CibaError | KeysNeeded:
        verdict = validate_refreshed(
            self.guarded,
            old=self.refresh.tokens,
            scope=self.refresh.scope,
            client=self.refresh.client,
            provider=self.refresh.provider,
            keys=keys,
            now=now,
            noted=[],
        )
        return _Done(verdict) if isinstance(verdict, TokenResponse) else verdict

    def no_key(self) -> CibaError:
        return no_key(self.guarded)

    def keys_unavailable(self, reason: str) -> CibaError:
        return keys_unavailable(self.guarded, reason)


@frozen(weakref_slot=False)
class Refresh(Operation[TokenResponse]):
    """New tokens for a refresh token (RFC 6749 6, OpenID Connect Core 12); the result is a `TokenResponse`.

    The result holds all that is valid from now on: the new refresh token or, if none came, the old one. Store
    it before you use the new access token. Never refresh the same tokens twice at the same time: where the
    provider rotates refresh tokens, the second request would look like theft. If an ID Token came, it was
    validated like the first one and compared with it; if none came, the last one is kept. What was granted is
    compared with what was asked for: see `TokenResponse.require_as_requested`.

    Errors: `InvalidGrant` when the refresh token is no longer good, `RefreshLost` when the answer was lost,
    `TokensRejected` and `KeysUnavailable` with the answer inside, `ProviderUnavailable`.
    """

    tokens: TokenResponse = field(validator=check.a(TokenResponse))
    """The tokens to refresh; with their DPoP key, if they are bound to one."""
    scope: str | None = field(default=None, validator=check.text, kw_only=True)
    """A part of the scope that was granted at first, or ``None`` for all of it (RFC 6749 6)."""

    def _prepare(self, make: RequestMaker) -> HttpRequest | Draft:
        token = self.tokens.refresh_token
        if token is None:
            raise LocalProtocolError("tokens: there is no refresh token")
        _check_bound(self.tokens)
        original = self.tokens.original_grant
        if original.id_token_claims is not None:
            missing = missing_claim(original.id_token_claims)
            if missing is not None:
                raise LocalProtocolError(f"tokens: the claims of the ID Token have no usable {missing}")
        parameters = [("grant_type", "refresh_token"), ("refresh_token", token.reveal())]
        if self.scope is not None:
            # Of a scope that the provider did not tell, it alone knows what is too much.
            if original.scope and not set(self.scope.split(" ")) <= set(original.scope.split(" ")):
                raise LocalProtocolError("scope: more than was granted (RFC 6749 6)")
            parameters.append(("scope", self.scope))
        url = make.endpoint("token_endpoint")
        return make.form_post(Purpose.REFRESH, url, parameters, dpop_key=self.tokens.dpop_key)

    def _lost(self, reason: str) -> CibaError:
        return RefreshLost(
            "the answer to the refresh was lost; the refresh token may be used up", reason=reason
        )

    def _decode(
        self, response: HttpResponse, now: float
    ) -> _Done[TokenResponse] | CibaError | _Unvalidated[TokenResponse]:
        answer = read_token_answer(
            response,
            client=self.client,
            requested_scope=self.tokens.original_grant.scope if self.scope is None else self.scope,
            dpop_key=self.tokens.dpop_key,
            now=now,
            noted=[],
            id_token_optional=True,
        )
        assert not isinstance(answer, str)  # noqa: S101  # no statuses were named; for the type checker
        match answer:
            case Guarded():
                return _RefreshedTokens(answer, self)
            case Unanswered(lost=True):
                return self._lost(answer.reason)
            case Unanswered():
                return unavailable("the provider cannot refresh tokens just now", response, now)
            case _:
                return answer


# --- revocation ------------------------------------------------------------------------------------------


@frozen(weakref_slot=False)
class Revocation(Operation[None]):
    """Ends the validity of a token (RFC 7009). There is no result: without an error, it is done.

    It is done, too, if the provider does not know the token. With a refresh token, most providers revoke its
    access tokens as well (RFC 7009 2.1). Errors: `UnsupportedTokenType`; `ProviderUnavailable`, after which
    the token is still good; `TransportError`. A revocation can be repeated.
    """

    token: Secret = field(validator=check.a(Secret))
    token_type_hint: Literal["access_token", "refresh_token"] | None = field(
        default=None, validator=optional(in_(("access_token", "refresh_token"))), kw_only=True
    )

    @classmethod
    def of(
        cls,
        tokens: TokenResponse | Guarded[TokenResponse],
        *,
        client: ClientConfig,
        provider: ProviderMetadata,
    ) -> Self:
        """Return the operation that revokes the refresh token or, where there is none, the access token.

        For tokens that are needed no longer, and for `TokensRejected.untrusted` and
        `KeysUnavailable.untrusted`.
        """
        answer = tokens.reveal_untrusted() if isinstance(tokens, Guarded) else tokens
        refresh = answer.refresh_token
        return cls(
            answer.access_token if refresh is None else refresh,
            token_type_hint="access_token" if refresh is None else "refresh_token",
            client=client,
            provider=provider,
        )

    def _prepare(self, make: RequestMaker) -> HttpRequest | Draft:
        methods, method = (
            self.provider.revocation_endpoint_auth_methods_supported,
            self.client.authentication.method,
        )
        if methods is not None and method not in methods:
            raise LocalProtocolError(
                f"authentication: the provider does not support {method!r} "
                "(revocation_endpoint_auth_methods_supported)"
            )
        parameters = [("token", self.token.reveal())]
        if self.token_type_hint is not None:
            parameters.append(("token_type_hint", self.token_type_hint))
        return make.form_post(Purpose.REVOCATION, make.endpoint("revocation_endpoint"), parameters)

    def _lost(self, reason: str) -> CibaError:
        return TransportError("the answer to the revocation was lost; it can be repeated", reason=reason)

    def _decode(self, response: HttpResponse, now: float) -> _Done[None] | CibaError:
        endpoint = Endpoint.REVOCATION
        if response.status in (200, 204):
            return _Done(None)
        if is_busy(response):
            return unavailable("the provider cannot revoke tokens just now", response, now)
        oversize = too_large(response, self.client)
        if oversize is not None:
            return violation(endpoint, oversize, "size limit")
        members = parse_body(response.body, depth_limit=self.client.limits.json_depth, noted=[])
        if has_error(members) and not is_redirect(response):
            return error_response(members, response, self.client, endpoint, now)
        return violation(endpoint, f"status {response.status} without an error code", "RFC 7009 2.2")


# --- UserInfo --------------------------------------------------------------------------------------------

_CLAIMS: Final = "OpenID Connect Core 5.3.2"
# The tokens of providers were checked when they came; others are made by hand, or were rejected.
_CREDENTIALS: Final = re.compile(r"[\x21-\x7e]+")


@frozen(repr=False, weakref_slot=False)
class _SignedClaims:
    token: Secret
    userinfo: UserInfo

    def validate(self, keys: KeySet | None, now: float) -> _Done[Mapping[str, Any]] | CibaError | KeysNeeded:
        try:
            claims = validate_userinfo(
                self.token,
                issuer=self.userinfo.provider.issuer,
                client=self.userinfo.client,
                keys=keys,
                now=now,
                noted=[],
            )
        except IdTokenError as problem:
            broken = violation(Endpoint.USERINFO, str(problem), problem.rule)
        else:
            return claims if isinstance(claims, KeysNeeded) else _same_user(self.userinfo.tokens, claims)
        return broken

    def no_key(self) -> CibaError:
        return violation(
            Endpoint.USERINFO, "no key of the provider fits the answer", "OpenID Connect Core 10.1.1"
        )

    def keys_unavailable(self, reason: str) -> CibaError:
        return TransportError("the keys to validate the claims could not be had", reason=reason)


@frozen(weakref_slot=False)
class UserInfo(Operation[Mapping[str, Any]]):
    """Claims about the user (OpenID Connect Core 5.3); the result is a read-only mapping.

    The ``sub`` in it is that of the ID Token; claims with another one are an error. `ClientConfig.userinfo`
    says whether the answer has to be signed. Errors: `InvalidToken`, `InsufficientScope`,
    `RemoteProtocolError`, `TransportError`. It can be repeated.
    """

    tokens: TokenResponse = field(validator=check.a(TokenResponse))
    """Tokens with the claims of an ID Token; and with their DPoP key, if they are bound to one."""

    def _prepare(self, make: RequestMaker) -> HttpRequest | Draft:
        if not isinstance((self.tokens.id_token_claims or {}).get("sub"), str):
            raise LocalProtocolError("tokens: without an ID Token, nobody can tell whose claims would come")
        _check_bound(self.tokens)
        if not _CREDENTIALS.fullmatch(self.tokens.access_token.reveal()):
            raise LocalProtocolError("tokens: access_token cannot stand in a header field (RFC 6750 2.1)")
        accept = "application/json" if self.client.userinfo.is_plain else "application/jwt"
        return make.resource(
            Purpose.USERINFO,
            make.endpoint("userinfo_endpoint"),
            accept,
            self.tokens.access_token,
            self.tokens.dpop_key,
        )

    def _lost(self, reason: str) -> CibaError:
        return TransportError("the claims were lost on the way; they can be asked for again", reason=reason)

    def _decode(
        self, response: HttpResponse, now: float
    ) -> _Done[Mapping[str, Any]] | CibaError | _Unvalidated[Mapping[str, Any]]:
        endpoint, limits = Endpoint.USERINFO, self.client.limits
        oversize = too_large(response, self.client)
        if oversize is not None:
            return violation(endpoint, oversize, "size limit")
        if is_busy(response):
            return unavailable("the provider cannot tell claims just now", response, now)
        if not response.is_success:
            return self._refusal(response, now)
        if not self.client.userinfo.is_plain:
            if response.media_type != "application/jwt":
                # Plain claims are never taken where signed or encrypted ones were registered.
                message = "the answer is not application/jwt, as was registered"
                return violation(endpoint, message, f"{_CLAIMS}, 5.3.4")
            # What is no ASCII is no JWT.
            return _SignedClaims(Secret(response.body.decode("ascii", "replace").strip()), self)
        members = parse_body(response.body, depth_limit=limits.json_depth, noted=[])
        if isinstance(members, JsonFault):
            return violation(endpoint, f"the answer is {members.value}", _CLAIMS)
        return _same_user(self.tokens, FrozenMapping(members))

    def _refusal(self, response: HttpResponse, now: float) -> CibaError:
        endpoint = Endpoint.USERINFO
        told: Mapping[str, Any] | None = challenge(response, expected_token_type(self.tokens.dpop_key))
        if told is None and not is_redirect(response):
            members = parse_body(response.body, depth_limit=self.client.limits.json_depth, noted=[])
            if not isinstance(members, JsonFault) and members.get("error") in _TOLD:
                told = members
        if told is None and response.status == 401:
            # The request consists of little but the token, so that is what was refused.
            told = {"error": "invalid_token"}
        if told is None:
            return violation(endpoint, f"status {response.status} without an error code", "RFC 6750 3")
        return error_response(told, response, self.client, endpoint, now)


# Error codes that count even if they are in the body, and not in a challenge as they should be.
_TOLD: Final = (*ERROR_CLASSES[Endpoint.USERINFO], "use_dpop_nonce")


def _same_user(
    tokens: TokenResponse, claims: Mapping[str, Any]
) -> _Done[Mapping[str, Any]] | RemoteProtocolError:
    """Accept the claims of the ID Token's user only (OpenID Connect Core 5.3.2 and 16.11)."""
    user = tokens.id_token_claims
    if user is None or claims.get("sub") != user.get("sub"):
        return violation(Endpoint.USERINFO, "sub is not that of the ID Token", f"{_CLAIMS}: sub")
    return _Done(claims)
