"""The async client: the core's loop, in a task of asyncio or trio.

`_sync.py` tells why it is written twice.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

from ciba_adapters._client import (
    Client,
    Driver,
    HttpT,
    ResultT,
    TokenTypeHint,
    discovery,
    error_of,
    input_of,
    need,
    remote_signer,
    result_of,
    tokens_of,
)
from ciba_adapters._knowledge import ProviderKnowledge
from ciba_adapters._login import AsyncLogin
from ciba_adapters._pace import Stopwatch, Wait
from ciba_adapters._time_limit import within
from ciba_adapters.transport import AsyncTransport, Clock, SendFailed
from ciba_core import (
    AuthenticationRequest,
    ClientConfig,
    Draft,
    Guarded,
    HttpRequest,
    HttpResponse,
    Input,
    MetadataDocument,
    Notification,
    NotificationReceived,
    Operation,
    OperationStep,
    Purpose,
    RemoteSigner,
    RequestFailed,
    ResponseReceived,
    Secret,
    SignaturesMade,
    SigningFailed,
    Step,
    TimerFired,
    TokenResponse,
    Transaction,
)
from ciba_core.errors import LocalProtocolError
from ciba_core.events import Event
from ciba_core.states import AwaitingCallback, Pending

if TYPE_CHECKING:
    from ciba_adapters.notification import Held, NotificationEndpoint

__all__ = ["AsyncClient", "send", "signatures"]

AsyncSign = Callable[[RemoteSigner, bytes], Awaitable[bytes]]


class AsyncDriver(Driver[AsyncTransport, AsyncSign]):
    """Acts on steps of transactions and operations, in a task."""

    async def _act(self, current: Step | OperationStep[Any], wait: Wait, held: Held | None = None) -> Input:
        """Do what a step asks for, and return the outcome; `wait` is the wait for its deadline."""
        deadline = current.deadline
        happened = await self._attend(current, None if deadline is None else wait.left)
        if happened is not None:
            return happened
        if deadline is None:
            raise LocalProtocolError("nothing is under way in this transaction: it was never begun")
        notification = await self._sit_out(wait, held)
        return TimerFired(deadline) if notification is None else NotificationReceived(notification)

    async def _attend(
        self, current: Step | OperationStep[Any], seconds: float | None
    ) -> SignaturesMade | SigningFailed | ResponseReceived | RequestFailed | TimerFired | None:
        """Have the draft of a step signed, or send its request; ``None`` if it has neither.

        The signatures are of use for `seconds`. If they do not come in time, the wait for them ends.
        """
        if current.draft is not None:
            made = await self._signatures(current.draft, seconds)
            if made is not None:
                return made
            deadline = current.deadline
            assert deadline is not None  # noqa: S101  # nothing else ends the wait; for the type checker
            return TimerFired(deadline)
        return None if current.request is None else await self._send(current.request)

    async def _sit_out(self, wait: Wait, held: Held | None) -> Notification | None:
        """Wait until the wait is over, or a callback comes."""
        while True:
            seconds = wait.left
            nap = min(seconds, self._nap)
            notification = await self._wait(nap, held)
            if notification is not None or seconds <= nap:
                return notification

    async def _operate(self, operation: Operation[ResultT]) -> ResultT:
        now = self._time()
        current = self._begin(operation, now)
        while not current.is_finished:
            happened = await self._act(current, self._wait_for(current.deadline, now))
            now = self._time()
            current = self._proceed(current, happened, now)
        return result_of(current)

    async def _wait(self, seconds: float, held: Held | None) -> Notification | None:
        if self._clock is not None:
            self._clock.sleep(seconds, None if held is None else held.ready)
            seconds = 0.0
        if held is not None:
            return await held.wait_async(seconds)
        await self._transport.sleep(seconds)
        return None

    async def _send(self, request: HttpRequest) -> ResponseReceived | RequestFailed:
        while request.purpose is Purpose.KEYS:
            fetch, is_mine = self._knowledge.fetch(request.url)
            if is_mine:
                with fetch:
                    fetch.outcome = await self._exchanged(request)
                return fetch.outcome
            await fetch.wait_async(request.timeout)
            outcome = fetch.outcome_for(request)
            if outcome is not None:
                return outcome
        return await self._exchanged(request)

    async def _exchanged(self, request: HttpRequest) -> ResponseReceived | RequestFailed:
        stopwatch = Stopwatch(self._monotonic)
        with stopwatch.running():
            outcome = await _exchange(self._transport, request)
        return input_of(request, outcome, stopwatch.elapsed)

    async def _signatures(self, draft: Draft, seconds: float | None) -> SignaturesMade | SigningFailed | None:
        """Have a draft signed, or return ``None`` if that takes longer than `seconds`."""
        sign = need(self._sign)

        async def all_of_them() -> SignaturesMade | SigningFailed:
            try:
                made = tuple([await sign(remote_signer(jwt), jwt.octets) for jwt in draft.jwts])
            except Exception as error:  # noqa: BLE001  # whatever the embedder's service raises
                return SigningFailed(draft.id, type(error).__name__)
            return SignaturesMade(draft.id, made)

        if seconds is None:
            return await all_of_them()
        return await within(seconds, all_of_them)


class AsyncClient(Client[HttpT, AsyncTransport, AsyncSign], AsyncDriver, AsyncLogin):
    """A CIBA client for an event loop. Use one per provider; any number of calls may run side by side.

    The event loop can cancel any call: a wait ends at once, and the connection of a request under way is
    closed. The result of the call is lost then: after a cancelled `refresh`, the refresh token may be used
    up.
    """

    @classmethod
    async def discover(
        cls,
        issuer: str,
        client: ClientConfig,
        *,
        http: HttpT,
        metadata_url: str | None = None,
        expected_issuer: str | None = None,
        allow_loopback_http: bool = False,
        sign: AsyncSign | None = None,
        endpoint: NotificationEndpoint | None = None,
        knowledge: ProviderKnowledge | None = None,
        clock: Clock | None = None,
    ) -> Self:
        """Fetch the provider's metadata and return a client for it.

        Args:
            issuer: the provider's.
            client: the client's configuration.
            http: see the class.
            metadata_url: URL of the document, if it is not where the standards put it. The issuer in the
                document has to be `issuer` even so.
            expected_issuer: the exact ``iss`` of ID Tokens, if that is not `issuer`.
            allow_loopback_http: accept plain ``http`` on loopback.
            sign: see the class.
            endpoint: see the class.
            knowledge: see the class.
            clock: see the class.

        Raises:
            LocalProtocolError: the issuer is not an ``https`` URL.
            RemoteProtocolError: the metadata breaks a rule, or the provider does not support CIBA.
            TransportError: the metadata could not be fetched.

        """
        document = await cls.fetch_metadata(
            issuer,
            client,
            http=http,
            metadata_url=metadata_url,
            allow_loopback_http=allow_loopback_http,
            clock=clock,
        )
        provider = document.provider(expected_issuer=expected_issuer)
        return cls(
            provider, client, http=http, sign=sign, endpoint=endpoint, knowledge=knowledge, clock=clock
        )

    @classmethod
    async def fetch_metadata(
        cls,
        issuer: str,
        client: ClientConfig,
        *,
        http: HttpT,
        metadata_url: str | None = None,
        allow_loopback_http: bool = False,
        clock: Clock | None = None,
    ) -> MetadataDocument:
        """Fetch the provider's whole metadata document; raises as `discover` does."""
        driver = AsyncDriver(cls.make_transport(http), clock=clock)
        return await driver._operate(discovery(issuer, client, metadata_url, allow_loopback_http))  # noqa: SLF001  # of this module

    async def steps(self, start: AuthenticationRequest | Transaction) -> AsyncGenerator[Step, None]:
        """Begin, or resume, and yield each step **before** acting on it.

        Store ``step.transaction`` when it comes, and a crash at any point loses nothing. Stop iterating to
        give up, within ``contextlib.aclosing()``: trio warns of an async generator that was left half-way.

        Raises:
            LocalProtocolError: the request does not fit the provider; nothing was sent.

        """
        now = self._time()
        current = self._start(start, now)
        wait = self._wait_for(current.deadline, now)
        held = self._hold(current)
        with contextlib.nullcontext() if held is None else contextlib.closing(held):
            yield current
            while not current.is_finished:
                if held is not None:
                    held.update(current)
                wait.watch(current.transaction)
                happened = await self._act(current, wait, held)
                now = self._time()
                current = self._proceed(current, happened, now)
                wait.count(current.deadline, now, happened)
                yield current
            if held is not None:
                held.update(current)

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

        In ping and push mode the acknowledgement may be lost: then the transaction waits for a callback
        (`ciba_core.states.AwaitingCallback`) and has no ``auth_req_id`` yet.

        Raises:
            CibaError: the provider refused it, or its acknowledgement did not arrive; see `ciba_core.errors`.

        """
        transaction = None
        async with contextlib.aclosing(self.steps(request)) as steps:
            async for current in steps:
                transaction = current.transaction
                if isinstance(transaction.state, (Pending, AwaitingCallback)):
                    return transaction
        assert transaction is not None  # noqa: S101  # there is a first step; for the type checker
        raise error_of(transaction)

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
        return tokens_of(last)

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
            what: one token, or tokens: then the refresh token is revoked or, if there is none, the access
                token. `TokensRejected.untrusted` is accepted too.
            token_type_hint: the kind of token, if `what` is a `Secret`.

        Raises:
            LocalProtocolError: the provider has no revocation endpoint.
            CibaError: the token was not revoked, or the answer was lost: try again.

        """
        await self._operate(self._revocation(what, token_type_hint))

    async def userinfo(self, tokens: TokenResponse) -> Mapping[str, Any]:
        """Ask for claims about the user (OpenID Connect Core 5.3), and return them read-only.

        Args:
            tokens: the user's.

        Raises:
            LocalProtocolError: the provider has no UserInfo endpoint, or the tokens came without ID Token.
            InvalidToken: the access token is no longer good.
            CibaError: any other failure; see `ciba_core.errors`.

        """
        return await self._operate(self._userinfo(tokens))


async def send(client: AsyncClient[Any], request: HttpRequest) -> ResponseReceived | RequestFailed:
    """Send a request as the client sends its own."""
    return await client._send(request)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # of this module


async def signatures(
    client: AsyncClient[Any], draft: Draft, seconds: float | None
) -> SignaturesMade | SigningFailed | None:
    """Have a draft signed as the client's own, or return ``None`` if that takes longer than `seconds`."""
    return await client._signatures(draft, seconds)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # of this module


async def _exchange(transport: AsyncTransport, request: HttpRequest) -> HttpResponse | SendFailed:
    try:
        return await transport.send(request)
    except SendFailed as failure:
        return failure
