from __future__ import annotations

from collections.abc import Iterator

import pytest

from .certificates import Certificates, issued
from .glewlwyd_server import running_glewlwyd
from .keycloak_server import Keycloak, running_keycloak
from .nimbus_provider import running_push_provider
from .notifications import Notifications, listening
from .provider import running_provider
from .stacks import CLIENTS, STACKS, Authenticate, Connect


@pytest.fixture(scope="session")
def notifications(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notifications]:
    """The client notification endpoint that is registered with the providers."""
    with listening(tmp_path_factory.mktemp("notifications")) as notifications:
        yield notifications


@pytest.fixture(scope="session")
def without_proxy() -> Iterator[None]:
    """Loopback is reached without any proxy of the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setenv("no_proxy", "127.0.0.1")
        yield


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """The certificates for mutual TLS with `oidc-provider`."""
    return issued(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def issuer(
    tmp_path_factory: pytest.TempPathFactory,
    notifications: Notifications,
    certificates: Certificates,
    without_proxy: None,
) -> Iterator[str]:
    """The issuer of `oidc-provider`, running on loopback."""
    log = tmp_path_factory.mktemp("oidc_provider") / "log"
    with running_provider(log, notifications, certificates) as issuer:
        yield issuer


@pytest.fixture(scope="session")
def keycloak(
    tmp_path_factory: pytest.TempPathFactory, notifications: Notifications, without_proxy: None
) -> Iterator[Keycloak]:
    """Keycloak, running on loopback."""
    log = tmp_path_factory.mktemp("keycloak") / "log"
    with running_keycloak(log, notifications) as keycloak:
        yield keycloak


@pytest.fixture(scope="session")
def glewlwyd(
    tmp_path_factory: pytest.TempPathFactory, notifications: Notifications, without_proxy: None
) -> Iterator[str]:
    """The issuer of Glewlwyd, running on loopback."""
    with running_glewlwyd(tmp_path_factory.mktemp("glewlwyd"), notifications) as issuer:
        yield issuer


@pytest.fixture(scope="session")
def push_issuer(
    tmp_path_factory: pytest.TempPathFactory, notifications: Notifications, without_proxy: None
) -> Iterator[str]:
    """The issuer of a provider in push mode, running on loopback."""
    log = tmp_path_factory.mktemp("nimbus") / "log"
    with running_push_provider(log, notifications) as issuer:
        yield issuer


@pytest.fixture(params=STACKS)
def stack(request: pytest.FixtureRequest) -> str:
    """The name of a stack: each test runs over all of them."""
    name: str = request.param
    return name


@pytest.fixture
def authenticate(stack: str) -> Authenticate:
    """How to authenticate over that stack."""
    return STACKS[stack]


@pytest.fixture(params=CLIENTS)
def connect(request: pytest.FixtureRequest) -> Connect:
    """How to connect: each test runs over a sync stack and an async one."""
    return CLIENTS[request.param]
