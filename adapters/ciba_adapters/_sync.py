"""The sync client: the core's loop, in a thread that blocks.

The loops are written twice, here and in `_async.py`, because they are short and differ in more than
``await``: in how a wait, a request and a signature are given up. The core takes all decisions; `_login.py`
does the storing of logins.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

from ciba_adapters._cancellation import Cancellation, Leavable
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
from ciba_adapters._login import SyncLogin
from ciba_adapters._pace import Stopwatch, Wait
from ciba_adapters.transport import Clock, SendFailed, SyncTransport
from ciba_core import (
    AuthenticationRequest,
    Cancel,
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
from ciba_core.errors import LocalProtocolError, RequestNotSent
from ciba_core.events import Event
from ciba_core.states import AwaitingCallback, Pending

if TYPE_CHECKING:
    from ciba_adapters.notification import Held, NotificationEndpoint

__all__ = ["SyncClient", "send", "signatures"]

Sign = Callable[[RemoteSigner, bytes], bytes]


class SyncDriver(Driver[SyncTransport, Sign]):
    """Acts on steps of transactions and operations, in a thread that blocks."""

    def _act(
        self,
        current: Step | OperationStep[Any],
        wait: Wait,
        cancellation: Cancellation | None,
        held: Held | None = None,
    ) -> Input:
        """Do what a step asks for, and return the outcome; `wait` is the wait for its deadline."""
        if (happened := self._attend(current, cancellation)) is not None:
            return happened
        deadline = current.deadline
        if deadline is None:
            raise LocalProtocolError("nothing is under way in this transaction: it was never begun")
        notification = self._sit_out(wait, cancellation or Cancellation(), held)
        if _is_cancelled(cancellation):
            return Cancel()
        return TimerFired(deadline) if notification is None else NotificationReceived(notification)

    def _attend(
        self, current: Step | OperationStep[Any], cancellation: Cancellation | None
    ) -> SignaturesMade | SigningFailed | ResponseReceived | RequestFailed | Cancel | None:
        """Have the draft of a step signed, or send its request; ``None`` if it has neither."""
        if current.draft is not None:
            made = self._signatures(current.draft)
            return Cancel() if _is_cancelled(cancellation) else made
        return None if current.request is None else self._send(current.request, cancellation)

    def _sit_out(
        self, wait: Wait, cancellation: Cancellation | Leavable, held: Held | None
    ) -> Notification | None:
        """Wait until the wait is over, or a callback comes, or the call is cancelled or left."""
        while True:
            seconds = wait.left
            nap = min(seconds, self._nap)
            notification = self._wait(nap, cancellation, held)
            if notification is not None or cancellation.ended or seconds <= nap:
                return notification

    def _operate(self, operation: Operation[ResultT], cancellation: Cancellation | None = None) -> ResultT:
        if _is_cancelled(cancellation):
            raise RequestNotSent("the call was cancelled before it began", reason="cancelled")
        now = self._time()
        current = self._begin(operation, now)
        while not current.is_finished:
            happened = self._act(current, self._wait_for(current.deadline, now), cancellation)
            now = self._time()
            current = self._proceed(current, happened, now)
        return result_of(current)

    def _wait(
        self, seconds: float, cancellation: Cancellation | Leavable, held: Held | None
    ) -> Notification | None:
        if self._clock is not None:
            self._clock.sleep(seconds, None if held is None else held.ready)
            seconds = 0.0
        if held is not None:
            return held.wait(seconds, cancellation)
        cancellation.wait(seconds)
        return None

    def _signatures(self, draft: Draft) -> SignaturesMade | SigningFailed:
        sign = need(self._sign)
        try:
            made = tuple(sign(remote_signer(jwt), jwt.octets) for jwt in draft.jwts)
        except Exception as error:  # noqa: BLE001  # whatever the embedder's service raises
            return SigningFailed(draft.id, type(error).__name__)
        return SignaturesMade(draft.id, made)

    def _send(
        self, request: HttpRequest, cancellation: Cancellation | None
    ) -> ResponseReceived | RequestFailed | Cancel:
        while request.purpose is Purpose.KEYS:
            fetch, is_mine = self._knowledge.fetch(request.url)
            if is_mine:
                with fetch:
                    made = self._exchanged(request, cancellation)
                    fetch.outcome = None if isinstance(made, Cancel) else made
                return made
            fetch.wait(request.timeout, cancellation)
            if _is_cancelled(cancellation):
                return Cancel()
            outcome = fetch.outcome_for(request)
            if outcome is not None:
                return outcome
        return self._exchanged(request, cancellation)

    def _exchanged(
        self, request: HttpRequest, cancellation: Cancellation | None
    ) -> ResponseReceived | RequestFailed | Cancel:
        def exchange() -> HttpResponse | SendFailed:
            return _exchange(self._transport, request)

        stopwatch = Stopwatch(self._monotonic)
        with stopwatch.running():
            outcome = exchange() if cancellation is None else cancellation.call(exchange)
        return Cancel() if outcome is None else input_of(request, outcome, stopwatch.elapsed)


class SyncClient(Client[HttpT, SyncTransport, Sign], SyncDriver, SyncLogin):
    """A CIBA client that blocks its thread; one per provider. Calls from several threads are independent."""

    @classmethod
    def discover(
        cls,
        issuer: str,
        client: ClientConfig,
        *,
        http: HttpT,
        metadata_url: str | None = None,
        expected_issuer: str | None = None,
        allow_loopback_http: bool = False,
        sign: Sign | None = None,
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
        document = cls.fetch_metadata(
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
    def fetch_metadata(
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
        driver = SyncDriver(cls.make_transport(http), clock=clock)
        return driver._operate(discovery(issuer, client, metadata_url, allow_loopback_http))  # noqa: SLF001  # of this module

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
        wait = self._wait_for(current.deadline, now)
        held = self._hold(current)
        with contextlib.nullcontext() if held is None else contextlib.closing(held):
            yield current
            while not current.is_finished:
                if held is not None:
                    held.update(current)
                wait.watch(current.transaction)
                happened = self._act(current, wait, cancellation, held)
                now = self._time()
                current = self._proceed(current, happened, now)
                wait.count(current.deadline, now, happened)
                yield current
            if held is not None:
                held.update(current)

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

        In ping and push mode the acknowledgement may be lost: then the transaction waits for a callback
        (`ciba_core.states.AwaitingCallback`) and has no ``auth_req_id`` yet.

        Raises:
            CibaError: the provider refused it, or its acknowledgement did not arrive; see `ciba_core.errors`.

        """
        transaction = None
        for current in self.steps(request, cancellation=cancellation):
            transaction = current.transaction
            if isinstance(transaction.state, (Pending, AwaitingCallback)):
                return transaction
        assert transaction is not None  # noqa: S101  # there is a first step; for the type checker
        raise error_of(transaction)

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
        return tokens_of(last.transaction)

    def refresh(
        self, tokens: TokenResponse, *, scope: str | None = None, cancellation: Cancellation | None = None
    ) -> TokenResponse:
        """Get new tokens for the refresh token (RFC 6749 6); see `ciba_core.Refresh`.

        Store the result at once: it replaces `tokens`, and the old refresh token may be used up.

        Args:
            tokens: those to refresh.
            scope: ask for less than was granted.
            cancellation: ends the call from another thread. The error says what became of the tokens:
                `RequestNotSent`, `RefreshLost`, or `KeysUnavailable` with the new ones inside.

        Raises:
            LocalProtocolError: there is no refresh token, or `scope` goes beyond what was granted.
            InvalidGrant: the refresh token is no longer good; authenticate anew.
            RefreshLost: the answer was lost, and with it the next refresh token, perhaps.
            CibaError: any other failure; see `ciba_core.errors`.

        """
        return self._operate(self._refresh(tokens, scope), cancellation)

    def revoke(
        self,
        what: Secret | TokenResponse | Guarded[TokenResponse],
        *,
        token_type_hint: TokenTypeHint | None = None,
        cancellation: Cancellation | None = None,
    ) -> None:
        """Revoke a token (RFC 7009).

        Args:
            what: one token, or tokens: then the refresh token is revoked or, if there is none, the access
                token. `TokensRejected.untrusted` is accepted too.
            token_type_hint: the kind of token, if `what` is a `Secret`.
            cancellation: ends the call from another thread, with a `TransportError`.

        Raises:
            LocalProtocolError: the provider has no revocation endpoint.
            CibaError: the token was not revoked, or the answer was lost: try again.

        """
        self._operate(self._revocation(what, token_type_hint), cancellation)

    def userinfo(
        self, tokens: TokenResponse, *, cancellation: Cancellation | None = None
    ) -> Mapping[str, Any]:
        """Ask for claims about the user (OpenID Connect Core 5.3), and return them read-only.

        Args:
            tokens: the user's.
            cancellation: ends the call from another thread, with a `TransportError`.

        Raises:
            LocalProtocolError: the provider has no UserInfo endpoint, or the tokens came without ID Token.
            InvalidToken: the access token is no longer good.
            CibaError: any other failure; see `ciba_core.errors`.

        """
        return self._operate(self._userinfo(tokens), cancellation)


def send(client: SyncClient[Any], request: HttpRequest) -> ResponseReceived | RequestFailed:
    """Send a request as the client sends its own."""
    made = client._send(request, None)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # of this module
    assert not isinstance(made, Cancel)  # noqa: S101  # nobody can; for the type checker
    return made


def signatures(client: SyncClient[Any], draft: Draft) -> SignaturesMade | SigningFailed:
    """Have a draft signed as the client's own."""
    return client._signatures(draft)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # of this module


def _is_cancelled(cancellation: Cancellation | None) -> bool:
    return cancellation is not None and cancellation.cancelled


def _exchange(transport: SyncTransport, request: HttpRequest) -> HttpResponse | SendFailed:
    try:
        return transport.send(request)
    except SendFailed as failure:
        return failure
