"""Rows 5: the time of an import in a fresh interpreter, and what `import ciba_core` leaves alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.measure import Fact, Result, Round, Scale, compare

__all__ = ["rows"]

_LIBRARIES = {
    "requests": "requests",
    "httpx": "httpx",
    "httpx2": "httpx2",
    "aiohttp": "aiohttp",
    "trio": "trio, h11",
}
_NOT_OURS = (
    "requests",
    "urllib3",
    "httpx",
    "httpcore",
    "httpx2",
    "aiohttp",
    "trio",
    "h11",
    "anyio",
    "joserfc",
)


def _python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def _import(modules: str) -> Round:
    code = (
        "import time; before = time.process_time()\n"
        f"import {modules}\n"
        "print((time.process_time() - before) * 1e3)"
    )
    return lambda: float(_python(code))


def rows(scale: Scale) -> Iterator[Result]:
    """Measure the core against attrs, which it is made of, and each adapter against its library."""
    yield compare(
        _import("ciba_core"),
        _import("attrs"),
        rounds=scale.starts,
        group="imports",
        name="import ciba_core",
        reference_name="import attrs",
        unit="ms CPU",
    )
    for adapter, library in _LIBRARIES.items():
        yield compare(
            _import(f"ciba_adapters.{adapter}"),
            _import(library),
            rounds=scale.starts,
            group="imports",
            name=f"import ciba_adapters.{adapter}",
            reference_name=f"import {library}",
            unit="ms CPU",
        )
    code = f"import ciba_core, json, sys; print(json.dumps([m for m in {_NOT_OURS} if m in sys.modules]))"
    found: list[str] = json.loads(_python(code))
    yield Fact(
        group="imports",
        name="import ciba_core",
        text=f"also imports {', '.join(found)}" if found else "imports no HTTP library, and not joserfc",
        met=not found,
    )
