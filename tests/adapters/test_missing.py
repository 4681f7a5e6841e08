"""Adapters whose library is not installed."""

from __future__ import annotations

import importlib
import sys

import pytest

import ciba_adapters
from ciba_adapters import stores


@pytest.mark.parametrize(
    ("extra", "library"),
    [
        ("requests", "requests"),
        ("httpx", "httpx"),
        ("httpx", "anyio"),
        ("httpx2", "httpx2"),
        ("httpx2", "anyio"),
        ("aiohttp", "aiohttp"),
        ("trio", "trio"),
        ("trio", "h11"),
        ("pool", "anyio"),
        ("work", "anyio"),
    ],
)
def test_missing_library(extra: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter without its library names the library and the extra that brings it."""
    for name in (extra, "_httpx", "_http11"):
        monkeypatch.delitem(sys.modules, f"ciba_adapters.{name}", raising=False)
        monkeypatch.delattr(ciba_adapters, name, raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError) as caught:
        importlib.import_module(f"ciba_adapters.{extra}")
    assert str(caught.value) == f"ciba_adapters.{extra} needs {library}: pip install 'ciba-core[{extra}]'"
    assert caught.value.name == library


@pytest.mark.parametrize(("extra", "library"), [("postgres", "psycopg"), ("redis", "redis")])
def test_missing_database_library(extra: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store without its library does so, too, and those that need none are there."""
    monkeypatch.delitem(sys.modules, f"ciba_adapters.stores.{extra}", raising=False)
    monkeypatch.delattr(stores, extra, raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError) as caught:
        importlib.import_module(f"ciba_adapters.stores.{extra}")
    needed = f"ciba_adapters.stores.{extra} needs {library}: pip install 'ciba-core[{extra}]'"
    assert str(caught.value) == needed
