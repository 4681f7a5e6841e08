"""The common part of the sync and the async client; the core takes all decisions."""

from __future__ import annotations

import copy
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

from attrs import frozen

from ciba_adapters._knowledge import ProviderKnowledge
from ciba_adapters._pace import NAP, Wait, suspend_counting_clock
from ciba_adapters._session import of_kind
from ciba_adapters.transport import Clock, SendFailed
from ciba_core import (
    AuthenticationRequest,
    Begin,
    ClientConfig,
    Discovery,
    Guarded,
    HttpRequest,
    HttpResponse,
    Input,
    Operation,
    OperationStep,
    ProviderMetadata,
    Refresh,
    RemoteSigner,
    RequestFailed,
    ResponseReceived,
    Resumed,
    Revocation,
    Secret,
    Shared,
    Step,
    TokenResponse,
    Transaction,
    UnsignedJwt,
    UserInfo,
    callback_key,
    proceed,
    step,
    token_hash,
)
from ciba_core.errors import CibaError, LocalProtocolError

if TYPE_CHECKING:
    from ciba_adapters.notification import Held, NotificationEndpoint

__all__ = [
    "Client",
    "Driver",
    "HttpT",
    "Lane",
    "ResultT",
    "TokenTypeHint",
    "discovery",
    "error_of",
    "input_of",
    "lane_of",
    "need",
    "remote_signer",
    "result_of",
    "tokens_of",
]

HttpT = TypeVar("HttpT")
TransportT = TypeVar("TransportT")
SignT = TypeVar("SignT")
ResultT = TypeVar("ResultT")
StepT = TypeVar("StepT", Step, OperationStep[Any])
TokenTypeHint = Literal["access_token", "refresh_token"]


