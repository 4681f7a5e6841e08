"""The two loops, sync and async, that every adapter shares, and the clients made of them.

An adapter brings a transport: how its HTTP stack sends one request and, where it is async, how it waits. All
decisions are the core's. The loops differ in ``await`` alone; fifteen lines written twice are clearer than
any way to write them once.
"""

from __future__ import annotations

import contextlib
import copy
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, Protocol, Self, TypeVar, cast

from ciba_adapters._cancellation import Cancellation
from ciba_adapters._login import AsyncLogin, SyncLogin
from ciba_adapters._time_limit import within
from ciba_core import (
    AuthenticationRequest,
    Begin,
    Cancel,
    ClientConfig,
    Delivery,
    Discovery,
    Draft,
    Guarded,
    HttpRequest,
    HttpResponse,
    Input,
    MetadataDocument,
    Notification,
    NotificationReceived,
    Operation,
    OperationInput,
    OperationStep,
    ProviderMetadata,
    Refresh,
    RemoteSigner,
    RequestFailed,
    ResponseReceived,
    Resumed,
    Revocation,
    Secret,
    SignaturesMade,
    SigningFailed,
    Step,
    TimerFired,
    TokenResponse,
    Transaction,
    UnsignedJwt,
    UserInfo,
    step,
)
from ciba_core.errors import LocalProtocolError, TransportError
from ciba_core.events import Event
from ciba_core.shared import NOTHING_SHARED
from ciba_core.states import Pending

if TYPE_CHECKING:
    from ciba_adapters.notification import Held, NotificationEndpoint

__all__ = [
    "AsyncClient",
    "AsyncTransport",
    "Cancellation",
    "Clock",
    "SendFailed",
    "SyncClient",
    "SyncTransport",
]

HttpT = TypeVar("HttpT")
SignT = TypeVar("SignT")
Sign = Callable[[RemoteSigner, bytes], bytes]
AsyncSign = Callable[[RemoteSigner, bytes], Awaitable[bytes]]
ResultT = TypeVar("ResultT")
TokenTypeHint = Literal["access_token", "refresh_token"]


class SendFailed(Exception):
    """An exchange brought no complete answer.

    `reason` is a short name without secrets, such as the class name of the stack's own exception.
    """

    def __init__(self, delivery: Delivery, reason: str) -> None:
        super().__init__(reason)
        self.delivery = delivery
        self.reason = reason


class SyncTransport(Protocol):
    """What the sync loop needs of an HTTP stack."""

    def send(self, request: HttpRequest) -> HttpResponse:
        """Send the request as it stands and return the answer, or raise `SendFailed`."""
        ...


class AsyncTransport(Protocol):
    """What the async loop needs of an HTTP stack."""

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send the request as it stands and return the answer, or raise `SendFailed`."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; cancellable by the means of the event loop."""
        ...


class Clock(Protocol):
    """Where a client takes the time from, for tests in virtual time.

    `ciba_core.testing.VirtualClock` is one. Its `sleep` lets the time pass and returns at once.
    """

    def time(self) -> float:
        """Return the wall clock in POSIX seconds."""
        ...

    def monotonic(self) -> float:
        """Return seconds from any origin that never go back."""
        ...

    def sleep(self, seconds: float, /, until: Callable[[], bool] | None = None) -> None:
        """Let that many seconds pass, or fewer if something happens on the way that makes `until` true."""
        ...


