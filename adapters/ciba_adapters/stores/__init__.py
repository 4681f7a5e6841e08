"""Stores for logins, sessions and routes of callbacks: in memory, and in an SQLite database."""

from ciba_adapters.stores.callbacks import keep_callbacks, keep_callbacks_async
from ciba_adapters.stores.memory import MemoryStore, memory_stores
from ciba_adapters.stores.sqlite import SqliteRoutes, SqliteStore, sqlite_stores

__all__ = [
    "MemoryStore",
    "SqliteRoutes",
    "SqliteStore",
    "keep_callbacks",
    "keep_callbacks_async",
    "memory_stores",
    "sqlite_stores",
]
