"""Claims with saves in database servers: the stores against commands written for nothing else.

Four workers, each a process, claim batches of 100 due records of 1,100 octets and save each again, due at
once, so that there is always work. The reference saves a whole batch by one command, and has no callbacks, no
age, no answer to a save that comes twice, and nothing that is forgotten. Counted is the time that passes, the
server's work included.
"""

from __future__ import annotations

import multiprocessing
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

import psycopg
import redis
from psycopg_pool import ConnectionPool

from benchmarks.measure import Fact, Goal, Result, Round, Scale, compare
from ciba_adapters.stores.postgres import PostgresStore
from ciba_adapters.stores.redis import RedisStore
from ciba_core import ClaimingStore
from tests.servers.running import ServerMissing, running_postgres, running_redis

__all__ = ["rows"]

WORKERS: Final = 4
BATCH: Final = 100
RECORDS: Final = 10_000
LEASE: Final = 40.0
THREADS: Final = 8
"""Saves of one worker at the same time: each is a login of its own."""

Slice = Callable[[int], None]
"""Claims and saves so many batches."""
_NOW: Final = "extract(epoch FROM statement_timestamp())"
_CLAIM: Final = f"""UPDATE bare SET lease_until = {_NOW} + {LEASE}, revision = bare.revision + 1
    FROM (SELECT key FROM bare WHERE wake_at <= {_NOW} AND lease_until <= {_NOW}
        ORDER BY wake_at LIMIT {BATCH} FOR UPDATE SKIP LOCKED) AS due
    WHERE bare.key = due.key RETURNING bare.key, bare.revision, bare.text"""
_SAVE: Final = f"""UPDATE bare
    SET text = saved.text, revision = bare.revision + 1, wake_at = {_NOW}, lease_until = 0
    FROM unnest(%s::text[], %s::bigint[], %s::text[]) AS saved (key, revision, text)
    WHERE bare.key = saved.key AND bare.revision = saved.revision"""
_REDIS_CLAIM: Final = """local now = tonumber(redis.call('TIME')[1])
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
local found = {}
for _, key in ipairs(due) do
    redis.call('ZADD', KEYS[1], now + ARGV[2], key)
    found[#found + 1] = key
    found[#found + 1] = redis.call('GET', 'bare:' .. key)
end
return found"""
_REDIS_SAVE: Final = """local now = redis.call('TIME')[1]
for at = 1, #ARGV, 2 do
    redis.call('SET', 'bare:' .. ARGV[at], ARGV[at + 1])
    redis.call('ZADD', KEYS[1], now, ARGV[at])
end"""


def _text() -> str:
    return "e" * 1060 + secrets.token_hex(20)


# What a worker has open, for as long as its process lives.


def _bare_postgres(where: str) -> Slice:
    connection = psycopg.connect(where, autocommit=True)

    def work(batches: int) -> None:
        for _ in range(batches):
            claimed = connection.execute(_CLAIM.encode(), prepare=True).fetchall()
            connection.execute(
                _SAVE.encode(), [list(column) for column in zip(*claimed, strict=True)], prepare=True
            )

    return work


def _postgres(where: str) -> Slice:
    pool = ConnectionPool(where, kwargs={"autocommit": True}, min_size=THREADS, max_size=THREADS, open=True)
    return _store(PostgresStore(pool, "transactions"))


def _bare_redis(where: str) -> Slice:
    client = redis.Redis(port=int(where))
    claim, save = client.register_script(_REDIS_CLAIM), client.register_script(_REDIS_SAVE)

    def work(batches: int) -> None:
        for _ in range(batches):
            found: Any = claim(keys=["bare-due"], args=[BATCH, LEASE])
            save(keys=["bare-due"], args=found)

    return work


def _redis(where: str) -> Slice:
    return _store(RedisStore(redis.Redis(port=int(where)), "transactions"))


