"""The login that keeps its state: when what is stored, and who may go on with it.

Unlike the loops in `_sync.py` and `_async.py`, this is written once for sync and async clients: as generators
of calls, each of which is made, or made and awaited, and whose result is sent back in.
"""

from __future__ import annotations

import contextlib
import inspect
from abc import abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
from functools import partial
from typing import Any, Protocol, TypeVar, cast

from attrs import evolve, frozen

from ciba_adapters._cancellation import Cancellation
from ciba_core import (
    AsyncStores,
    AuthenticationRequest,
    ClientConfig,
    ProviderMetadata,
    Session,
    Step,
    StoredRecord,
    Stores,
    TokenResponse,
    Transaction,
)
from ciba_core.errors import AuthenticationCancelled, NoPendingLogin, StoreConflict
from ciba_core.login.records import LoginRecords, StoredLogin

__all__ = ["AsyncLogin", "SyncLogin"]

ResultT = TypeVar("ResultT")
Call = Callable[[], Any]
Flow = Generator[Call, Any, ResultT]


class _Store(Protocol):
    """Any store: what its methods return is awaited where it can be."""

    def load(self, key: str, *, store_options: Any) -> Any: ...
    def save(
        self,
        key: str,
        text: str,
        *,
        expected_revision: str | None,
        forget_at: float | None,
        store_options: Any,
    ) -> Any: ...


@frozen
class _Records:
    """What stands in the stores for one session key."""

    codec: LoginRecords
    transactions: _Store
    sessions: _Store
    store_options: Any

    def load(self) -> Flow[tuple[StoredLogin | None, str | None]]:
        record: StoredRecord | None = yield self._load(self.transactions)
        return (None, None) if record is None else (self.codec.unseal(record), record.revision)

    def save(self, login: StoredLogin, revision: str | None, now: float) -> Flow[str]:
        text, forget_at = self.codec.seal(login), login.forget_at(now)
        new: str = yield self._save(self.transactions, text, revision, forget_at)
        return new

    def load_session(self) -> Flow[Session | None]:
        record: StoredRecord | None = yield self._load(self.sessions)
        return None if record is None else self.codec.unseal_session(record)

    def save_session(self, session: Session) -> Flow[Session]:
        text = self.codec.seal_session(session)
        revision: str = yield self._save(self.sessions, text, session.revision, None)
        return evolve(session, revision=revision)

    def _load(self, store: _Store) -> Call:
        return partial(store.load, self.codec.session_key, store_options=self.store_options)

    def _save(self, store: _Store, text: str, revision: str | None, forget_at: float | None) -> Call:
        return partial(
            store.save,
            self.codec.session_key,
            text,
            expected_revision=revision,
            forget_at=forget_at,
            store_options=self.store_options,
        )


@frozen
class _Login:
    """One login on its way, driven by a client."""

    records: _Records
    client: ClientConfig
    time: Callable[[], float]
    next_step: Callable[[AuthenticationRequest | Transaction], Call]
    """Begins or resumes; the call returns the next step, or ``None`` after the last one."""
    pause: Callable[[float], Any]
    as_requested: bool

    def begin(self, request: AuthenticationRequest) -> Flow[Session]:
        found, revision = yield from self.records.load()
        if found is not None:
            found.check_over(self.time())
        return (yield from self._drive(StoredLogin.begin(self.client), revision, request))

    def resume(self) -> Flow[Session]:
        login, revision = yield from self.records.load()
        if login is not None and (seconds := login.seconds_busy(self.time())):
            yield partial(self.pause, seconds)
            seen = revision
            login, revision = yield from self.records.load()
            if revision != seen and not (login is not None and login.is_finished):
                raise StoreConflict("another process is going on with this login")
        if login is None:
            raise NoPendingLogin("session_key: no login is stored under it")
        start = None if login.is_finished else login.transaction
        return (yield from self._drive(login, revision, start))

    def _drive(
        self, login: StoredLogin, revision: str | None, start: AuthenticationRequest | Transaction | None
    ) -> Flow[Session]:
        if start is not None:
            next_step = self.next_step(start)
            while (current := (yield next_step)) is not None:
                now = self.time()
                login = login.at(current, now)
                revision = yield from self.records.save(login, revision, now)
        return (yield from self._finish(login, revision))

    def _finish(self, login: StoredLogin, revision: str | None) -> Flow[Session]:
        tokens = _tokens(login.transaction)
        old = yield from self.records.load_session()
        if old is not None and old.login == login.id:
            # Stored by a process that ended right then. It may have been renewed since.
            session = old
        elif tokens is None:
            raise NoPendingLogin("session_key: the login is over, and its session is not there any more")
        else:
            new = Session(tokens, login.id)
            session = new if old is None else old.replaced_by(new)
        if self.as_requested:
            session.tokens.require_as_requested()
        if session is not old:
            session = yield from self.records.save_session(session)
        if tokens is not None:
            yield from self.records.save(login.stored(), revision, self.time())
        return session


