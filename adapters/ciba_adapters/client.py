"""The clients."""

from __future__ import annotations

from ciba_adapters._async import AsyncClient
from ciba_adapters._cancellation import Cancellation
from ciba_adapters._sync import SyncClient

__all__ = ["AsyncClient", "Cancellation", "SyncClient"]
