"""A store in Redis (6.2 or newer): for any number of processes on any number of machines.

Over redis-py and a client that the application makes and closes::

    import redis

    client = redis.Redis.from_url("rediss://...", socket_timeout=5)
    stores = redis_stores(client, secrets=[...])

**Settings of the server.** A login must not be lost once a method has returned. Otherwise a user who was
asked would be asked again, and tokens that came would be gone.

- ``appendonly yes`` and ``appendfsync always`` are needed. With ``appendfsync everysec``, the default, a
  crash of the machine loses the last second, or two. With ``no`` it loses all that the operating system had
  not written, perhaps half a minute. Without ``appendonly`` any end of the server loses all since the last
  snapshot.
- ``maxmemory-policy noeviction``, the default. Any other policy drops logins when memory is short.
- Replicas get writes a little later: a failover loses those that had not reached the new server.

All keys begin with the prefix in braces, so that a cluster keeps them on one node. Each method is one run of
one script, and atomic.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from typing import Any, Final

from ciba_adapters._missing import missing_extra
from ciba_core import AsyncStores, Claimed, Claims, Secret, StoredCallback, StoredRecord, Stores
from ciba_core.errors import StoreConflict, StoreError, StoreUnavailable, UnknownStoreVersion

from ._server import (
    CALLBACKS,
    PURGED,
    AsyncRouteMethods,
    AsyncRunner,
    AsyncStoreMethods,
    Commands,
    Runner,
    SyncRouteMethods,
    SyncStoreMethods,
    Table,
    checked_table,
    new_revision,
)

try:
    import redis
    import redis.asyncio
except ImportError as error:
    raise missing_extra("redis", error, module="stores.redis") from error

__all__ = [
    "AsyncRedisRoutes",
    "AsyncRedisStore",
    "RedisRoutes",
    "RedisStore",
    "async_redis_stores",
    "redis_stores",
]

VERSION: Final = 1
# Of a table T: T:record:KEY is a hash, T:callbacks:KEY a list of "id text". Sorted sets of keys: T:due by the
# instant at which it can be claimed, T:forget by that at which it may be dropped, T:listed by name. Instants
# are POSIX seconds; an empty field has none.
_SCRIPT: Final = """
local base, op, key = KEYS[1], ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000

local function text_of(instant)
  return instant and string.format('%.6f', instant) or ''
end

local function record_of(name) return base .. ':record:' .. name end
local function callbacks_of(name) return base .. ':callbacks:' .. name end

local function drop(name)
  redis.call('DEL', record_of(name), callbacks_of(name))
  for _, set in ipairs({':due', ':listed', ':forget'}) do redis.call('ZREM', base .. set, name) end
end

local function purge(limit)
  local over = redis.call('ZRANGEBYSCORE', base .. ':forget', '-inf', text_of(now), 'LIMIT', 0, limit)
  for _, name in ipairs(over) do drop(name) end
  return #over
end

local function find(name)
  local found = redis.call('HMGET', record_of(name),
    'revision', 'wake_at', 'lease_until', 'forget_at', 'saved_at', 'text')
  if not found[1] then return nil end
  local record = {revision = found[1], wake_at = tonumber(found[2]), lease_until = tonumber(found[3]),
    saved_at = tonumber(found[5]), text = found[6]}
  local forget_at = tonumber(found[4])
  record.over = forget_at and forget_at <= now
  return record
end

local function live(name)
  local record = find(name)
  return record and not record.over and record or nil
end

local function answer(name, record)
  return {record.text, record.revision, text_of(now - record.saved_at),
    redis.call('LRANGE', callbacks_of(name), 0, -1)}
end

-- Note when a record can be claimed: when it is due and its lease is over, or never.
local function put(name, wake_at, lease_until)
  if wake_at then
    local instant = lease_until > now and math.max(wake_at, lease_until) or wake_at
    redis.call('ZADD', base .. ':due', text_of(instant), name)
    redis.call('ZADD', base .. ':listed', 0, name)
  else
    redis.call('ZREM', base .. ':due', name)
    redis.call('ZREM', base .. ':listed', name)
  end
end

-- When a record is due in some seconds, or in none: at once, if callbacks are left.
local function wake_at_of(name, seconds)
  if not seconds then return nil end
  return redis.call('EXISTS', callbacks_of(name)) == 1 and now or now + seconds
