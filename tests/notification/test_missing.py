"""What each receiver needs to be installed."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import ciba_adapters.notification


@pytest.mark.parametrize(
    ("module", "library", "extra"),
    [
        ("aiohttp", "aiohttp", "aiohttp"),
        ("listener", "anyio", "notification"),
        ("listener", "h11", "notification"),
    ],
)
def test_missing_library(module: str, library: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver without its library names the library and the extra that brings it."""
    name = f"ciba_adapters.notification.{module}"
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.delattr(ciba_adapters.notification, module, raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError) as caught:
        importlib.import_module(name)
    assert str(caught.value) == f"ciba_adapters.{extra} needs {library}: pip install 'ciba-core[{extra}]'"


def test_the_rest_needs_nothing() -> None:
    """ASGI and WSGI applications come with the core alone: neither anyio nor trio is imported."""
    program = """
import sys
for library in ("anyio", "trio", "h11", "aiohttp", "httpx", "requests"):
    sys.modules[library] = None
import asyncio
from ciba_adapters.notification import NotificationEndpoint, asgi, wsgi
print(asyncio.run(NotificationEndpoint().answer("POST", [], b"")).status)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "401\n"