class _Client(ABC, Generic[HttpT, SignT]):
    """What the sync and the async client have in common.

    Args:
        provider: the provider's metadata.
        client: the client's configuration.
        http: the session of the HTTP stack. It stays the caller's: proxies, certificates and pools are set up
            there, and closing it is the caller's business.
        sign: signs with a key that is not in the process: takes the `RemoteSigner` and the octets and returns
            the signature (for the async clients, something to await for it). Needed only where the client's
            configuration names a `RemoteSigner`. Signatures that take longer than the ``lifetime`` of the
            JWT are of no use: the async clients cancel the call then. The sync ones cannot interrupt it: let
            it give up by itself well before.
        endpoint: where the provider's callbacks come in; needed in push mode, and in ping mode unless
            `PollingPolicy.beside_ping` is set. One can serve many clients.
        clock: virtual time, for tests.

    Raises:
        LocalProtocolError: the client's delivery mode needs an `endpoint`, and there is none.

    """

    def __init__(
        self,
        provider: ProviderMetadata,
        client: ClientConfig,
        *,
        http: HttpT,
        sign: SignT | None = None,
        endpoint: NotificationEndpoint | None = None,
        clock: Clock | None = None,
    ) -> None:
        mode = client.backchannel_token_delivery_mode
        if endpoint is None and mode != "poll" and not (mode == "ping" and client.polling.beside_ping):
            raise LocalProtocolError(f"endpoint: a client in {mode} mode needs a NotificationEndpoint")
        self._sign = sign
        self._endpoint = endpoint
        self.provider = provider
        self.client = client
        self._transport = self._connect(http)
        self._clock = clock
        self._shared = NOTHING_SHARED
        self._time = time.time if clock is None else clock.time
        self._monotonic = time.monotonic if clock is None else clock.monotonic

    @staticmethod
    @abstractmethod
    def _connect(http: HttpT) -> Any:
        """Return the transport for a session."""

    def _start(self, what: AuthenticationRequest | Transaction, now: float) -> Step:
        if isinstance(what, Transaction):
            return self._step(what, Resumed(), now)
        return self._step(Transaction(client=self.client, provider=self.provider), Begin(what), now)

    def _step(self, transaction: Transaction, happened: Input, now: float) -> Step:
        # Calls in other threads and tasks read and replace the same value. Where two meet, one of the news is
        # lost, which costs a request later and nothing else.
        current = step(transaction, happened, now, self._shared)
        self._shared = current.shared
        return current

    def _hold(self, current: Step) -> Held | None:
        """Take callbacks from now on: the provider can be quicker with one than with its acknowledgement."""
        if self._endpoint is None or current.transaction.client_notification_token is None:
            return None
        return self._endpoint.hold(current.transaction, shared=self._shared)

    def _begin(self, operation: Operation[ResultT], now: float) -> OperationStep[ResultT]:
        return self._took(operation.start(now, self._shared))

    def _proceed(
        self, operation: Operation[ResultT], happened: OperationInput, now: float
    ) -> OperationStep[ResultT]:
        return self._took(operation.proceed(happened, now, self._shared))

    def _took(self, current: OperationStep[ResultT]) -> OperationStep[ResultT]:
        self._shared = current.shared
        return current

    def _refresh(self, tokens: TokenResponse, scope: str | None) -> Refresh:
        return Refresh(tokens, scope=scope, client=self.client, provider=self.provider)

    def _revocation(
        self, what: Secret | TokenResponse | Guarded[TokenResponse], token_type_hint: TokenTypeHint | None
    ) -> Revocation:
        if isinstance(what, Secret):
            return Revocation(
                what, token_type_hint=token_type_hint, client=self.client, provider=self.provider
            )
        return Revocation.of(what, client=self.client, provider=self.provider)

    def _userinfo(self, tokens: TokenResponse) -> UserInfo:
        return UserInfo(tokens, client=self.client, provider=self.provider)

    def transaction_from_json(self, text: str, *, secrets: str | None = None) -> Transaction:
        """Restore a stored transaction of this client; see `Transaction.from_json`."""
        return Transaction.from_json(text, client=self.client, provider=self.provider, secrets=secrets)


def _input(
    request: HttpRequest, outcome: HttpResponse | SendFailed, elapsed: float
) -> ResponseReceived | RequestFailed:
    if isinstance(outcome, SendFailed):
        return RequestFailed(request.id, outcome.delivery, outcome.reason, elapsed)
    return ResponseReceived(request.id, outcome, elapsed)


