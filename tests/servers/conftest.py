from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop.provider import unavailable

from .kinds import KINDS, Kind
from .running import Postgres, Redis, ServerMissing, running_postgres, running_redis


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """PostgreSQL, running on loopback."""
    try:
        with running_postgres() as server:
            yield server
    except ServerMissing as missing:
        unavailable(str(missing))


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """Redis, running on loopback."""
    try:
        with running_redis() as server:
            yield server
    except ServerMissing as missing:
        unavailable(str(missing))


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each kind of store in turn, over a database that has nothing in it."""
    made: Kind = request.param(request.getfixturevalue(request.param.server_fixture))
    return made