def _tokens(transaction: Transaction | None) -> TokenResponse | None:
    if transaction is None:
        return None
    if transaction.error is not None:
        # Not a copy, as elsewhere: nobody has this transaction beside the login that ends here.
        raise transaction.error
    return transaction.tokens


class _LoginClient:
    """What a login needs of the client that it is a part of."""

    client: ClientConfig
    provider: ProviderMetadata
    _time: Callable[[], float]

    def _records(self, stores: Stores | AsyncStores, session_key: str, store_options: Any) -> _Records:
        codec = LoginRecords(
            client=self.client, provider=self.provider, sealer=stores.sealer, session_key=session_key
        )
        return _Records(codec, stores.transactions, stores.sessions, store_options)


class SyncLogin(_LoginClient):
    """The part of a sync client that keeps its state in stores."""

    @abstractmethod
    def steps(
        self, start: AuthenticationRequest | Transaction, *, cancellation: Cancellation | None = None
    ) -> Iterator[Step]:
        """Yield each step before acting on it."""

    @abstractmethod
    def _wait(self, seconds: float, cancellation: Cancellation, held: None) -> object:
        """Wait, or until it is cancelled."""

    def login_backchannel(
        self,
        request: AuthenticationRequest,
        *,
        stores: Stores,
        session_key: str,
        store_options: Any = None,
        as_requested: bool = False,
        cancellation: Cancellation | None = None,
    ) -> Session:
        """Ask the user, wait for the decision, and store the tokens as the session of a key.

        Whatever is sent was stored before. If the process ends, or this raises `StoreError`, go on by
        `resume_pending`: the user is not prompted again. What an answer brought and could not be stored is
        lost (`AcknowledgementLost`, `TokenResponseLost`).

        Args:
            request: what to ask for, and whom.
            stores: where logins and sessions are kept.
            session_key: the application's name for the session: a session identifier, a task's name. One
                login at a time is under way for it.
            store_options: handed to the stores as it is.
            as_requested: accept only what was requested; ``session.tokens.grant`` has the comparison anyway.
            cancellation: ends the login from another thread.

        Raises:
            LoginUnderWay: an earlier login of this session key has not come to its end; nothing was sent.
            GrantDiffers: less, more or other was granted. The tokens stay with the
                login: resume it without `as_requested` to take them, or remove it from its store.
            SessionOfAnotherUser: there is a session, and not of the user who approved; nothing was changed.
            StoreError: what is stored cannot be used, or somebody else changed it.
            CibaError: any other end, as from `authenticate`.

        """
        records = self._records(stores, session_key, store_options)
        return self._run_login(lambda login: login.begin(request), records, as_requested, cancellation)

    def resume_pending(
        self,
        *,
        stores: Stores,
        session_key: str,
        store_options: Any = None,
        as_requested: bool = False,
        cancellation: Cancellation | None = None,
    ) -> Session:
        """Go on with the login of a session key until its end, after a restart or in another process.

        A login that has ended gives its outcome again, for a day. If a request was under way, or being
        signed, when the login was stored last, this first waits as long as that may take: another process may
        be at it.

        The arguments are those of `login_backchannel`.

        Raises:
            NoPendingLogin: nothing is stored of a login.
            StoreConflict: another process is going on with it.
            AcknowledgementLost: the process ended while the authentication request was under way. The user
                may have been prompted: whether to log in anew is for the application to decide.
            CibaError: any other end, as from `login_backchannel`.

        """
        records = self._records(stores, session_key, store_options)
        return self._run_login(_Login.resume, records, as_requested, cancellation)

    def load_session(self, *, stores: Stores, session_key: str, store_options: Any = None) -> Session | None:
        """Return the session of a key, or ``None``.

        Raises:
            StoreError: what is stored cannot be used.

        """
        records = self._records(stores, session_key, store_options)
        return self._run(records.load_session())

    def renew_session(
        self,
        session: Session,
        tokens: TokenResponse,
        *,
        stores: Stores,
        session_key: str,
        store_options: Any = None,
    ) -> Session:
        """Store the tokens that a session's own were refreshed to, and return the session with them.

        Args:
            session: as it was loaded, or returned last.
            tokens: what `refresh` made of ``session.tokens``.
            stores: where the session is kept.
            session_key: its key.
            store_options: handed to the stores as it is.

        Raises:
            SessionOfAnotherUser: the tokens are not of the session's user.
            StoreConflict: somebody else changed or removed the session; theirs stands.

        """
        records = self._records(stores, session_key, store_options)
        return self._run(records.save_session(session.renewed(tokens)))

    def _run_login(
        self,
        start: Callable[[_Login], Flow[Session]],
        records: _Records,
        as_requested: bool,
        cancellation: Cancellation | None,
    ) -> Session:
        with contextlib.ExitStack() as stack:

            def next_step(what: AuthenticationRequest | Transaction) -> Call:
                steps = self.steps(what, cancellation=cancellation)
                stack.callback(cast("Generator[Step]", steps).close)
                return lambda: next(steps, None)

            def pause(seconds: float) -> None:
                self._wait(seconds, cancellation or Cancellation(), None)
                if cancellation is not None and cancellation.cancelled:
                    # Whoever is waited for may get the answer yet: the login is left as it is.
                    raise AuthenticationCancelled("cancelled while another process may be at this login")

            login = _Login(records, self.client, self._time, next_step, pause, as_requested)
            return self._run(start(login))

    @staticmethod
    def _run(flow: Flow[ResultT]) -> ResultT:
        result: Any = None
        while True:
            try:
                call = flow.send(result)
            except StopIteration as end:
                return cast("ResultT", end.value)
            result = call()