def _need(sign: SignT | None) -> SignT:
    if sign is None:
        raise LocalProtocolError("sign: the client has a RemoteSigner, and nothing to sign with was given")
    return sign


def _remote(jwt: UnsignedJwt) -> RemoteSigner:
    assert isinstance(jwt.signer, RemoteSigner)  # noqa: S101  # all of a draft; for the type checker
    return jwt.signer


def _raise(transaction: Transaction) -> NoReturn:
    # The value in the state is raised as a copy: a traceback sticks to what was raised.
    error = transaction.error
    assert error is not None  # noqa: S101  # every end without tokens has one; for the type checker
    raise copy.copy(error)


def _tokens(transaction: Transaction) -> TokenResponse:
    return transaction.tokens or _raise(transaction)


def _deadline(operation: Operation[Any]) -> float:
    assert operation.deadline is not None  # noqa: S101  # else it is finished; for the type checker
    return operation.deadline


def _result(finished: OperationStep[ResultT]) -> ResultT:
    if finished.error is not None:
        raise copy.copy(finished.error)
    return cast("ResultT", finished.result)


def _not_fetched(failure: SendFailed) -> TransportError:
    return TransportError("the provider's metadata could not be fetched", reason=failure.reason)


class SyncClient(_Client[HttpT, Sign], SyncLogin):
    """A CIBA client that blocks its thread; one per provider. Calls from several threads are independent."""

    _transport: SyncTransport

    @classmethod
    def discover(
        cls,
        issuer: str,
        client: ClientConfig,
        *,
        http: HttpT,
        allow_loopback_http: bool = False,
        sign: Sign | None = None,
        endpoint: NotificationEndpoint | None = None,
        clock: Clock | None = None,
    ) -> Self:
        """Fetch the provider's metadata and return a client for it.

        Raises:
            LocalProtocolError: the issuer is not an ``https`` URL.
            RemoteProtocolError: the metadata breaks a rule, or the provider does not support CIBA.
            TransportError: the metadata could not be fetched.

        """
        document = cls.fetch_metadata(issuer, client, http=http, allow_loopback_http=allow_loopback_http)
        return cls(document.provider(), client, http=http, sign=sign, endpoint=endpoint, clock=clock)

    @classmethod
    def fetch_metadata(
        cls, issuer: str, client: ClientConfig, *, http: HttpT, allow_loopback_http: bool = False
    ) -> MetadataDocument:
        """Fetch the provider's whole metadata document; raises as `discover` does."""
        transport: SyncTransport = cls._connect(http)
        current: Discovery | MetadataDocument = _discovery(issuer, client, allow_loopback_http)
        while isinstance(current, Discovery):
            try:
                outcome: HttpResponse | SendFailed = transport.send(current.request)
            except SendFailed as failure:
                outcome = failure
            if isinstance(outcome, SendFailed):
                raise _not_fetched(outcome)
            current = current.answered(outcome, time.time())
        return current

    def steps(
        self, start: AuthenticationRequest | Transaction, *, cancellation: Cancellation | None = None
    ) -> Iterator[Step]:
        """Begin, or resume, and yield each step **before** acting on it.

        Store ``step.transaction`` when it comes, and a crash at any point loses nothing. Stop iterating to
        give up.

        Raises:
            LocalProtocolError: the request does not fit the provider; nothing was sent.

        """
        now = self._time()
        current = self._start(start, now)
        held = self._hold(current)
        with contextlib.nullcontext() if held is None else contextlib.closing(held):
            yield current
            while not current.transaction.is_finished:
                if held is not None:
                    held.update(current)
                happened = self._act(current, now, cancellation, held)
                now = self._time()
                current = self._step(current.transaction, happened, now)
                yield current
            if held is not None:
                held.update(current)

    def _act(self, current: Step, now: float, cancellation: Cancellation | None, held: Held | None) -> Input:
        if current.draft is not None:
            made = self._signatures(current.draft)
            return made if cancellation is None or not cancellation.cancelled else Cancel()
        if current.request is not None:
            before = self._monotonic()
            outcome = self._send(current.request, cancellation)
            if outcome is None:
                return Cancel()
            return _input(current.request, outcome, self._monotonic() - before)
        deadline = current.transaction.deadline
        if deadline is None:
            raise LocalProtocolError("nothing is under way in this transaction: it was never begun")
        notification = self._wait(max(deadline - now, 0.0), cancellation or Cancellation(), held)
        if cancellation is not None and cancellation.cancelled:
            return Cancel()
        return TimerFired(deadline) if notification is None else NotificationReceived(notification)

    def _wait(self, seconds: float, cancellation: Cancellation, held: Held | None) -> Notification | None:
        if self._clock is not None:
            self._clock.sleep(seconds, None if held is None else held.ready)
            seconds = 0.0
        if held is not None:
            return held.wait(seconds, cancellation)
        cancellation.wait(seconds)
        return None

    def _signatures(self, draft: Draft) -> SignaturesMade | SigningFailed:
        sign = _need(self._sign)
        try:
            made = tuple(sign(_remote(jwt), jwt.octets) for jwt in draft.jwts)
        except Exception as error:  # noqa: BLE001  # whatever the embedder's service raises
            return SigningFailed(draft.id, type(error).__name__)
        return SignaturesMade(draft.id, made)

    def _send(
        self, request: HttpRequest, cancellation: Cancellation | None
    ) -> HttpResponse | SendFailed | None:
        if cancellation is None:
            return self._exchange(request)
        return cancellation.call(lambda: self._exchange(request))

    def _exchange(self, request: HttpRequest) -> HttpResponse | SendFailed:
        try:
            return self._transport.send(request)
        except SendFailed as failure:
            return failure

    def run(
        self, start: AuthenticationRequest | Transaction, *, cancellation: Cancellation | None = None
    ) -> Iterator[Event]:
        """Begin, or resume, and yield what happens; outcomes are events, not exceptions.

        In push mode iterate to the end: the provider hears that its tokens were taken when the step after
        them is asked for.
        """
        for current in self.steps(start, cancellation=cancellation):
            yield from current.events

    def initiate(
        self, request: AuthenticationRequest, *, cancellation: Cancellation | None = None
    ) -> Transaction:
        """Send the authentication request and return the pending transaction, to be stored or resumed.

        Raises:
            CibaError: the provider refused it, or its acknowledgement did not arrive; see `ciba_core.errors`.

        """
        transaction = None
        for current in self.steps(request, cancellation=cancellation):
            transaction = current.transaction
            if isinstance(transaction.state, Pending):
                return transaction
        assert transaction is not None  # noqa: S101  # there is a first step; for the type checker
        _raise(transaction)

    def resume(self, transaction: Transaction, *, cancellation: Cancellation | None = None) -> TokenResponse:
        """Go on with a transaction until its end; returns and raises as `authenticate` does."""
        return self._finish(transaction, cancellation)

    def authenticate(
        self, request: AuthenticationRequest, *, cancellation: Cancellation | None = None
    ) -> TokenResponse:
        """Ask the user and wait for the decision.

        Raises:
            CibaError: any other end: `AccessDenied`, `AuthenticationExpired`, a refusal, a fault; see
                `ciba_core.errors`.

        """
        return self._finish(request, cancellation)

    def _finish(
        self, start: AuthenticationRequest | Transaction, cancellation: Cancellation | None
    ) -> TokenResponse:
        *_, last = self.steps(start, cancellation=cancellation)
        return _tokens(last.transaction)

    def refresh(self, tokens: TokenResponse, *, scope: str | None = None) -> TokenResponse:
        """Get new tokens for the refresh token (RFC 6749 6); see `ciba_core.Refresh`.

        Store the result at once: it replaces `tokens`, and the old refresh token may be used up.

        Args:
            tokens: those to refresh.
            scope: ask for less than was granted.

        Raises:
            LocalProtocolError: there is no refresh token, or `scope` goes beyond what was granted.
            InvalidGrant: the refresh token is no longer good; authenticate anew.
            RefreshLost: the answer was lost, and with it the next refresh token, perhaps.
            CibaError: any other failure; see `ciba_core.errors`.

        """
        return self._operate(self._refresh(tokens, scope))

    def revoke(
        self,
        what: Secret | TokenResponse | Guarded[TokenResponse],
        *,
        token_type_hint: TokenTypeHint | None = None,
    ) -> None:
        """Revoke a token (RFC 7009).

        Args:
            what: one token; or tokens, of which the refresh token is revoked or, where there is none, the
                access token. Those of `TokensRejected.untrusted` too.
            token_type_hint: what kind of token `what` is, where it is a `Secret`.

        Raises:
            LocalProtocolError: the provider has no revocation endpoint.
            CibaError: the token was not revoked, or the answer was lost: try again.

        """
        self._operate(self._revocation(what, token_type_hint))

    def userinfo(self, tokens: TokenResponse) -> Mapping[str, Any]:
        """Ask for claims about the user (OpenID Connect Core 5.3), and return them read-only.

        Raises:
            LocalProtocolError: the provider has no UserInfo endpoint, or the tokens came without ID Token.
            InvalidToken: the access token is no longer good.
            CibaError: any other failure; see `ciba_core.errors`.

        """
        return self._operate(self._userinfo(tokens))

    def _operate(self, operation: Operation[ResultT]) -> ResultT:
        now = self._time()
        current = self._begin(operation, now)
        while not current.is_finished:
            happened: OperationInput
            if current.draft is not None:
                happened = self._signatures(current.draft)
            elif current.request is not None:
                before = self._monotonic()
                outcome = self._exchange(current.request)
                happened = _input(current.request, outcome, self._monotonic() - before)
            else:
                deadline = _deadline(current.operation)
                self._wait(max(deadline - now, 0.0), Cancellation(), None)
                happened = TimerFired(deadline)
            now = self._time()
            current = self._proceed(current.operation, happened, now)
        return _result(current)