end

if op == 'version' then
  local version = redis.call('GET', base .. ':version')
  if version then return version end
  redis.call('SET', base .. ':version', ARGV[2])
  return ARGV[2]

elseif op == 'load' then
  local record = live(key)
  return record and answer(key, record)

elseif op == 'save' then
  local text, expected, revision = ARGV[3], ARGV[4], ARGV[5]
  local wake_after, lease = tonumber(ARGV[6]), tonumber(ARGV[7])
  local forget_at, forget_after = tonumber(ARGV[8]), tonumber(ARGV[9])
  local record = find(key)
  local there = record and not record.over and record.revision or ''
  if there == revision then return 1 end
  if there ~= expected then return 0 end
  if expected == '' then
    if record then drop(key) end
    purge(ARGV[10])
  end
  if forget_after then forget_at = now + forget_after end
  local lease_until = now + lease
  -- The first of what is written, if nothing was dropped: where memory is short, nothing is changed.
  redis.call('HSET', record_of(key), 'text', text, 'revision', revision, 'saved_at', text_of(now),
    'lease_until', text_of(lease_until), 'forget_at', text_of(forget_at))
  if #ARGV > 10 then
    local taken = {}
    for at = 11, #ARGV do taken[ARGV[at]] = true end
    for _, one in ipairs(redis.call('LRANGE', callbacks_of(key), 0, -1)) do
      if taken[string.match(one, '^%S+')] then redis.call('LREM', callbacks_of(key), 1, one) end
    end
  end
  local wake_at = wake_at_of(key, wake_after)
  redis.call('HSET', record_of(key), 'wake_at', text_of(wake_at))
  put(key, wake_at, lease_until)
  if forget_at then
    redis.call('ZADD', base .. ':forget', text_of(forget_at), key)
  else
    redis.call('ZREM', base .. ':forget', key)
  end
  return 1

elseif op == 'remove' then
  drop(key)
  return 1

