"""The stores on database servers, sync and async, in one form: so that one text tests them all."""

from __future__ import annotations

import asyncio
import inspect
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, Final

import psycopg
import redis
import redis.asyncio
import redis.asyncio.retry
import redis.backoff
import redis.retry
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from ciba_adapters.stores.postgres import (
    AsyncPostgresRoutes,
    AsyncPostgresStore,
    PostgresRoutes,
    PostgresStore,
    async_postgres_stores,
    postgres_stores,
)
from ciba_adapters.stores.redis import (
    AsyncRedisRoutes,
    AsyncRedisStore,
    RedisRoutes,
    RedisStore,
    async_redis_stores,
    redis_stores,
)
from ciba_core.testing import StoreReport

from .running import Postgres, Redis, Server

SECRET: Final = "a secret of at least thirty-two octets"
Makers = dict[str, Callable[[], Any]]
"""Make the stores of a login, the store of a table, and that of routes."""
Make = Callable[[str], Any]
Work = Callable[[Make], Awaitable[None]]


class Settled:
    """A store whose methods are awaited, whether or not they need it."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._store, name)

        async def call(*arguments: Any, **options: Any) -> Any:
            result = method(*arguments, **options)
            return await result if inspect.isawaitable(result) else result

        return call


class Kind(ABC):
    """A kind of store, over a database of its own."""

    server_fixture: ClassVar[str]
    is_async: ClassVar[bool] = False
    answers_to_a_save: ClassVar[int] = 1

    def __init__(self, server: Server) -> None:
        self.server = server
        self.port = server.port
        """Where stores connect to."""
        self.timeout = 5.0
        """Seconds that they wait for a connection."""

    @abstractmethod
    def connected(self) -> AbstractAsyncContextManager[Makers]:
        """Connect, as one process does."""

    @abstractmethod
    def make_newer(self) -> None:
        """Make what is stored one of a later release."""

    @abstractmethod
    def make_full(self) -> None:
        """Let the database have no room for more."""

    @abstractmethod
    def make_read_only(self) -> None:
        """Let the database refuse to write."""

    @abstractmethod
    def set_right(self) -> None:
        """Take back what the last two did."""

    def run(self, work: Work) -> None:
        """Do something with stores that are settled."""

        async def main() -> None:
            async with self.connected() as makers:
                await work(lambda name: Settled(makers[name]()))

        asyncio.run(main())

    def check(self, check: Callable[..., StoreReport], table: str, **options: Any) -> None:
        """Let a check of `ciba_core.testing` look at the store."""
        made: ContextVar[Makers] = ContextVar("made")

        def run(work: Callable[[], Awaitable[Any]]) -> Any:
            async def main() -> Any:
                async with self.connected() as makers:
                    made.set(makers)
                    return await work()

            return asyncio.run(main())

        def made_now() -> Any:
            return made.get()[table]()

        async def sync() -> None:
            async with self.connected() as makers:
                check(makers[table], **options).raise_for_findings()

        if self.is_async:
            check(made_now, run=run, **options).raise_for_findings()
        else:
            asyncio.run(sync())


class PostgresKind(Kind):
    server_fixture = "postgres"
    connection_options: ClassVar[dict[str, Any]] = {"autocommit": True}

    def __init__(self, server: Postgres) -> None:
        super().__init__(server)
        self.role = "tester"
        self.settings = ""
        self.schema = f"test_{uuid.uuid4().hex}"
        """Each test has one of its own, in one database: that takes less time than a database."""
        with psycopg.connect(self.conninfo(database="postgres"), autocommit=True) as connection:
            if not connection.execute("SELECT FROM pg_database WHERE datname = 'tests'").fetchall():
                # One that orders texts as a dictionary does.
                connection.execute(
                    "CREATE DATABASE tests TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'"
                )
        self.execute(f"CREATE SCHEMA {self.schema}")

    def conninfo(
        self, *, database: str = "tests", port: int | None = None, role: str = "tester", settings: str = ""
    ) -> str:
        """Return where the tables are, for whoever connects."""
        where = f"host=127.0.0.1 port={port or self.server.port} user={role} dbname={database}"
        return f"{where} connect_timeout=10 options='-c search_path={self.schema} {settings}'"

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Carry out a statement, by a connection of its own."""
        with psycopg.connect(self.conninfo(), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def pool_options(self) -> dict[str, Any]:
        return {
            "conninfo": self.conninfo(port=self.port, role=self.role, settings=self.settings),
            "kwargs": self.connection_options,
            "min_size": 1,
            "max_size": 8,
            "timeout": self.timeout,
        }

    def make_newer(self) -> None:
        self.execute("UPDATE ciba_store SET version = version + 1")

    def make_full(self) -> None:
        # What the server says when its disk is full: to fill one takes the rights of an administrator.
        self.execute(
            """CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$"""
        )
        self.execute(
            """CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON ciba_transactions
            EXECUTE FUNCTION full_disk()"""
        )

    def make_read_only(self) -> None:
        self.settings = "-c default_transaction_read_only=on"

    def set_right(self) -> None:
        self.settings = ""
        self.execute("DROP FUNCTION IF EXISTS full_disk CASCADE")


class SyncPostgres(PostgresKind):
    @asynccontextmanager
    async def connected(self) -> AsyncGenerator[Makers]:
        with ConnectionPool(**self.pool_options(), open=True) as pool:
            yield {
                "stores": lambda: postgres_stores(pool, secrets=[SECRET]),
                "transactions": lambda: PostgresStore(pool, "transactions"),
                "sessions": lambda: PostgresStore(pool, "sessions"),
                "routes": lambda: PostgresRoutes(pool),
            }


class PostgresInTransactions(SyncPostgres):
    """Over connections that begin a transaction by themselves, the default of psycopg, and give rows as dicts."""

    connection_options: ClassVar[dict[str, Any]] = {"row_factory": dict_row}
    answers_to_a_save = 3  # to BEGIN, to the statement, and to COMMIT


class AsyncPostgres(PostgresKind):
    is_async = True

    @asynccontextmanager
    async def connected(self) -> AsyncGenerator[Makers]:
        async with AsyncConnectionPool(**self.pool_options(), open=False) as pool:
            yield {
                "stores": lambda: async_postgres_stores(pool, secrets=[SECRET]),
                "transactions": lambda: AsyncPostgresStore(pool, "transactions"),
                "sessions": lambda: AsyncPostgresStore(pool, "sessions"),
                "routes": lambda: AsyncPostgresRoutes(pool),
            }


class RedisKind(Kind):
    server_fixture = "redis_server"
    decode: ClassVar[bool] = False

    def __init__(self, server: Redis) -> None:
        super().__init__(server)
        self.execute("FLUSHALL")

    def execute(self, *command: str) -> Any:
        with redis.Redis(port=self.server.port) as client:
            return client.execute_command(*command)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]

    def make_newer(self) -> None:
        self.execute("INCR", "{ciba}:transactions:version")

    def make_full(self) -> None:
        self.execute("CONFIG", "SET", "maxmemory", "1")

    def make_read_only(self) -> None:
        self.execute("REPLICAOF", "127.0.0.1", "1")

    def set_right(self) -> None:
        self.execute("CONFIG", "SET", "maxmemory", "0")
        self.execute("REPLICAOF", "NO", "ONE")


