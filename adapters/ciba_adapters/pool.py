"""Many authentications at once, within limits for each provider.

A client does one authentication per call of `authenticate`. A pool does thousands side by side, of one or
several clients and providers::

    async with AsyncPool(ciba, limits=ProviderLimits(in_flight=10, rate=50)) as pool:
        tokens = await pool.authenticate(request)

It sends no more than the limits allow. A burst of starts waits in line and does not fail because connections
run out; polls are never early; a key set is fetched once for all. The pool uses the clients' sessions for
requests, their ``sign`` for signatures, and their endpoints for callbacks of ping and push.

At the end of the block the pool brings the requests that are under way to their end. It leaves all other
authentications as they are, and lists them in `PoolRest`: no approval is lost.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Final, Self

from ciba_adapters._async import AsyncClient
from ciba_adapters._async import send as send_async
from ciba_adapters._async import signatures as signatures_async
from ciba_adapters._cancellation import Cancellation
from ciba_adapters._missing import missing_extra
from ciba_adapters._pool import MemberBase, PoolBase, PoolClosed, PoolRest
from ciba_adapters._session import of_kind
from ciba_adapters._sync import SyncClient, send, signatures
from ciba_core import (
    AuthenticationRequest,
    Delivery,
    ProviderLimits,
    RequestFailed,
    Send,
    Sign,
    TokenResponse,
    Transaction,
)
from ciba_core.errors import LocalProtocolError
from ciba_core.events import Event

try:
    import anyio
    import anyio.abc
    import anyio.lowlevel
except ImportError as error:
    raise missing_extra("pool", error) from error

__all__ = ["AsyncMember", "AsyncPool", "Member", "Pool", "PoolClosed", "PoolRest"]

_MOST_THREADS: Final = 31
"""Each exchange takes a second thread. With the pool's own threads there are fewer than 64."""