class AsyncClient(_Client[HttpT, AsyncSign], AsyncLogin):
    """A CIBA client for an event loop. Use one per provider; any number of calls may run side by side.

    Cancel a call by the means of the event loop: the wait ends at once and the connection is closed.
    """

    _transport: AsyncTransport

    @classmethod
    async def discover(
        cls,
        issuer: str,
        client: ClientConfig,
        *,
        http: HttpT,
        allow_loopback_http: bool = False,
        sign: AsyncSign | None = None,
        endpoint: NotificationEndpoint | None = None,
        clock: Clock | None = None,
    ) -> Self:
        """Fetch the provider's metadata and return a client for it.

        Raises:
            LocalProtocolError: the issuer is not an ``https`` URL.
            RemoteProtocolError: the metadata breaks a rule, or the provider does not support CIBA.
            TransportError: the metadata could not be fetched.

        """
        document = await cls.fetch_metadata(
            issuer, client, http=http, allow_loopback_http=allow_loopback_http
        )
        return cls(document.provider(), client, http=http, sign=sign, endpoint=endpoint, clock=clock)

    @classmethod
    async def fetch_metadata(
        cls, issuer: str, client: ClientConfig, *, http: HttpT, allow_loopback_http: bool = False
    ) -> MetadataDocument:
        """Fetch the provider's whole metadata document; raises as `discover` does."""
        transport: AsyncTransport = cls._connect(http)
        current: Discovery | MetadataDocument = _discovery(issuer, client, allow_loopback_http)
        while isinstance(current, Discovery):
            try:
                outcome: HttpResponse | SendFailed = await transport.send(current.request)
            except SendFailed as failure:
                outcome = failure
            if isinstance(outcome, SendFailed):
                raise _not_fetched(outcome)
            current = current.answered(outcome, time.time())
        return current

    async def steps(self, start: AuthenticationRequest | Transaction) -> AsyncGenerator[Step, None]:
        """Begin, or resume, and yield each step **before** acting on it.

        Store ``step.transaction`` when it comes, and a crash at any point loses nothing. Stop iterating to
        give up, within ``contextlib.aclosing()``: trio warns of an async generator that was left half-way.

        Raises:
            LocalProtocolError: the request does not fit the provider; nothing was sent.

        """
        now = self._time()
        current = self._start(start, now)
        held = self._hold(current)
        with contextlib.nullcontext() if held is None else contextlib.closing(held):
            yield current
            while not current.transaction.is_finished:
                if held is not None:
                    held.update(current)
                happened = await self._act(current, now, held)
                now = self._time()
                current = self._step(current.transaction, happened, now)
                yield current
            if held is not None:
                held.update(current)

    async def _act(self, current: Step, now: float, held: Held | None) -> Input:
        deadline = current.transaction.deadline
        if current.draft is not None:
            made = await self._signatures(current.draft, deadline, now)
            if made is not None:
                return made
            assert deadline is not None  # noqa: S101  # nothing else ends the wait; for the type checker
            return TimerFired(deadline)
        if current.request is not None:
            before = self._monotonic()
            outcome = await self._exchange(current.request)
            return _input(current.request, outcome, self._monotonic() - before)
        if deadline is None:
            raise LocalProtocolError("nothing is under way in this transaction: it was never begun")
        notification = await self._wait(max(deadline - now, 0.0), held)
        return TimerFired(deadline) if notification is None else NotificationReceived(notification)

    async def _wait(self, seconds: float, held: Held | None) -> Notification | None:
        if self._clock is not None:
            self._clock.sleep(seconds, None if held is None else held.ready)
            seconds = 0.0
        if held is not None:
            return await held.wait_async(seconds)
        await self._transport.sleep(seconds)
        return None

    async def _exchange(self, request: HttpRequest) -> HttpResponse | SendFailed:
        try:
            return await self._transport.send(request)
        except SendFailed as failure:
            return failure

    async def _signatures(
        self, draft: Draft, deadline: float | None, now: float
    ) -> SignaturesMade | SigningFailed | None:
        """Have a draft signed, or return ``None`` if that takes until the deadline."""
        sign = _need(self._sign)

        async def all_of_them() -> SignaturesMade | SigningFailed:
            try:
                made = tuple([await sign(_remote(jwt), jwt.octets) for jwt in draft.jwts])
            except Exception as error:  # noqa: BLE001  # whatever the embedder's service raises
                return SigningFailed(draft.id, type(error).__name__)
            return SignaturesMade(draft.id, made)

        if deadline is None:
            return await all_of_them()
        return await within(max(deadline - now, 0.0), all_of_them)

    async def run(self, start: AuthenticationRequest | Transaction) -> AsyncGenerator[Event, None]:
        """Begin, or resume, and yield what happens; outcomes are events, not exceptions.

        In push mode iterate to the end: the provider hears that its tokens were taken when the step after
        them is asked for. To stop early, iterate within ``contextlib.aclosing()``, as for `steps`.
        """
        async with contextlib.aclosing(self.steps(start)) as steps:
            async for current in steps:
                for event in current.events:
                    yield event

    async def initiate(self, request: AuthenticationRequest) -> Transaction:
        """Send the authentication request and return the pending transaction, to be stored or resumed.

        Raises:
            CibaError: the provider refused it, or its acknowledgement did not arrive; see `ciba_core.errors`.

        """
        transaction = None
        async with contextlib.aclosing(self.steps(request)) as steps:
            async for current in steps:
                transaction = current.transaction
                if isinstance(transaction.state, Pending):
                    return transaction
        assert transaction is not None  # noqa: S101  # there is a first step; for the type checker
        _raise(transaction)

    async def resume(self, transaction: Transaction) -> TokenResponse:
        """Go on with a transaction until its end; returns and raises as `authenticate` does."""
        return await self._finish(transaction)

    async def authenticate(self, request: AuthenticationRequest) -> TokenResponse:
        """Ask the user and wait for the decision.

        Raises:
            CibaError: any other end: `AccessDenied`, `AuthenticationExpired`, a refusal, a fault; see
                `ciba_core.errors`.

        """
        return await self._finish(request)

    async def _finish(self, start: AuthenticationRequest | Transaction) -> TokenResponse:
        last = None
        async for current in self.steps(start):
            last = current.transaction
        assert last is not None  # noqa: S101  # there is a first step; for the type checker
        return _tokens(last)

    async def refresh(self, tokens: TokenResponse, *, scope: str | None = None) -> TokenResponse:
        """Get new tokens for the refresh token (RFC 6749 6); see `ciba_core.Refresh`.

        Store the result at once: it replaces `tokens`, and the old refresh token may be used up.

        Args:
            tokens: those to refresh.
            scope: ask for less than was granted.

        Raises:
            LocalProtocolError: there is no refresh token, or `scope` goes beyond what was granted.
            InvalidGrant: the refresh token is no longer good; authenticate anew.
            RefreshLost: the answer was lost, and with it the next refresh token, perhaps.
            CibaError: any other failure; see `ciba_core.errors`.

        """
        return await self._operate(self._refresh(tokens, scope))

    async def revoke(
        self,
        what: Secret | TokenResponse | Guarded[TokenResponse],
        *,
        token_type_hint: TokenTypeHint | None = None,
    ) -> None:
        """Revoke a token (RFC 7009).

        Args:
            what: one token; or tokens, of which the refresh token is revoked or, where there is none, the
                access token. Those of `TokensRejected.untrusted` too.
            token_type_hint: what kind of token `what` is, where it is a `Secret`.

        Raises:
            LocalProtocolError: the provider has no revocation endpoint.
            CibaError: the token was not revoked, or the answer was lost: try again.

        """
        await self._operate(self._revocation(what, token_type_hint))

    async def userinfo(self, tokens: TokenResponse) -> Mapping[str, Any]:
        """Ask for claims about the user (OpenID Connect Core 5.3), and return them read-only.

        Raises:
            LocalProtocolError: the provider has no UserInfo endpoint, or the tokens came without ID Token.
            InvalidToken: the access token is no longer good.
            CibaError: any other failure; see `ciba_core.errors`.

        """
        return await self._operate(self._userinfo(tokens))

    async def _operate(self, operation: Operation[ResultT]) -> ResultT:
        now = self._time()
        current = self._begin(operation, now)
        while not current.is_finished:
            happened: OperationInput
            if current.draft is not None:
                draft = current.draft
                made = await self._signatures(draft, draft.expires_at, self._time())
                happened = made or SigningFailed(draft.id, "it was not signed in time")
            elif current.request is not None:
                before = self._monotonic()
                outcome = await self._exchange(current.request)
                happened = _input(current.request, outcome, self._monotonic() - before)
            else:
                deadline = _deadline(current.operation)
                await self._wait(max(deadline - now, 0.0), None)
                happened = TimerFired(deadline)
            now = self._time()
            current = self._proceed(current.operation, happened, now)
        return _result(current)


def _discovery(issuer: str, client: ClientConfig, allow_loopback_http: bool) -> Discovery:
    return Discovery(
        issuer,
        allow_loopback_http=allow_loopback_http,
        limits=client.limits,
        connect_timeout=client.connect_timeout,
        timeout=client.timeout,
    )
