"""Stores for logins and sessions: in memory, and in an SQLite database."""

from ciba_adapters.stores.memory import MemoryStore, memory_stores
from ciba_adapters.stores.sqlite import SqliteStore, sqlite_stores

__all__ = ["MemoryStore", "SqliteStore", "memory_stores", "sqlite_stores"]