class AsyncMember(MemberBase):
    """One authentication in an `AsyncPool`.

    `is_done` tells whether it has ended. `cancel()` stops it, from any thread: a request that is under way is
    brought to its end, and the result is `AuthenticationCancelled`, unless another end came first.
    """

    __slots__ = ()

    async def result(self) -> TokenResponse:
        """Wait for the end; returns and raises as `AsyncClient.authenticate` does.

        The event loop can cancel the wait; the authentication goes on.

        Raises:
            PoolClosed: the pool was closed before; the error has the transaction.

        """
        while not self.is_done:
            await self._wait_async(lambda: self.is_done)
        return self._outcome()

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield what happens, to the end; each event once.

        Raises:
            LocalProtocolError: `start` was not told to keep them.

        """
        taken = self._taken_events()
        while taken or not self.is_done:
            while taken:
                yield taken.popleft()
            if not self.is_done:
                await self._wait_async(self._has_news)


class AsyncPool(PoolBase[AsyncClient[Any], AsyncMember]):
    """Any number of authentications in tasks of asyncio or trio; to be used within ``async with``.

    `len(pool)` is the number of authentications that have not ended; after the end of the block, `rest` is a
    `PoolRest`.

    Args:
        clients: the clients whose authentications the pool does; of one or several providers.
        limits: the most that is asked of each provider. The session's pool of connections need not be as
            large, as long as the provider answers within a client's ``connect_timeout``.
        limits_of: other limits for some providers, by issuer.
        start_limit: authentications whose request is not acknowledged yet, at most; `start` waits meanwhile.

    Raises:
        TypeError: a client is not async.
        LocalProtocolError: there is no client, two have different clocks, or `start_limit` is not positive.

    """

    def __init__(
        self,
        *clients: AsyncClient[Any],
        limits: ProviderLimits | None = None,
        limits_of: Mapping[str, ProviderLimits] | None = None,
        start_limit: int = 1000,
    ) -> None:
        for client in clients:
            of_kind("clients", client, AsyncClient)
        super().__init__(*clients, limits=limits, limits_of=limits_of, start_limit=start_limit)
        self._places = anyio.Semaphore(start_limit)
        self._tasks: anyio.abc.TaskGroup | None = None
        self._ended = anyio.Event()

    async def authenticate(
        self, request: AuthenticationRequest, *, client: AsyncClient[Any] | None = None
    ) -> TokenResponse:
        """Ask the user and wait for the decision; see `AsyncClient.authenticate`.

        Args:
            request: what to ask.
            client: the client that asks; may be left out if the pool has only one.

        Raises:
            PoolClosed: the pool was closed before the authentication ended; the error has the transaction.
            LocalProtocolError: the client is not one of the pool's.
            CibaError: any other end; see `ciba_core.errors`.

        """
        member = await self.start(request, client=client)
        try:
            return await member.result()
        finally:
            if not member.is_done:  # the event loop has cancelled it
                self.drop(member)

    async def start(
        self,
        request: AuthenticationRequest,
        *,
        client: AsyncClient[Any] | None = None,
        events: bool = False,
    ) -> AsyncMember:
        """Put a request in line and return at once, unless `start_limit` of them are not acknowledged yet.

        Args:
            request: what to ask.
            client: the client that asks; may be left out if the pool has only one.
            events: keep what happens for `AsyncMember.events`.

        Raises:
            PoolClosed: the pool is closed, or was closed meanwhile.
            LocalProtocolError: the pool is not open, or the client is not one of its own.

        """
        member = AsyncMember(self, self._client(client), events=events)
        self._check_open()
        await self._places.acquire()
        if self._is_closing:
            self._places.release()
        self._check_open()
        self.begin(member, request)
        return member

    async def resume(self, transaction: Transaction, *, events: bool = False) -> AsyncMember:
        """Go on with a transaction of one of the pool's clients, such as one of `PoolRest`.

        Raises:
            PoolClosed: the pool is closed.
            LocalProtocolError: the pool is not open, or has no client for it.

        """
        member = AsyncMember(self, self._client_of(transaction), events=events)
        self._check_open()
        self.take_in(member, transaction)
        return member

    async def close(self) -> PoolRest:
        """Bring the requests under way to their end, leave all else as it is, and return what is left.

        The end of the ``async with`` block does it too; `rest` has the result.

        Raises:
            PoolClosed: it was closed already.

        """
        self._begin_to_close()
        await self._ended.wait()
        return self.rest

    async def __aenter__(self) -> Self:
        self._open_once()
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._run)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._tasks is not None  # noqa: S101  # it was opened; for the type checker
        try:
            if not self._is_closing:
                await self.close()
        finally:
            self._tasks.cancel_scope.cancel()
            await self._tasks.__aexit__(None, None, None)

    async def _run(self) -> None:
        try:
            while self._turn():
                # In virtual time, tasks that are ready run before the time passes.
                await anyio.lowlevel.checkpoint()
                await self._bell.wait_async(self._let_time_pass(), self._has_job)
        finally:
            self._finish()
            self._ended.set()

    def _release_start(self) -> None:
        self._places.release()

    def _spawn_send(self, member: AsyncMember, action: Send) -> None:
        assert self._tasks is not None  # noqa: S101  # its loop runs in it; for the type checker
        self._tasks.start_soon(self._exchange, member, action)

    def _spawn_sign(self, member: AsyncMember, action: Sign, seconds: float | None) -> None:
        assert self._tasks is not None  # noqa: S101  # likewise
        self._tasks.start_soon(self._signed, member, action, seconds)

    async def _exchange(self, member: AsyncMember, action: Send) -> None:
        try:
            happened = await send_async(member.client, action.request)
        except Exception as problem:  # noqa: BLE001  # of a transport of the embedder's own
            self._answered(member, action.handle, _failed(action, problem), problem)
        else:
            self._answered(member, action.handle, happened)

    async def _signed(self, member: AsyncMember, action: Sign, seconds: float | None) -> None:
        try:
            happened = await signatures_async(member.client, action.draft, seconds)
        except LocalProtocolError as problem:
            self._answered(member, action.handle, None, problem)
        else:
            self._answered(member, action.handle, happened)


class Member(MemberBase):
    """One authentication in a `Pool`.

    `is_done` tells whether it has ended. `cancel()` stops it, from any thread: a request that is under way is
    brought to its end, and the result is `AuthenticationCancelled`, unless another end came first.
    """

    __slots__ = ()

    def result(self, *, cancellation: Cancellation | None = None) -> TokenResponse:
        """Wait for the end; returns and raises as `SyncClient.authenticate` does.

        Raises:
            PoolClosed: the pool was closed before; the error has the transaction.

        """
        while not self.is_done:
            if cancellation is not None and cancellation.cancelled:
                self.cancel()
                cancellation = None
            self._wait(lambda: self.is_done, cancellation)
        return self._outcome()

    def events(self) -> Iterator[Event]:
        """Yield what happens, to the end; each event once.

        Raises:
            LocalProtocolError: `start` was not told to keep them.

        """
        taken = self._taken_events()
        while taken or not self.is_done:
            while taken:
                yield taken.popleft()
            if not self.is_done:
                self._wait(self._has_news)


class Pool(PoolBase[SyncClient[Any], Member]):
    """Any number of authentications in a few threads; to be used within ``with``. Safe from any thread.

    `len(pool)` is the number of authentications that have not ended; after the end of the block, `rest` is a
    `PoolRest`.

    Args:
        clients: the clients whose authentications the pool does; of one or several providers.
        limits: the most that is asked of each provider.
        limits_of: other limits for some providers, by issuer.
        start_limit: authentications whose request is not acknowledged yet, at most; `start` waits meanwhile.
        threads: requests that are under way at the same time, to all providers together: from 1 to 31. An
            exchange takes two threads, so that it can be given up: there are fewer than 64.

    Raises:
        TypeError: a client is not a sync one.
        LocalProtocolError: there is no client, two have different clocks, or a number is out of its range.

    """

    def __init__(
        self,
        *clients: SyncClient[Any],
        limits: ProviderLimits | None = None,
        limits_of: Mapping[str, ProviderLimits] | None = None,
        start_limit: int = 1000,
        threads: int = _MOST_THREADS,
    ) -> None:
        for client in clients:
            of_kind("clients", client, SyncClient)
        super().__init__(*clients, limits=limits, limits_of=limits_of, start_limit=start_limit)
        if not 1 <= threads <= _MOST_THREADS:
            raise LocalProtocolError(f"threads must be from 1 to {_MOST_THREADS}")
        self._places = threading.Semaphore(start_limit)
        self._workers = ThreadPoolExecutor(threads, "ciba pool")
        self._thread = threading.Thread(target=self._run, name="ciba pool", daemon=True)

    def authenticate(
        self,
        request: AuthenticationRequest,
        *,
        client: SyncClient[Any] | None = None,
        cancellation: Cancellation | None = None,
    ) -> TokenResponse:
        """Ask the user and wait for the decision; see `SyncClient.authenticate`.

        Args:
            request: what to ask.
            client: the client that asks; may be left out if the pool has only one.
            cancellation: ends the authentication from another thread.

        Raises:
            PoolClosed: the pool was closed before the authentication ended; the error has the transaction.
            LocalProtocolError: the client is not one of the pool's.
            CibaError: any other end; see `ciba_core.errors`.

        """
        member = self.start(request, client=client)
        try:
            return member.result(cancellation=cancellation)
        finally:
            if not member.is_done:  # by Ctrl+C
                self.drop(member)

    def start(
        self, request: AuthenticationRequest, *, client: SyncClient[Any] | None = None, events: bool = False
    ) -> Member:
        """Put a request in line and return at once, unless `start_limit` of them are not acknowledged yet.

        Args:
            request: what to ask.
            client: the client that asks; may be left out if the pool has only one.
            events: keep what happens for `Member.events`.

        Raises:
            PoolClosed: the pool is closed, or was closed meanwhile.
            LocalProtocolError: the pool is not open, or the client is not one of its own.

        """
        member = Member(self, self._client(client), events=events)
        self._check_open()
        self._places.acquire()
        if self._is_closing:
            self._places.release()
        self._check_open()
        self.begin(member, request)
        return member

    def resume(self, transaction: Transaction, *, events: bool = False) -> Member:
        """Go on with a transaction of one of the pool's clients, such as one of `PoolRest`.

        Raises:
            PoolClosed: the pool is closed.
            LocalProtocolError: the pool is not open, or has no client for it.

        """
        member = Member(self, self._client_of(transaction), events=events)
        self._check_open()
        self.take_in(member, transaction)
        return member

    def close(self) -> PoolRest:
        """Bring the requests under way to their end, leave all else as it is, and return what is left.

        The end of the ``with`` block does it too; `rest` has the result.

        Raises:
            PoolClosed: it was closed already.

        """
        self._begin_to_close()
        self._thread.join()
        self._workers.shutdown()
        return self.rest

    def __enter__(self) -> Self:
        self._open_once()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._is_closing:
            self.close()

    def _run(self) -> None:
        try:
            while self._turn():
                self._bell.wait(self._let_time_pass(), self._has_job)
        finally:
            self._finish()

    def _release_start(self) -> None:
        self._places.release()

    def _spawn_send(self, member: Member, action: Send) -> None:
        self._workers.submit(self._exchange, member, action)

    def _spawn_sign(self, member: Member, action: Sign, seconds: float | None) -> None:  # noqa: ARG002  # no thread can be interrupted
        self._workers.submit(self._signed, member, action)

    def _exchange(self, member: Member, action: Send) -> None:
        try:
            happened = send(member.client, action.request)
        except Exception as problem:  # noqa: BLE001  # of a transport of the embedder's own
            self._answered(member, action.handle, _failed(action, problem), problem)
        else:
            self._answered(member, action.handle, happened)

    def _signed(self, member: Member, action: Sign) -> None:
        try:
            happened = signatures(member.client, action.draft)
        except LocalProtocolError as problem:
            self._answered(member, action.handle, None, problem)
        else:
            self._answered(member, action.handle, happened)


def _failed(action: Send, problem: Exception) -> RequestFailed:
    return RequestFailed(action.request.id, Delivery.UNKNOWN, type(problem).__name__, None)
