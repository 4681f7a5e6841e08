"""A process that uses a store for the first time, together with others."""

from __future__ import annotations

import sys

import redis
from psycopg_pool import ConnectionPool

from ciba_adapters.stores.postgres import PostgresStore
from ciba_adapters.stores.redis import RedisStore
from ciba_core.errors import StoreConflict


def main(kind: str, where: str) -> None:
    if kind == "SyncPostgres":
        with ConnectionPool(where, min_size=1, kwargs={"autocommit": True}) as pool:
            pool.wait()
            use(PostgresStore(pool, "transactions"))
    else:
        with redis.Redis(port=int(where)) as client:
            use(RedisStore(client, "transactions"))


def use(store: PostgresStore | RedisStore) -> None:
    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()
    try:
        store.save("key", "text", expected_revision=None)
    except StoreConflict:
        print("conflict")  # noqa: T201
    else:
        print("saved")  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