class Driver(Generic[TransportT, SignT]):
    """Acts on steps, for a client, or for a discovery before there is a client."""

    def __init__(
        self,
        transport: TransportT,
        *,
        sign: SignT | None = None,
        knowledge: ProviderKnowledge | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._transport = transport
        self._sign = sign
        self._clock = clock
        self._knowledge = ProviderKnowledge() if knowledge is None else knowledge
        self._time = time.time if clock is None else clock.time
        self._monotonic = time.monotonic if clock is None else clock.monotonic
        self._counting = suspend_counting_clock() if clock is None else clock.monotonic
        # On a clock for tests, a wait is one sleep.
        self._nap = NAP if clock is None else math.inf

    def _wait_for(self, deadline: float | None, now: float) -> Wait:
        """Return the wait for a deadline that was set at `now`."""
        counting = self._counting
        wait = Wait(self._time, counting or self._monotonic, counts_suspension=counting is not None)
        wait.count(deadline, now)
        return wait

    def _begin(self, operation: Operation[ResultT], now: float) -> OperationStep[ResultT]:
        shared = self._knowledge.shared
        return self._took(operation.start(now, shared), shared)

    def _proceed(self, current: StepT, happened: Input, now: float) -> StepT:
        shared = self._knowledge.shared
        return self._took(proceed(current, happened, now, shared), shared, happened)

    def _step(self, transaction: Transaction, happened: Input, now: float) -> Step:
        shared = self._knowledge.shared
        return self._took(step(transaction, happened, now, shared), shared, happened)

    def _took(self, current: StepT, before: Shared, happened: Input | None = None) -> StepT:
        self._knowledge.learn(before, current.shared)
        self._knowledge.taken_in(happened)
        return current


class Client(Driver[TransportT, SignT], ABC, Generic[HttpT, TransportT, SignT]):
    """The common part of the sync and the async client.

    Args:
        provider: the provider's metadata.
        client: the client's configuration.
        http: the session of the HTTP stack. It stays the caller's: proxies, certificates and pools are set up
            there, and closing it is the caller's business.
        sign: signs with a key that is not in the process: takes the `RemoteSigner` and the octets and returns
            the signature (for the async clients, something to await for it). Needed only where the client's
            configuration names a `RemoteSigner`. Signatures that take longer than the ``lifetime`` of the JWT
            are of no use. The async clients then cancel the call. The sync clients cannot interrupt it: let
            it give up by itself well before.
        endpoint: receives the provider's callbacks; required if `ClientConfig.needs_callbacks`. One endpoint
            can serve many clients.
        knowledge: what is known of the provider, to be shared with its other clients.
        clock: virtual time, for tests.

    Raises:
        TypeError: `provider`, `client` or `http` is of another kind, such as a dict, or a sync session for an
            async client; the message names it.
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
        knowledge: ProviderKnowledge | None = None,
        clock: Clock | None = None,
    ) -> None:
        of_kind("provider", provider, ProviderMetadata)
        of_kind("client", client, ClientConfig)
        if endpoint is None and client.needs_callbacks:
            mode = client.backchannel_token_delivery_mode
            raise LocalProtocolError(f"endpoint: a client in {mode} mode needs a NotificationEndpoint")
        super().__init__(self.make_transport(http), sign=sign, knowledge=knowledge, clock=clock)
        self._endpoint = endpoint
        self.provider = provider
        self.client = client

    @staticmethod
    @abstractmethod
    def make_transport(http: HttpT) -> TransportT:
        """Return the transport that sends what this client asks for; a client for an HTTP stack defines it.

        It is called once for each client, and once by each call of `fetch_metadata` and `discover`. So keep
        lasting things, such as connections, in the session.

        Args:
            http: the session, as the caller handed it in.

        """

    def _start(self, what: AuthenticationRequest | Transaction, now: float) -> Step:
        if isinstance(what, Transaction):
            return self._step(what, Resumed(), now)
        return self._step(Transaction(client=self.client, provider=self.provider), Begin(what), now)

    def _hold(self, current: Step, session_key: str | None = None) -> Held | None:
        """Take callbacks from now on: a callback can come before the provider's acknowledgement."""
        token = current.transaction.client_notification_token
        if self._endpoint is None or token is None:
            return None
        key = None if session_key is None else callback_key(token_hash(token), session_key)
        return self._endpoint.hold(current.transaction, shared=self._knowledge.shared, key=key)

    def _lane(self) -> Lane:
        return Lane(
            self.provider,
            self.client,
            self._knowledge,
            self._clock,
            self._time,
            self._counting or self._monotonic,
            self._nap,
            self._hold,
        )

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


def discovery(
    issuer: str, client: ClientConfig, metadata_url: str | None, allow_loopback_http: bool
) -> Discovery:
    """Return the search for the metadata document, within the client's limits."""
    of_kind("client", client, ClientConfig)
    return Discovery(
        issuer,
        metadata_url=metadata_url,
        allow_loopback_http=allow_loopback_http,
        limits=client.limits,
        connect_timeout=client.connect_timeout,
        timeout=client.timeout,
        headers=client.headers,
        headers_to=client.headers_to,
        entropy=client.entropy,
    )


@frozen(eq=False)
class Lane:
    """The things that a pool needs of a client beside its sending and signing."""

    provider: ProviderMetadata
    client: ClientConfig
    knowledge: ProviderKnowledge
    clock: Clock | None
    time: Callable[[], float]
    monotonic: Callable[[], float]
    """The clock to count waits by: it cannot be set, and counts suspension if the system has such a clock."""
    nap: float
    hold: Callable[[Step], Held | None]


def lane_of(client: Client[Any, Any, Any]) -> Lane:
    """Return the things that a pool needs of a client."""
    return client._lane()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # of this module


def input_of(
    request: HttpRequest, outcome: HttpResponse | SendFailed, elapsed: float | None
) -> ResponseReceived | RequestFailed:
    """Return the outcome of an exchange as an input of the core."""
    if isinstance(outcome, SendFailed):
        return RequestFailed(request.id, outcome.delivery, outcome.reason, elapsed)
    return ResponseReceived(request.id, outcome, elapsed)


def need(sign: SignT | None) -> SignT:
    """Return the signing function, or raise `LocalProtocolError`."""
    if sign is None:
        raise LocalProtocolError("sign: the client has a RemoteSigner, and nothing to sign with was given")
    return sign


def remote_signer(jwt: UnsignedJwt) -> RemoteSigner:
    """Return the signer of a JWT that stands in a draft."""
    assert isinstance(jwt.signer, RemoteSigner)  # noqa: S101  # all of a draft; for the type checker
    return jwt.signer


def error_of(transaction: Transaction) -> CibaError:
    """Return the error that a transaction ended with, to be raised."""
    error = transaction.error
    assert error is not None  # noqa: S101  # every end without tokens has one; for the type checker
    # Copy the error in the state: raising adds a traceback to the object.
    return copy.copy(error)


def tokens_of(transaction: Transaction) -> TokenResponse:
    """Return the tokens of a finished transaction, or raise its error."""
    if transaction.tokens is None:
        raise error_of(transaction)
    return transaction.tokens


def result_of(finished: OperationStep[ResultT]) -> ResultT:
    """Return the result of a finished operation, or raise its error."""
    if finished.error is not None:
        raise copy.copy(finished.error)
    return cast("ResultT", finished.result)
