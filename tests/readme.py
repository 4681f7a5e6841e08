"""The code of the README and of the recipes, and what it needs around it to run as it stands."""

from __future__ import annotations

import re
import ssl
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import httpx
import pytest
import trustme
import uvicorn

from ciba_adapters._cancellation import Cancellation

README: Final = Path(__file__).parent.parent / "README.md"
RECIPES: Final = README.parent / "adapters" / "README.md"
SECRET: Final = "7Fjfp0ZBr1KtDRbnfVdmIw"
"""The client's, in all examples."""


def _blocks(text: str) -> dict[tuple[str, int], str]:
    found: dict[tuple[str, int], str] = {}
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        heading = section.partition("\n")[0]
        code = re.findall(r"^```python\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
        found |= {(heading, number): block for number, block in enumerate(code)}
    return found


BLOCKS: Final[Mapping[tuple[str, int], str]] = {
    place: code for file in (README, RECIPES) for place, code in _blocks(file.read_text("utf-8")).items()
}
"""The blocks of Python, by heading and number under it."""


def run(heading: str, number: int, replaced: Mapping[str, str]) -> dict[str, Any]:
    """Run a block with its provider replaced by a real one, and return its names."""
    code = BLOCKS[heading, number]
    for old, new in replaced.items():
        assert old in code
        code = code.replace(old, new)
    scope: dict[str, Any] = {"__name__": "readme"}
    exec(compile(code, f"README, {heading}, block {number}", "exec"), scope)  # our own text
    return scope


def certificate(monkeypatch: pytest.MonkeyPatch, directory: Path) -> ssl.SSLContext:
    """Make a certificate for localhost that every HTTP library trusts, in other processes too."""
    authority = trustme.CA()
    bundle = directory / "ca.pem"
    authority.cert_pem.write_to_path(bundle)
    # The means of the HTTP libraries, for the sake of code that is printed without any set-up.
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)  # pyright: ignore[reportUnknownMemberType]  # as trustme has it
    return context


def pass_at_once(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Make waits pass at once; what is returned fills with the seconds that a client would have waited."""
    waits: list[float] = []

    async def anyio_sleep(seconds: float) -> None:
        waits.append(seconds)
        await anyio.lowlevel.checkpoint()

    def sleep(seconds: float) -> None:
        waits.append(seconds)

    def wait(_cancellation: Cancellation, seconds: float, _until: object = None) -> None:
        waits.append(seconds)

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(anyio, "sleep", anyio_sleep)
    monkeypatch.setattr(Cancellation, "wait", wait)
    return waits


@contextmanager
def served(app: Any) -> Generator[httpx.Client]:
    """Serve an ASGI application by uvicorn, and be its browser."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as browser:
            yield browser
    finally:
        server.should_exit = True
        thread.join()