class SyncRedis(RedisKind):
    @asynccontextmanager
    async def connected(self) -> AsyncGenerator[Makers]:
        with redis.Redis(
            port=self.port,
            socket_timeout=10,
            decode_responses=self.decode,
            # An answer that was lost is told at once, and not asked for again.
            retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0),
        ) as client:
            yield {
                "stores": lambda: redis_stores(client, secrets=[SECRET]),
                "transactions": lambda: RedisStore(client, "transactions"),
                "sessions": lambda: RedisStore(client, "sessions"),
                "routes": lambda: RedisRoutes(client),
            }


class DecodingRedis(SyncRedis):
    """Over a client that decodes what it reads."""

    decode = True


class AsyncRedis(RedisKind):
    is_async = True

    @asynccontextmanager
    async def connected(self) -> AsyncGenerator[Makers]:
        async with redis.asyncio.Redis(
            port=self.port,
            socket_timeout=10,
            retry=redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 0),
        ) as client:
            yield {
                "stores": lambda: async_redis_stores(client, secrets=[SECRET]),
                "transactions": lambda: AsyncRedisStore(client, "transactions"),
                "sessions": lambda: AsyncRedisStore(client, "sessions"),
                "routes": lambda: AsyncRedisRoutes(client),
            }


KINDS: Final[tuple[type[Kind], ...]] = (
    SyncPostgres,
    PostgresInTransactions,
    AsyncPostgres,
    SyncRedis,
    DecodingRedis,
    AsyncRedis,
)
