"""What the operations on tokens have in common: signatures, DPoP nonces, the search for a key.

A request is only repeated when the provider asks for a nonce (RFC 9449 8 and 9). An answer that is signed
with an unknown key waits while that key is looked for, as the tokens of a transaction do.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Generic, Protocol, TypeVar, assert_never

from attrs import evolve, field, frozen

from ciba_core.client.config import ClientConfig
from ciba_core.jose.dpop import supplied_nonce
from ciba_core.jose.unsigned_jwt import NotSigned
from ciba_core.operations.operation import CANCELLED, Awaited, Done, Operation, OperationStep
from ciba_core.provider.answers import kept_headers, violation
from ciba_core.provider.draft import Draft
from ciba_core.provider.metadata import ProviderMetadata
from ciba_core.provider.requests import RequestMaker, with_nonce
from ciba_core.provider.shared import Shared
from ciba_core.tokens.issued import TokenResponse
from ciba_core.tokens.signed_jwt import BrokenRule, Opened, SignedJwt
from ciba_core.transaction.events import AnswerHeaders
from ciba_core.transaction.inputs import (
    RequestFailed,
    ResponseReceived,
    SignaturesMade,
    SigningFailed,
    TimerFired,
)
from ciba_core.transaction.key_search import Fetch, KeySearch, Unavailable, Wait
from ciba_core.values import check
from ciba_core.values.errors import CibaError, ErrorResponse, LocalProtocolError, RequestNotSent
from ciba_core.values.http import Delivery, HttpRequest, HttpResponse
from ciba_core.values.lenient import ProviderDeviation

__all__ = ["TokenOperation", "Unvalidated", "check_bound"]

ResultT = TypeVar("ResultT")


class Unvalidated(Protocol[ResultT]):
    """Content of an answer whose signature is not verified yet. Implementations keep it out of their repr."""

    @property
    def jwt(self) -> SignedJwt:
        """The JWT whose signature is to be verified."""
        ...

    def validate(
        self, opened: Opened, now: float, noted: list[ProviderDeviation], /
    ) -> Done[ResultT] | CibaError:
        """Validate it, its signature being verified; `noted` takes what deviates and is read all the same."""
        ...

    def rejected(self, broken: BrokenRule, /) -> CibaError:
        """Return the error for what was not signed as it has to be."""
        ...

    def keys_unavailable(self, reason: str) -> CibaError:
        """Return the error for a key set that could not be fetched."""
        ...


@frozen(weakref_slot=False)
class _KeysAwaited(Generic[ResultT]):
    """An answer, and the search for the key to validate it by."""

    untrusted: Unvalidated[ResultT] = field(repr=False)
    search: KeySearch


@frozen(kw_only=True, weakref_slot=False)
class TokenOperation(Operation[ResultT]):
    """An operation of a client on its tokens, at a provider."""

    client: ClientConfig = field(validator=check.a(ClientConfig), repr=False)
    provider: ProviderMetadata = field(validator=check.a(ProviderMetadata), repr=False)
    repeated: bool = field(default=False, repr=False)
    """Whether the request was repeated already, because the provider asked for a nonce; not for callers."""
    keys_awaited: _KeysAwaited[ResultT] | None = field(default=None, repr=False)
    """The answer, if it has come and the key to validate it by is not known yet; not for callers."""

    @abstractmethod
    def _prepare(self, make: RequestMaker) -> HttpRequest | Draft | NotSigned:
        """Make the request, or raise `LocalProtocolError`."""

    @abstractmethod
    def _lost(self, reason: str) -> CibaError:
        """Return the error for an answer that was lost."""

    @abstractmethod
    def _decode(
        self, response: HttpResponse, now: float, noted: list[ProviderDeviation]
    ) -> Done[ResultT] | CibaError | Unvalidated[ResultT]:
        """Read an answer; `noted` takes what deviates and is read all the same."""

    def _maker(self, number: int, now: float, shared: Shared) -> RequestMaker:
        return RequestMaker(self.client, self.provider, number, now, shared)

    def _begin(self, now: float, shared: Shared, *, repeated: bool = False) -> OperationStep[ResultT]:
        prepared = self._prepare(self._maker(self.progress.last + 1, now, shared))
        if isinstance(prepared, NotSigned):
            return self._finished(_not_signed(prepared.reason), shared)
        return self._sent(prepared, shared, repeated=repeated)

    def _go_on(self, input: Awaited, now: float, shared: Shared) -> OperationStep[ResultT]:  # noqa: A002
        current = self._understood(input, now, shared)
        kept = kept_headers(input.response, self.client) if isinstance(input, ResponseReceived) else None
        if not kept:
            return current
        if current.error is not None:
            # It was made in this step, and nobody else has it yet.
            current.error.answer_headers = kept
        return evolve(current, events=(*current.events, AnswerHeaders(kept)))

    def _understood(self, input: Awaited, now: float, shared: Shared) -> OperationStep[ResultT]:  # noqa: A002
        awaited = self.keys_awaited
        noted: list[ProviderDeviation] = []
        match input:
            case ResponseReceived() | RequestFailed() if awaited is not None:
                found, shared = awaited.search.fetched(
                    awaited.untrusted.jwt, shared, now, client=self.client, outcome=input, noted=noted
                )
                return self._searched(found, awaited.untrusted, now, shared, noted)
            case ResponseReceived() | RequestFailed():
                return self._answered(input, now, shared)
            case TimerFired(deadline) if awaited is not None:
                waited = awaited.search.waited(awaited.untrusted.jwt, shared, now, until=deadline)
                return self._searched(waited, awaited.untrusted, now, shared, noted)
            case TimerFired():
                return self._finished(_not_signed("it was not signed in time"), shared)
            case SignaturesMade():
                return self._signed(input.signatures, now, shared)
            case SigningFailed(reason=reason):
                return self._finished(_not_signed(reason), shared)
            case _:
                assert_never(input)

    def _signed(self, signatures: tuple[bytes, ...], now: float, shared: Shared) -> OperationStep[ResultT]:
        draft = self.progress.in_flight
        assert isinstance(draft, Draft)  # noqa: S101  # its signatures were awaited; for the type checker
        request = self._maker(draft.id, now, shared).signed_post(draft, signatures)
        if isinstance(request, NotSigned):
            return self._finished(_not_signed(request.reason), shared)
        return self._sent(request, shared)

    def _cancelled(self) -> CibaError:
        if self.keys_awaited is not None:
            return self.keys_awaited.untrusted.keys_unavailable(CANCELLED)
        return _not_signed(CANCELLED) if isinstance(self.progress.in_flight, Draft) else self._lost(CANCELLED)

    def _answered(
        self,
        input: ResponseReceived | RequestFailed,  # noqa: A002
        now: float,
        shared: Shared,
    ) -> OperationStep[ResultT]:
        request = self.progress.in_flight
        assert isinstance(request, HttpRequest)  # noqa: S101  # its answer was awaited; for the type checker
        if isinstance(input, RequestFailed):
            if input.delivery is Delivery.NOT_SENT:
                error = RequestNotSent("the request could not be sent", reason=input.reason)
                return self._finished(error, shared)
            return self._finished(self._lost(input.reason), shared)
        proven = any(name == "DPoP" for name, _ in request.headers)
        shared = with_nonce(shared, request.url, input.response)
        noted: list[ProviderDeviation] = []
        outcome = self._decode(input.response, now, noted)
        if proven and isinstance(outcome, ErrorResponse) and outcome.error == "use_dpop_nonce":
            if supplied_nonce(input.response) is None:
                broken = violation(outcome.endpoint, "DPoP-Nonce is missing or malformed", "RFC 9449 8")
                return self._finished(broken, shared)
            if not self.repeated:
                return self._begin(now, shared, repeated=True)
        if isinstance(outcome, (Done, CibaError)):
            return self._finished(outcome, shared, *noted)
        found = KeySearch.begin(outcome.jwt, shared, now, jwks_uri=self.provider.jwks_uri, give_up_at=now)
        return self._searched(found, outcome, now, shared, noted)

    def _searched(
        self,
        found: Opened | BrokenRule | Fetch | Wait | Unavailable,
        untrusted: Unvalidated[ResultT],
        now: float,
        shared: Shared,
        noted: list[ProviderDeviation],
    ) -> OperationStep[ResultT]:
        match found:
            case Opened():
                # This adds to `noted`: it comes before that is handed on.
                verdict = untrusted.validate(found, now, noted)
                return self._finished(verdict, shared, *noted)
            case BrokenRule():
                return self._finished(untrusted.rejected(found), shared, *noted)
            case Unavailable(reason):
                return self._finished(untrusted.keys_unavailable(reason), shared, *noted)
            case Wait(search, until):
                after = evolve(
                    self, progress=self.progress.waiting(until), keys_awaited=_KeysAwaited(untrusted, search)
                )
                return OperationStep(after, shared=shared, events=tuple(noted))
            case Fetch(search):
                request = self._maker(self.progress.last + 1, now, shared).keys()
                return self._sent(request, shared, *noted, keys_awaited=_KeysAwaited(untrusted, search))
            case _:
                assert_never(found)

    def _finished(
        self, outcome: Done[ResultT] | CibaError, shared: Shared, *events: ProviderDeviation, **changes: Any
    ) -> OperationStep[ResultT]:
        return super()._finished(outcome, shared, *events, keys_awaited=None, **changes)


def _not_signed(reason: str) -> RequestNotSent:
    return RequestNotSent("the request could not be signed", reason=reason)


def check_bound(tokens: TokenResponse) -> None:
    """Raise `LocalProtocolError` where the key is missing that the access token is bound to."""
    if tokens.token_type.lower() == "dpop" and tokens.dpop_key is None:
        raise LocalProtocolError("tokens: dpop_key is missing, to which the access token is bound")
