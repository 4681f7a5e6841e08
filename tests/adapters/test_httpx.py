"""What only httpx and httpx2 can get wrong."""

from __future__ import annotations

import gc
from types import ModuleType
from typing import Any

import httpx
import httpx2
import pytest
import trio

import ciba_adapters.httpx
import ciba_adapters.httpx2
from ciba_adapters.transport import SendFailed
from ciba_core.values.http import Delivery, HttpRequest, Purpose


@pytest.mark.parametrize(
    ("package", "adapter"), [(httpx, ciba_adapters.httpx), (httpx2, ciba_adapters.httpx2)]
)
def test_a_body_that_is_left_half_way(package: Any, adapter: ModuleType) -> None:
    """httpcore stops iterating over a body when a write fails: nothing may be left for the garbage collector."""
    sent: list[bytes] = []

    class Broken(package.AsyncBaseTransport):  # type: ignore[misc]
        async def handle_async_request(self, request: Any) -> Any:
            async for chunk in request.stream:
                sent.append(chunk)
                raise package.WriteError("cut")

    async def send() -> SendFailed:
        async with package.AsyncClient(transport=Broken()) as http:
            transport = adapter.AsyncCibaClient.make_transport(http)
            request = HttpRequest(
                1, Purpose.TOKEN, "POST", "http://localhost/token", (), b"a=b", 5.0, 5.0, 1000
            )
            with pytest.raises(SendFailed) as caught:
                await transport.send(request)
            gc.collect()
            return caught.value

    assert trio.run(send).delivery is Delivery.UNKNOWN
    assert sent == [b"a=b"]