class AsyncLogin(_LoginClient):
    """The part of an async client that keeps its state in stores, whose methods are awaited or not."""

    @abstractmethod
    def steps(self, start: AuthenticationRequest | Transaction) -> AsyncGenerator[Step, None]:
        """Yield each step before acting on it."""

    @abstractmethod
    async def _wait(self, seconds: float, held: None) -> object:
        """Wait."""

    async def login_backchannel(
        self,
        request: AuthenticationRequest,
        *,
        stores: Stores | AsyncStores,
        session_key: str,
        store_options: Any = None,
        as_requested: bool = False,
    ) -> Session:
        """Ask the user, wait for the decision, and store the tokens as the session of a key.

        Whatever is sent was stored before. If the process or the task ends, or this raises `StoreError`, go
        on by `resume_pending`: the user is not prompted again. What an answer brought and could not be stored
        is lost (`AcknowledgementLost`, `TokenResponseLost`).

        Args:
            request: what to ask for, and whom.
            stores: where logins and sessions are kept.
            session_key: the application's name for the session: a session identifier, a task's name. One
                login at a time is under way for it.
            store_options: handed to the stores as it is.
            as_requested: accept only what was requested; ``session.tokens.grant`` has the comparison anyway.

        Raises:
            LoginUnderWay: an earlier login of this session key has not come to its end; nothing was sent.
            GrantDiffers: less, more or other was granted. The tokens stay with the
                login: resume it without `as_requested` to take them, or remove it from its store.
            SessionOfAnotherUser: there is a session, and not of the user who approved; nothing was changed.
            StoreError: what is stored cannot be used, or somebody else changed it.
            CibaError: any other end, as from `authenticate`.

        """
        records = self._records(stores, session_key, store_options)
        return await self._run_login(lambda login: login.begin(request), records, as_requested)

    async def resume_pending(
        self,
        *,
        stores: Stores | AsyncStores,
        session_key: str,
        store_options: Any = None,
        as_requested: bool = False,
    ) -> Session:
        """Go on with the login of a session key until its end, after a restart or in another process.

        A login that has ended gives its outcome again, for a day. If a request was under way, or being
        signed, when the login was stored last, this first waits as long as that may take: another process may
        be at it.

        The arguments are those of `login_backchannel`.

        Raises:
            NoPendingLogin: nothing is stored of a login.
            StoreConflict: another process is going on with it.
            AcknowledgementLost: the process ended while the authentication request was under way. The user
                may have been prompted: whether to log in anew is for the application to decide.
            CibaError: any other end, as from `login_backchannel`.

        """
        records = self._records(stores, session_key, store_options)
        return await self._run_login(_Login.resume, records, as_requested)

    async def load_session(
        self, *, stores: Stores | AsyncStores, session_key: str, store_options: Any = None
    ) -> Session | None:
        """Return the session of a key, or ``None``.

        Raises:
            StoreError: what is stored cannot be used.

        """
        records = self._records(stores, session_key, store_options)
        return await self._run(records.load_session())

    async def renew_session(
        self,
        session: Session,
        tokens: TokenResponse,
        *,
        stores: Stores | AsyncStores,
        session_key: str,
        store_options: Any = None,
    ) -> Session:
        """Store the tokens that a session's own were refreshed to, and return the session with them.

        Args:
            session: as it was loaded, or returned last.
            tokens: what `refresh` made of ``session.tokens``.
            stores: where the session is kept.
            session_key: its key.
            store_options: handed to the stores as it is.

        Raises:
            SessionOfAnotherUser: the tokens are not of the session's user.
            StoreConflict: somebody else changed or removed the session; theirs stands.

        """
        records = self._records(stores, session_key, store_options)
        return await self._run(records.save_session(session.renewed(tokens)))

    async def _run_login(
        self,
        start: Callable[[_Login], Flow[Session]],
        records: _Records,
        as_requested: bool,
    ) -> Session:
        async with contextlib.AsyncExitStack() as stack:

            def next_step(what: AuthenticationRequest | Transaction) -> Call:
                steps = self.steps(what)
                stack.push_async_callback(steps.aclose)
                return lambda: anext(steps, None)

            def pause(seconds: float) -> Awaitable[object]:
                return self._wait(seconds, None)

            login = _Login(records, self.client, self._time, next_step, pause, as_requested)
            return await self._run(start(login))

    @staticmethod
    async def _run(flow: Flow[ResultT]) -> ResultT:
        result: Any = None
        while True:
            try:
                call = flow.send(result)
            except StopIteration as end:
                return cast("ResultT", end.value)
            result = call()
            if inspect.isawaitable(result):
                result = await result