def _store(store: ClaimingStore) -> Slice:
    threads = ThreadPoolExecutor(THREADS)

    def work(batches: int) -> None:
        for _ in range(batches):
            claimed = store.claim(BATCH, LEASE).claimed
            saves = [
                threads.submit(
                    store.save,
                    one.key,
                    one.record.text,
                    expected_revision=one.record.revision,
                    wake_after=0.0,
                )
                for one in claimed
            ]
            for save in saves:
                save.result()

    return work


_OPENERS: Final = {
    "postgres": _postgres,
    "bare postgres": _bare_postgres,
    "redis": _redis,
    "bare redis": _bare_redis,
}
_open: dict[tuple[str, str], Slice] = {}


def _work(name: str, where: str, batches: int) -> None:
    work = _open.get((name, where))
    if work is None:
        work = _open[name, where] = _OPENERS[name](where)
    work(batches)


def _turn(workers: Any, name: str, where: str, batches: int) -> Round:
    """Return a round: what passes until all workers are done, for each record, in microseconds."""

    def turn() -> float:
        before = time.perf_counter()
        workers.starmap(_work, [(name, where, batches)] * WORKERS, chunksize=1)
        return (time.perf_counter() - before) / (WORKERS * batches * BATCH) * 1e6

    return turn


def _fill_postgres(where: str) -> None:
    with ConnectionPool(where, min_size=1) as pool:
        PostgresStore(pool, "transactions").load("key")
    with psycopg.connect(where, autocommit=True) as connection:
        connection.execute(
            """CREATE TABLE bare (key text PRIMARY KEY, revision bigint NOT NULL, text text NOT NULL,
            wake_at double precision, lease_until double precision NOT NULL DEFAULT 0)
            WITH (fillfactor = 80)"""
        )
        connection.execute("CREATE INDEX ON bare (wake_at) WHERE wake_at IS NOT NULL")
        with connection.cursor().copy("COPY bare (key, revision, text, wake_at) FROM STDIN") as copy:
            for number in range(RECORDS):
                copy.write_row((f"key {number}", 1, _text(), number / RECORDS))
        connection.execute(
            """INSERT INTO ciba_transactions (key, revision, text, saved_at, wake_at, lease_until)
            SELECT key, revision::text, text, 0, wake_at, 0 FROM bare"""
        )
        connection.execute("ANALYZE")


def _fill_redis(where: str) -> None:
    with redis.Redis(port=int(where)) as client:
        store = RedisStore(client, "transactions")
        pipeline = client.pipeline(transaction=False)  # pyright: ignore[reportUnknownMemberType]
        for number in range(RECORDS):
            pipeline.set(f"bare:key {number}", _text())
            pipeline.zadd("bare-due", {f"key {number}": 0})
        pipeline.execute()
        for number in range(RECORDS):
            store.save(f"key {number}", _text(), expected_revision=None, wake_after=0.0)


def rows(scale: Scale) -> Iterator[Result]:
    """Measure both databases, where they are installed."""
    servers: Sequence[tuple[str, Any, Any]] = (
        ("PostgreSQL", partial(running_postgres, fsync=True), _fill_postgres),
        ("Redis", running_redis, _fill_redis),
    )
    batches = max(scale.pieces // 20, 1)
    for title, running, fill in servers:
        kind = {"PostgreSQL": "postgres", "Redis": "redis"}[title]
        with ExitStack() as stack:
            try:
                server = stack.enter_context(running())
            except ServerMissing as missing:
                yield Fact(group="stores", name=title, text=f"skipped: {missing}")
                continue
            where = str(server.port)
            if kind == "postgres":
                where = f"host=127.0.0.1 port={server.port} user=tester dbname=postgres"
            fill(where)
            workers = stack.enter_context(multiprocessing.get_context("spawn").Pool(WORKERS))
            yield compare(
                _turn(workers, kind, where, batches),
                _turn(workers, f"bare {kind}", where, batches),
                rounds=scale.rounds,
                group="stores",
                name=f"{title}: claimed by hundreds, saved one by one",
                reference_name="bare commands, a batch at a time",
                unit="µs",
                goal=Goal(1.25),
            )
