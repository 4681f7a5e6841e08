from __future__ import annotations

import gc
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from .stacks import ASYNC_STACKS, STACKS, AsyncStack, Session, Stack


@pytest.fixture(params=STACKS, ids=repr)
def stack(request: pytest.FixtureRequest) -> Stack:
    """Each HTTP stack in turn."""
    found: Stack = request.param
    return found


@pytest.fixture(params=ASYNC_STACKS, ids=repr)
def async_stack(request: pytest.FixtureRequest) -> AsyncStack:
    """Each async HTTP stack in turn."""
    found: AsyncStack = request.param
    return found


@pytest.fixture(autouse=True)
def no_leak_and_no_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No proxy of the environment between the test and loopback; whatever a test left open is its failure."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    yield
    gc.collect()


@pytest.fixture(scope="session", autouse=True)
def cheap_collection() -> Iterator[None]:
    """Keep what was imported out of the collections after each test."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority that no machine trusts by itself."""
    return trustme.CA()


@pytest.fixture(scope="session")
def trusting(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A session that trusts `authority`, and nobody else."""
    ca_file = Path(tmp_path_factory.mktemp("ca")) / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    return Session(context=ssl.create_default_context(cafile=str(ca_file)), ca_file=str(ca_file))


def _server_context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)  # pyright: ignore[reportUnknownMemberType]  # of pyOpenSSL
    return context


@pytest.fixture(scope="session")
def loopback_tls(authority: trustme.CA) -> ssl.SSLContext:
    """TLS of a server whose certificate is for the loopback address."""
    return _server_context(authority, "127.0.0.1", "localhost", "::1")


@pytest.fixture(scope="session")
def foreign_tls(authority: trustme.CA) -> ssl.SSLContext:
    """TLS of a server whose certificate is for another host."""
    return _server_context(authority, "op.example")
