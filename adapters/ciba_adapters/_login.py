"""The login that keeps its state, as the clients offer it: runs the flows of `ciba_core.login.flow`."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, assert_never, cast

from attrs import define

from ciba_adapters._cancellation import Cancellation, Leavable
from ciba_adapters._pace import Wait
from ciba_core import (
    Act,
    Advance,
    Answer,
    AsyncStores,
    AuthenticationRequest,
    Cancel,
    Claimed,
    ClientConfig,
    Delivery,
    Flow,
    Input,
    Left,
    Load,
    LoginFlow,
    LoginRecords,
    Notification,
    NotificationReceived,
    Now,
    Pause,
    ProviderMetadata,
    Release,
    RequestFailed,
    Save,
    Session,
    Step,
    StoreFailed,
    Stores,
    TimerFired,
    TokenResponse,
    Transaction,
    Waiting,
)
from ciba_core.errors import LoginStillWaiting

if TYPE_CHECKING:
    from ciba_adapters.notification import Held

__all__ = ["AsyncLogin", "SyncLogin"]

ResultT = TypeVar("ResultT")


@define
class _Run:
    """One flow on its way."""

    session_key: str
    stores: Stores | AsyncStores
    store_options: Any
    monotonic: Callable[[], float]
    leave_at: float | None = None
    """The instant at which to stop waiting, by the monotonic clock."""
    cancellation: Cancellation | None = None
    held: Held | None = None
    unsaved: Step | None = None
    """The last step, until it is saved."""
    counting: Callable[[], float] | None = None
    """A clock that cannot be set; it counts while the machine is suspended if the system has such a clock."""
    leased: str = ""
    """The state that was last saved with a lease."""
    lease_until: float = 0.0
    """The end of that lease, by a clock that cannot be set."""

    def seconds(self, seconds: float) -> float:
        """Return `seconds`, or less if the caller stops waiting before."""
        return seconds if self.leave_at is None else min(seconds, max(self.leave_at - self.monotonic(), 0.0))

    @property
    def is_left(self) -> bool:
        """Whether to stop waiting."""
        if self.cancellation is not None and self.cancellation.left:
            return True
        return self.leave_at is not None and self.leave_at <= self.monotonic()

    @property
    def is_cancelled(self) -> bool:
        """Whether the call was cancelled."""
        return self.cancellation is not None and self.cancellation.cancelled

    def pause(self, *, may_leave: bool) -> Cancellation | Leavable:
        """Return the object that can end a wait."""
        cancellation = self.cancellation or Cancellation()
        return Leavable(cancellation) if may_leave else cancellation

    def waited(self, wish: Act, seconds: float, notification: Notification | None) -> Input | Left | None:
        """Return the outcome of a wait of `seconds` or less."""
        if self.is_cancelled:
            return Cancel()
        if notification is not None:
            return NotificationReceived(notification)
        if self.is_left and seconds > 0:
            return Left()
        if wish.is_part:
            return None
        deadline = wish.step.transaction.deadline
        assert deadline is not None  # noqa: S101  # what is waited for; for the type checker
        return TimerFired(deadline)

    def paused(self, wish: Pause) -> Left | Cancel | None:
        """Return the outcome of a pause."""
        if self.is_cancelled:
            return Cancel()
        return Left() if wish.may_leave and self.is_left else None

    def saving(self, wish: Load | Save | Release) -> None:
        """Count a lease from before the first try to save it: that try may have succeeded."""
        if isinstance(wish, Save) and wish.lease and wish.revision != self.leased:
            self.leased, self.lease_until = wish.revision, self._lease_clock() + wish.lease

    def too_late(self, wish: Act) -> RequestFailed | None:
        """Return the outcome of a request that could outlast the lease: it is not sent.

        The flow itself goes by the wall clock, which can be set.
        """
        request = wish.step.request
        if (
            request is None
            or self._lease_clock() + request.connect_timeout + request.timeout <= self.lease_until
        ):
            return None
        reason = "the lease of the login would be over before the answer"
        return RequestFailed(request.id, Delivery.NOT_SENT, reason, elapsed=0.0)

    def _lease_clock(self) -> float:
        return (self.counting or self.monotonic)()

    def saved(self, wish: Save) -> None:
        """Let callbacks be answered, now that their outcome is stored."""
        if wish.place == "transactions" and self.unsaved is not None:
            if self.held is not None:
                self.held.update(self.unsaved)
            self.unsaved = None

    def close(self) -> None:
        """Take no more callbacks."""
        if self.held is not None:
            self.held.close()


class _LoginClient:
    """The things that a login needs of its client."""

    client: ClientConfig
    provider: ProviderMetadata
    _time: Callable[[], float]
    _monotonic: Callable[[], float]
    _counting: Callable[[], float] | None

    @abstractmethod
    def _step(self, transaction: Transaction, happened: Input, now: float) -> Step:
        """Feed an input."""

    @abstractmethod
    def _hold(self, current: Step, session_key: str | None = None) -> Held | None:
        """Take callbacks from now on."""

    @abstractmethod
    def _wait_for(self, deadline: float | None, now: float) -> Wait:
        """Return the wait for a deadline that was set at `now`."""

    def _wait_of(self, wish: Act, seconds: float) -> Wait:
        """Return a wait of so many seconds for a wish."""
        transaction, now = wish.step.transaction, self._time()
        wait = self._wait_for(now + seconds, now)
        wait.watch(transaction)
        return wait

    def _flow(
        self, stores: Stores | AsyncStores, session_key: str, *, as_requested: bool = False
    ) -> LoginFlow:
        records = LoginRecords(
            client=self.client, provider=self.provider, sealer=stores.sealer, session_key=session_key
        )
        can_claim = hasattr(stores.transactions, "claim")
        return LoginFlow(records=records, can_claim=can_claim, as_requested=as_requested)

    def _begun(
        self,
        session_key: str,
        stores: Stores | AsyncStores,
        store_options: Any,
        wait_at_most: float | None = None,
        cancellation: Cancellation | None = None,
    ) -> _Run:
        leave_at = None if wait_at_most is None else self._monotonic() + wait_at_most
        run = _Run(session_key, stores, store_options, self._monotonic, leave_at, cancellation)
        run.counting = self._counting
        return run

    def _advanced(self, run: _Run, wish: Advance) -> Step:
        current = run.unsaved = self._step(wish.transaction, wish.happened, self._time())
        if run.held is None:
            run.held = self._hold(current, run.session_key)
        return current


def _session(found: Session | Waiting) -> Session:
    if isinstance(found, Waiting):
        raise LoginStillWaiting("the wait was left before the login came to its end", wake_at=found.wake_at)
    return found


class SyncLogin(_LoginClient):
    """The part of a sync client that keeps its state in stores."""

    @abstractmethod
    def _attend(self, current: Step, cancellation: Cancellation | None) -> Input | None:
        """Have the draft of a step signed, or send its request; ``None`` if it has neither."""

    @abstractmethod
    def _sit_out(
        self, wait: Wait, cancellation: Cancellation | Leavable, held: Held | None
    ) -> Notification | None:
        """Wait until the wait is over, or a callback comes, or the call is cancelled or left."""

    @abstractmethod
    def _wait(
        self, seconds: float, cancellation: Cancellation | Leavable, held: Held | None
    ) -> Notification | None:
        """Wait, for a callback or until it is cancelled."""

    def login_backchannel(
        self,
        request: AuthenticationRequest,
        *,
        stores: Stores,
        session_key: str,
        store_options: Any = None,
        as_requested: bool = False,
        cancellation: Cancellation | None = None,
        wait_at_most: float | None = None,
    ) -> Session:
        """Ask the user, wait for the decision, and store the tokens as the session of a key.

        Each step is stored before its request is sent. If the process ends, or this raises `StoreError`, go
        on by `resume_pending`: the user is not prompted again. An answer that could not be stored is lost
        (`AcknowledgementLost`, `TokenResponseLost`).

        Args:
            request: the user to ask, and what to ask for.
            stores: where logins and sessions are kept.
            session_key: the application's name for the session: a session identifier, a task's name. One
                login at a time is under way for it.
            store_options: handed to the stores as it is.
            as_requested: accept only what was requested; ``session.tokens.grant`` has the comparison anyway.
            cancellation: ends the login from another thread, or leaves it, to be resumed.
            wait_at_most: seconds after which to leave the login, to be resumed. A request that is under way
                then is brought to its end.

        Raises:
            LoginUnderWay: an earlier login of this session key has not come to its end; nothing was sent.
            LoginStillWaiting: the wait was left; the login goes on, and can be resumed.
            GrantDiffers: the grant is not what was requested. The tokens stay with the login: resume it
                without `as_requested` to take them, or remove it from its store.
            SessionOfAnotherUser: the stored session is not of the user who approved; nothing was changed.
            StoreError: the stored record cannot be used, or another process changed it.
            CibaError: any other end, as from `authenticate`.

        """
        run = self._begun(session_key, stores, store_options, wait_at_most, cancellation)
        flow = self._flow(stores, session_key, as_requested=as_requested)
        return _session(self._run(flow.login(request), run))

    def resume_pending(
        self,
        *,
        stores: Stores,
        session_key: str,
        store_options: Any = None,
        as_requested: bool = False,
        cancellation: Cancellation | None = None,
        wait_at_most: float | None = None,
    ) -> Session:
        """Go on with the login of a session key until its end, after a restart or in another process.

        A login that has ended gives its outcome again, for a day. If a request was under way, or being
        signed, when the login was stored last, another process may be working on it: then this first waits as
        long as that may take.

        The arguments are those of `login_backchannel`.

        Raises:
            NoPendingLogin: no login is stored.
            StoreConflict: another process is going on with it.
            AcknowledgementLost: the process ended while the authentication request was under way. The user
                may have been prompted; the application decides whether to log in anew.
            CibaError: any other end, as from `login_backchannel`.

        """
        run = self._begun(session_key, stores, store_options, wait_at_most, cancellation)
        flow = self._flow(stores, session_key, as_requested=as_requested)
        return _session(self._run(flow.resume(), run))

    def ensure_session(
        self,
        request: AuthenticationRequest,
        *,
        stores: Stores,
        session_key: str,
        store_options: Any = None,
        as_requested: bool = False,
        cancellation: Cancellation | None = None,
        wait_at_most: float | None = None,
    ) -> Session:
        """Return the stored session, or that of the login under way; if there is neither, log in.

        The user is prompted once, and all callers in all processes get the one session. A caller that finds a
        login under way in another process waits, and takes the login over if that process ends. Only a login
        that is over without a session (denied, expired, failed) is followed by another one.

        The arguments are those of `login_backchannel`; with ``wait_at_most=0`` the call does not wait.

        Raises:
            LoginStillWaiting: the wait was left; the login goes on, and can be resumed.
            CibaError: any other end, as from `login_backchannel`.

        """
        run = self._begun(session_key, stores, store_options, wait_at_most, cancellation)
        flow = self._flow(stores, session_key, as_requested=as_requested)
        return _session(self._run(flow.ensure(request), run))

    def start_login(
        self,
        request: AuthenticationRequest,
        *,
        stores: Stores,
        session_key: str,
        store_options: Any = None,
        cancellation: Cancellation | None = None,
    ) -> Waiting | Session:
        """Ask the user, and return as soon as the provider's acknowledgement is stored.

        Go on in any process by `check_pending`, at `Waiting.wake_at` or later, or by `resume_pending`, which
        waits. The arguments are those of `login_backchannel`.

        Raises:
            CibaError: as from `login_backchannel`.

        """
        run = self._begun(session_key, stores, store_options, None, cancellation)
        return self._run(self._flow(stores, session_key).start(request), run)

    def adopt_login(
        self,
        transaction: Transaction,
        *,
        stores: Stores,
        session_key: str,
        store_options: Any = None,
        cancellation: Cancellation | None = None,
    ) -> Waiting | Session:
        """Store a transaction that was kept by `Transaction.to_json`, as the login of a key.

        If several processes have restored the same snapshot, one succeeds, so that only one of them polls. Go
        on by `resume_pending`, or in slices by `advance`. The arguments are those of `login_backchannel`.

        Raises:
            LoginUnderWay: a login of this session key has not come to its end; or this very transaction was
                stored there before.
            StoreConflict: another process was quicker.
            CibaError: the transaction has ended without tokens.

        """
        run = self._begun(session_key, stores, store_options, None, cancellation)
        return self._run(self._flow(stores, session_key).adopt(transaction), run)

    def advance(
        self,
        *,
        stores: Stores,
        session_key: str,
        claimed: Claimed | None = None,
        store_options: Any = None,
        as_requested: bool = False,
        cancellation: Cancellation | None = None,
    ) -> Waiting | Session:
        """Do only what is due for the login of a key, at most one poll; return what comes next.

        Call it at any time and as often as you like: if nothing is due, or another process is working on the
        login, nothing is sent. Each step is stored before its request is sent.

        Args:
            stores: where logins and sessions are kept.
            session_key: the login's key.
            claimed: the login itself, if ``stores.transactions.claim`` handed it out; then it is not loaded.
                When this returns, the login was given back and can be claimed again when it is due. If this
                raises the login's own error, the login is over; after a `StoreError` the lease ends the
                claim.
            store_options: handed to the stores as it is.
            as_requested: accept only what was requested.
            cancellation: ends the login from another thread.

        Raises:
            NoPendingLogin: no login is stored.
            StoreConflict: another process goes on with it.
            CibaError: the login has ended without a session; as from `login_backchannel`.

        """
        run = self._begun(session_key, stores, store_options, None, cancellation)
        flow = self._flow(stores, session_key, as_requested=as_requested)
        return self._run(flow.advance(claimed), run)

    def check_pending(
        self,
        *,
        stores: Stores,
        session_key: str,
        store_options: Any = None,
        as_requested: bool = False,
        cancellation: Cancellation | None = None,
    ) -> Session | None:
        """Return the session if the user has approved, and ``None`` while the login waits; never wait here.

        For a route of a web server or a cron job: it makes at most one poll, and only if it is due. It has
        the arguments of `advance`, and raises as `advance` does.
        """
        found = self.advance(
            stores=stores,
            session_key=session_key,
            store_options=store_options,
            as_requested=as_requested,
            cancellation=cancellation,
        )
        return None if isinstance(found, Waiting) else found

    def load_session(self, *, stores: Stores, session_key: str, store_options: Any = None) -> Session | None:
        """Return the session of a key, or ``None``.

        Raises:
            StoreError: the stored session cannot be used.

        """
        return self._run(
            self._flow(stores, session_key).load_session(), self._begun(session_key, stores, store_options)
        )

    def renew_session(
        self,
        session: Session,
        tokens: TokenResponse,
        *,
        stores: Stores,
        session_key: str,
        store_options: Any = None,
    ) -> Session:
        """Store the refreshed tokens of a session, and return the session with them.

        Args:
            session: the session as last loaded or returned.
            tokens: the result of `refresh` on ``session.tokens``.
            stores: where the session is kept.
            session_key: its key.
            store_options: handed to the stores as it is.

        Raises:
            SessionOfAnotherUser: the tokens are not of the session's user.
            StoreConflict: another process changed or removed the session; its change stays.

        """
        flow = self._flow(stores, session_key).renew_session(session, tokens)
        return self._run(flow, self._begun(session_key, stores, store_options))

    def _run(self, flow: Flow[ResultT], run: _Run) -> ResultT:
        answer: Answer = None
        try:
            while True:
                try:
                    wish = flow.send(answer)
                except StopIteration as end:
                    return cast("ResultT", end.value)
                match wish:
                    case Load() | Save() | Release():
                        answer = self._stored(wish, run)
                    case Advance():
                        answer = self._advanced(run, wish)
                    case Act():
                        answer = self._acted(wish, run)
                    case Pause():
                        seconds = run.seconds(wish.seconds) if wish.may_leave else wish.seconds
                        self._wait(seconds, run.pause(may_leave=wish.may_leave), None)
                        answer = run.paused(wish)
                    case Now():
                        answer = self._time()
                    case _:
                        assert_never(wish)
        finally:
            run.close()

    @staticmethod
    def _stored(wish: Load | Save | Release, run: _Run) -> Answer:
        run.saving(wish)
        try:
            answer = wish.ask(run.stores, run.store_options)
        except Exception as error:  # noqa: BLE001  # whatever the embedder's store raises
            return StoreFailed(error)
        if isinstance(wish, Save):
            run.saved(wish)
        return cast("Answer", answer)

    def _acted(self, wish: Act, run: _Run) -> Input | Left | None:
        happened = run.too_late(wish) or self._attend(wish.step, run.cancellation)
        if happened is not None:
            return happened
        seconds = wish.seconds or 0.0
        wait = self._wait_of(wish, run.seconds(seconds))
        notification = self._sit_out(wait, run.pause(may_leave=True), run.held)
        return run.waited(wish, seconds, notification)


class AsyncLogin(_LoginClient):
    """The part of an async client that keeps its state in stores, whose methods are awaited or not."""

    @abstractmethod
    async def _attend(self, current: Step, seconds: float | None) -> Input | None:
        """Have the draft of a step signed, or send its request; ``None`` if it has neither."""

    @abstractmethod
    async def _sit_out(self, wait: Wait, held: Held | None) -> Notification | None:
        """Wait until the wait is over, or a callback comes."""

    @abstractmethod
    async def _wait(self, seconds: float, held: Held | None) -> Notification | None:
        """Wait, for a callback too."""

    async def login_backchannel(
        self,
        request: AuthenticationRequest,
        *,
        stores: Stores | AsyncStores,
        session_key: str,
        store_options: Any = None,
        as_requested: bool = False,
        wait_at_most: float | None = None,
    ) -> Session:
        """Ask the user, wait for the decision, and store the tokens as the session of a key.

        Each step is stored before its request is sent. If the process or the task ends, or this raises
        `StoreError`, go on by `resume_pending`: the user is not prompted again. An answer that could not be
        stored is lost (`AcknowledgementLost`, `TokenResponseLost`).

        Args:
            request: the user to ask, and what to ask for.
            stores: where logins and sessions are kept.
            session_key: the application's name for the session: a session identifier, a task's name. One
                login at a time is under way for it.
            store_options: handed to the stores as it is.
            as_requested: accept only what was requested; ``session.tokens.grant`` has the comparison anyway.
            wait_at_most: seconds after which to leave the login, to be resumed. A request that is under way
                then is brought to its end.

        Raises:
            LoginUnderWay: an earlier login of this session key has not come to its end; nothing was sent.
            LoginStillWaiting: the wait was left; the login goes on, and can be resumed.
            GrantDiffers: the grant is not what was requested. The tokens stay with the login: resume it
                without `as_requested` to take them, or remove it from its store.
            SessionOfAnotherUser: the stored session is not of the user who approved; nothing was changed.
            StoreError: the stored record cannot be used, or another process changed it.
            CibaError: any other end, as from `authenticate`.

        """
        run = self._begun(session_key, stores, store_options, wait_at_most)
        flow = self._flow(stores, session_key, as_requested=as_requested)
        return _session(await self._run(flow.login(request), run))

    async def resume_pending(
        self,
        *,
        stores: Stores | AsyncStores,
        session_key: str,
        store_options: Any = None,
        as_requested: bool = False,
        wait_at_most: float | None = None,
    ) -> Session:
        """Go on with the login of a session key until its end, after a restart or in another process.

        A login that has ended gives its outcome again, for a day. If a request was under way, or being
        signed, when the login was stored last, another process may be working on it: then this first waits as
        long as that may take.

        The arguments are those of `login_backchannel`.

        Raises:
            NoPendingLogin: no login is stored.
            StoreConflict: another process is going on with it.
            AcknowledgementLost: the process ended while the authentication request was under way. The user
                may have been prompted; the application decides whether to log in anew.
            CibaError: any other end, as from `login_backchannel`.

        """
        run = self._begun(session_key, stores, store_options, wait_at_most)
        flow = self._flow(stores, session_key, as_requested=as_requested)
        return _session(await self._run(flow.resume(), run))

    async def ensure_session(
        self,
        request: AuthenticationRequest,
        *,
        stores: Stores | AsyncStores,
        session_key: str,
        store_options: Any = None,
        as_requested: bool = False,
        wait_at_most: float | None = None,
    ) -> Session:
        """Return the stored session, or that of the login under way; if there is neither, log in.

        The user is prompted once, and all callers in all processes get the one session. A caller that finds a
        login under way in another process waits, and takes the login over if that process ends. Only a login
        that is over without a session (denied, expired, failed) is followed by another one.

        The arguments are those of `login_backchannel`; with ``wait_at_most=0`` the call does not wait.

        Raises:
            LoginStillWaiting: the wait was left; the login goes on, and can be resumed.
            CibaError: any other end, as from `login_backchannel`.

        """
        run = self._begun(session_key, stores, store_options, wait_at_most)
        flow = self._flow(stores, session_key, as_requested=as_requested)
        return _session(await self._run(flow.ensure(request), run))

    async def start_login(
        self,
        request: AuthenticationRequest,
        *,
        stores: Stores | AsyncStores,
        session_key: str,
        store_options: Any = None,
    ) -> Waiting | Session:
        """Ask the user, and return as soon as the provider's acknowledgement is stored.

        Go on in any process by `check_pending`, at `Waiting.wake_at` or later, or by `resume_pending`, which
        waits. The arguments are those of `login_backchannel`.

        Raises:
            CibaError: as from `login_backchannel`.

        """
        run = self._begun(session_key, stores, store_options)
        return await self._run(self._flow(stores, session_key).start(request), run)

    async def adopt_login(
        self,
        transaction: Transaction,
        *,
        stores: Stores | AsyncStores,
        session_key: str,
        store_options: Any = None,
    ) -> Waiting | Session:
        """Store a transaction that was kept by `Transaction.to_json`, as the login of a key.

        If several processes have restored the same snapshot, one succeeds, so that only one of them polls. Go
        on by `resume_pending`, or in slices by `advance`. The arguments are those of `login_backchannel`.

        Raises:
            LoginUnderWay: a login of this session key has not come to its end; or this very transaction was
                stored there before.
            StoreConflict: another process was quicker.
            CibaError: the transaction has ended without tokens.

        """
        run = self._begun(session_key, stores, store_options)
        return await self._run(self._flow(stores, session_key).adopt(transaction), run)

    async def advance(
        self,
        *,
        stores: Stores | AsyncStores,
        session_key: str,
        claimed: Claimed | None = None,
        store_options: Any = None,
        as_requested: bool = False,
    ) -> Waiting | Session:
        """Do only what is due for the login of a key, at most one poll; return what comes next.

        Call it at any time and as often as you like: if nothing is due, or another process is working on the
        login, nothing is sent. Each step is stored before its request is sent.

        Args:
            stores: where logins and sessions are kept.
            session_key: the login's key.
            claimed: the login itself, if ``stores.transactions.claim`` handed it out; then it is not loaded.
                When this returns, the login was given back and can be claimed again when it is due. If this
                raises the login's own error, the login is over; after a `StoreError` the lease ends the
                claim.
            store_options: handed to the stores as it is.
            as_requested: accept only what was requested.

        Raises:
            NoPendingLogin: no login is stored.
            StoreConflict: another process goes on with it.
            CibaError: the login has ended without a session; as from `login_backchannel`.

        """
        run = self._begun(session_key, stores, store_options)
        flow = self._flow(stores, session_key, as_requested=as_requested)
        return await self._run(flow.advance(claimed), run)

    async def check_pending(
        self,
        *,
        stores: Stores | AsyncStores,
        session_key: str,
        store_options: Any = None,
        as_requested: bool = False,
    ) -> Session | None:
        """Return the session if the user has approved, and ``None`` while the login waits; never wait here.

        For a route of a web server or a cron job: it makes at most one poll, and only if it is due. It has
        the arguments of `advance`, and raises as `advance` does.
        """
        found = await self.advance(
            stores=stores,
            session_key=session_key,
            store_options=store_options,
            as_requested=as_requested,
        )
        return None if isinstance(found, Waiting) else found

    async def load_session(
        self, *, stores: Stores | AsyncStores, session_key: str, store_options: Any = None
    ) -> Session | None:
        """Return the session of a key, or ``None``.

        Raises:
            StoreError: the stored session cannot be used.

        """
        flow = self._flow(stores, session_key).load_session()
        return await self._run(flow, self._begun(session_key, stores, store_options))

    async def renew_session(
        self,
        session: Session,
        tokens: TokenResponse,
        *,
        stores: Stores | AsyncStores,
        session_key: str,
        store_options: Any = None,
    ) -> Session:
        """Store the refreshed tokens of a session, and return the session with them.

        Args:
            session: the session as last loaded or returned.
            tokens: the result of `refresh` on ``session.tokens``.
            stores: where the session is kept.
            session_key: its key.
            store_options: handed to the stores as it is.

        Raises:
            SessionOfAnotherUser: the tokens are not of the session's user.
            StoreConflict: another process changed or removed the session; its change stays.

        """
        flow = self._flow(stores, session_key).renew_session(session, tokens)
        return await self._run(flow, self._begun(session_key, stores, store_options))

    async def _run(self, flow: Flow[ResultT], run: _Run) -> ResultT:
        answer: Answer = None
        try:
            while True:
                try:
                    wish = flow.send(answer)
                except StopIteration as end:
                    return cast("ResultT", end.value)
                match wish:
                    case Load() | Save() | Release():
                        answer = await self._stored(wish, run)
                    case Advance():
                        answer = self._advanced(run, wish)
                    case Act():
                        answer = await self._acted(wish, run)
                    case Pause():
                        seconds = run.seconds(wish.seconds) if wish.may_leave else wish.seconds
                        await self._wait(seconds, None)
                        answer = run.paused(wish)
                    case Now():
                        answer = self._time()
                    case _:
                        assert_never(wish)
        finally:
            run.close()

    @staticmethod
    async def _stored(wish: Load | Save | Release, run: _Run) -> Answer:
        run.saving(wish)
        try:
            answer = wish.ask(run.stores, run.store_options)
            if inspect.isawaitable(answer):
                answer = await answer
        except Exception as error:  # noqa: BLE001  # whatever the embedder's store raises
            return StoreFailed(error)
        if isinstance(wish, Save):
            run.saved(wish)
        return cast("Answer", answer)

    async def _acted(self, wish: Act, run: _Run) -> Input | Left | None:
        happened = run.too_late(wish) or await self._attend(wish.step, wish.seconds)
        if happened is not None:
            return happened
        seconds = wish.seconds or 0.0
        notification = await self._sit_out(self._wait_of(wish, run.seconds(seconds)), run.held)
        return run.waited(wish, seconds, notification)