elseif op == 'claim' then
  local limit, lease, revision = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
  local claimed = {}
  while #claimed < limit do
    local due = redis.call('ZRANGEBYSCORE', base .. ':due', '-inf', text_of(now),
      'LIMIT', 0, limit - #claimed)
    if #due == 0 then break end
    for _, name in ipairs(due) do
      local record = live(name)
      if record then
        record.revision = revision
        -- The smallest number that is behind now: what was claimed for no time at all is not met again here.
        local until_then = math.max(now + lease, now + 0.000001)
        redis.call('HSET', record_of(name), 'revision', revision, 'lease_until', text_of(until_then))
        redis.call('ZADD', base .. ':due', text_of(until_then), name)
        claimed[#claimed + 1] = {name, text_of(now - record.wake_at), answer(name, record)}
      else
        drop(name)
      end
    end
  end
  return {text_of(now), claimed}

elseif op == 'renew' then
  local record = live(key)
  if not record or record.revision ~= ARGV[3] then return 0 end
  local lease_until = now + tonumber(ARGV[4])
  redis.call('HSET', record_of(key), 'lease_until', text_of(lease_until))
  put(key, record.wake_at, lease_until)
  return 1

elseif op == 'release' then
  local record = live(key)
  if not record or record.revision ~= ARGV[3] then return 0 end
  local wake_at = wake_at_of(key, tonumber(ARGV[4]))
  redis.call('HSET', record_of(key), 'lease_until', 0, 'wake_at', text_of(wake_at))
  put(key, wake_at, 0)
  return 1

elseif op == 'deliver' then
  local id, text, limit = ARGV[3], ARGV[4], tonumber(ARGV[5])
  local record = live(key)
  if not record then return 0 end
  local kept = redis.call('LRANGE', callbacks_of(key), 0, -1)
  local there = false
  for _, one in ipairs(kept) do there = there or string.match(one, '^%S+ (.*)$') == text end
  if not there then
    if #kept >= limit then return 0 end
    redis.call('RPUSH', callbacks_of(key), id .. ' ' .. text)
  end
  if record.wake_at then
    redis.call('HSET', record_of(key), 'wake_at', text_of(now))
    put(key, now, record.lease_until)
  end
  return 1

elseif op == 'pending' then
  local after, limit = ARGV[2], tonumber(ARGV[3])
  local names = {}
  while #names < limit do
    local more = redis.call('ZRANGEBYLEX', base .. ':listed', '(' .. after, '+', 'LIMIT', 0, limit - #names)
    if #more == 0 then break end
    for _, name in ipairs(more) do
      if live(name) then names[#names + 1] = name end
      after = name
    end
  end
  return names

elseif op == 'purge' then
  return purge(ARGV[2])

elseif op == 'add' then
  local milliseconds = math.floor(math.min(tonumber(ARGV[4]) * 1000, 1e15))
  if milliseconds > 0 then
    redis.call('SET', base .. ':' .. key, ARGV[3], 'PX', string.format('%.0f', milliseconds))
  else
    redis.call('DEL', base .. ':' .. key)
  end
  return 1

elseif op == 'find' then
  return redis.call('GET', base .. ':' .. key)
end
"""


class _Plan:
    """The runs of the script for a store."""

    def load(self, key: str) -> Commands[StoredRecord | None]:
        found = yield "load", key
        return None if found is None else _record(*found)

    def save(
        self,
        key: str,
        text: str,
        *,
        expected_revision: str | None,
        forget_at: float | None,
        revision: str,
        wake_after: float | None,
        lease: float,
        forget_after: float | None,
        taken: Sequence[str],
    ) -> Commands[str]:
        saved = yield (
            "save",
            key,
            text,
            expected_revision or "",
            revision,
            _optional(wake_after),
            lease,
            _optional(forget_at),
            _optional(forget_after),
            PURGED,
            *taken,
        )
        if not saved:
            raise StoreConflict("somebody else changed the record since it was loaded")
        return revision

    def remove(self, key: str) -> Commands[None]:
        yield "remove", key

    def claim(self, limit: int, lease: float) -> Commands[Claims]:
        now, found = yield "claim", limit, lease, new_revision()
        claimed = [Claimed(_text(name), _record(*record), float(late)) for name, late, record in found]
        # The script finds records by the end of their leases, if they had one.
        claimed.sort(key=lambda one: one.late, reverse=True)
        return Claims(float(now), tuple(claimed))

    def renew(self, key: str, revision: str, lease: float) -> Commands[bool]:
        return bool((yield "renew", key, revision, lease))

    def release(self, key: str, revision: str, wake_after: float | None) -> Commands[bool]:
        return bool((yield "release", key, revision, _optional(wake_after)))

    def deliver(self, key: str, text: str) -> Commands[bool]:
        return bool((yield "deliver", key, new_revision(), text, CALLBACKS))

    def pending(self, limit: int, after: str) -> Commands[list[str]]:
        names = yield "pending", after, limit
        return [_text(name) for name in names]

    def purge(self, limit: int) -> Commands[int]:
        return int((yield "purge", limit))


class _RoutePlan:
    """The runs of the script for a routing store."""

    def add(self, token_hash: str, key: str, seconds: float) -> Commands[None]:
        yield "add", token_hash, key, seconds

    def find(self, token_hash: str) -> Commands[str | None]:
        key = yield "find", token_hash
        return None if key is None else _text(key)


def _optional(number: float | None) -> float | str:
    return "" if number is None else number


def _text(reply: Any) -> str:
    """Return a text, whether or not the client decodes replies."""
    return reply.decode() if isinstance(reply, bytes) else str(reply)


def _record(text: Any, revision: Any, age: Any, callbacks: Sequence[Any]) -> StoredRecord:
    kept = (_text(one).split(" ", 1) for one in callbacks)
    kept_callbacks = tuple(StoredCallback(identifier, content) for identifier, content in kept)
    return StoredRecord(_text(text), _text(revision), max(float(age), 0.0), kept_callbacks)


@contextlib.contextmanager
def _typed_errors() -> Generator[None, None, None]:
    try:
        yield
    except (redis.DataError, UnicodeEncodeError) as error:
        raise StoreError(f"the database does not take the record: {type(error).__name__}") from error
    except redis.RedisError as error:
        raise StoreUnavailable(f"the database cannot be used: {error}") from error


def _version() -> Commands[None]:
    """Note the version if there is none, and refuse another one."""
    found = yield "version", VERSION
    if _text(found) != str(VERSION):
        raise UnknownStoreVersion(f"what is stored under the prefix is not of version {VERSION}")


def _keys(prefix: str, table: str) -> list[str]:
    return [f"{{{prefix}}}:{table}"]


def _runner(client: redis.Redis, prefix: str, table: str) -> Runner:
    script = client.register_script(_SCRIPT)
    keys = _keys(prefix, table)

    @contextlib.contextmanager
    def connect() -> Generator[Callable[[Sequence[Any]], Any], None, None]:
        with _typed_errors():
            yield lambda command: script(keys=keys, args=command)

    return Runner(connect, _version)


def _async_runner(client: redis.asyncio.Redis, prefix: str, table: str) -> AsyncRunner:
    script = client.register_script(_SCRIPT)
    keys = _keys(prefix, table)

    @contextlib.asynccontextmanager
    async def connect() -> AsyncGenerator[Callable[[Sequence[Any]], Awaitable[Any]], None]:
        with _typed_errors():
            yield lambda command: script(keys=keys, args=command)

    return AsyncRunner(connect, _version)


class RedisStore(SyncStoreMethods):
    """Keeps logins, or sessions, in Redis. Safe to use from threads, processes and machines.

    It is a `ciba_core.ClaimingStore`, and the server's clock is the one that counts. The module says which
    settings the server needs.

    Each method raises `StoreUnavailable` if the database cannot be reached, read or written (away, out of
    memory, read-only), and `UnknownStoreVersion` if its contents are of a later release of this library.

    Args:
        client: made and closed by the application. Give it a ``socket_timeout``: without one, a method can
            wait for the server without limit. It may decode replies as UTF-8, or not.
        table: the table to keep the records in.
        prefix: of all keys, so that applications can share a database.

    Raises:
        ValueError: there is no such table.

    """

    def __init__(self, client: redis.Redis, table: Table, *, prefix: str = "ciba") -> None:
        super().__init__(_Plan(), _runner(client, prefix, checked_table(table)))


class AsyncRedisStore(AsyncStoreMethods):
    """As `RedisStore`, for asyncio: a `ciba_core.AsyncClaimingStore`.

    Args:
        client: made and closed by the application; see `RedisStore`.
        table: the table to keep the records in.
        prefix: of all keys, so that applications can share a database.

    Raises:
        ValueError: there is no such table.

    """

    def __init__(self, client: redis.asyncio.Redis, table: Table, *, prefix: str = "ciba") -> None:
        super().__init__(_Plan(), _async_runner(client, prefix, checked_table(table)))


class RedisRoutes(SyncRouteMethods):
    """Routes for callbacks in Redis, so that they can come to any process of any machine.

    A `ciba_core.RoutingStore`; it may be the database of the logins. It keeps hashes, and no tokens.

    Args:
        client: made and closed by the application; see `RedisStore`, also for exceptions.
        prefix: of all keys, so that applications can share a database.

    """

    def __init__(self, client: redis.Redis, *, prefix: str = "ciba") -> None:
        super().__init__(_RoutePlan(), _runner(client, prefix, "routes"))


class AsyncRedisRoutes(AsyncRouteMethods):
    """As `RedisRoutes`, with methods that are awaited, for asyncio."""

    def __init__(self, client: redis.asyncio.Redis, *, prefix: str = "ciba") -> None:
        super().__init__(_RoutePlan(), _async_runner(client, prefix, "routes"))


def redis_stores(client: redis.Redis, *, secrets: Sequence[str | Secret], prefix: str = "ciba") -> Stores:
    """Return stores in one Redis database; see `RedisStore`.

    Args:
        client: made and closed by the application.
        secrets: encrypt the contents: the first one encrypts, all of them decrypt.
        prefix: of all keys, so that applications can share a database.

    Raises:
        TypeError, ValueError: the secrets are not of the right form; see `Stores`.

    """
    return Stores(
        transactions=RedisStore(client, "transactions", prefix=prefix),
        sessions=RedisStore(client, "sessions", prefix=prefix),
        secrets=secrets,
    )


def async_redis_stores(
    client: redis.asyncio.Redis, *, secrets: Sequence[str | Secret], prefix: str = "ciba"
) -> AsyncStores:
    """As `redis_stores`, for asyncio; see `AsyncRedisStore`."""
    return AsyncStores(
        transactions=AsyncRedisStore(client, "transactions", prefix=prefix),
        sessions=AsyncRedisStore(client, "sessions", prefix=prefix),
        secrets=secrets,
    )
