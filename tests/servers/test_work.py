"""``ciba work`` over database servers: two workers, of which one is killed."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from ciba_adapters.httpx import AsyncCibaClient
from ciba_core import AuthenticationRequest, ClientConfig, ClientSecretBasic
from ciba_core.testing import Approve, LoopbackServer, SimulatedClient, SimulatedProvider

from .kinds import SECRET, AsyncPostgres, AsyncRedis, Kind

USERS: Final = [f"user-{number}" for number in range(6)]
REQUEST: Final = AuthenticationRequest(scope="openid", login_hint="alice")


def url_of(kind: Kind) -> str:
    if isinstance(kind, AsyncPostgres):
        options = f"options=-csearch_path%3D{kind.schema}"
        return f"postgresql://{kind.role}@127.0.0.1:{kind.server.port}/tests?{options}"
    return f"redis://127.0.0.1:{kind.server.port}"


@pytest.mark.parametrize("made", [AsyncPostgres, AsyncRedis])
def test_two_workers_of_which_one_is_killed(
    made: type[Kind], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """By a URL: every user is asked once, and every approval arrives."""
    kind = made(request.getfixturevalue(made.server_fixture))
    with LoopbackServer() as server:
        op = SimulatedProvider(
            time,
            issuer=server.url,
            clients=[SimulatedClient("s6BhdRkqt3", "gX1fBat3bV")],
            users={"alice": Approve(after=3)},
            interval=1,
        )
        server.handler = op.handle
        (tmp_path / "secrets.txt").write_text(SECRET)
        file = tmp_path / "worker.json"
        configuration: dict[str, Any] = {
            "client_id": "s6BhdRkqt3",
            "client_secret": "gX1fBat3bV",
            "issuer": server.url,
            "store": {"url": url_of(kind), "secrets_file": "secrets.txt"},
        }
        file.write_text(json.dumps(configuration))
        command = [sys.executable, "-m", "ciba_adapters.cli", "work", str(file), "--allow-loopback-http"]
        workers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        try:
            for worker in workers:
                assert worker.stderr is not None
                assert worker.stderr.readline() == "ciba work: working\n"
            asyncio.run(_log_in(kind, server.url, workers[0]))
            workers[1].terminate()
            _, err = workers[1].communicate(timeout=60)
        finally:
            for worker in workers:
                worker.kill()
                if worker.stderr is not None and not worker.stderr.closed:
                    worker.communicate()
    assert (workers[0].returncode, workers[1].returncode) == (-9, 0)
    assert err.startswith("ciba work: stopped; ")
    assert sum(entry.outcome == "acknowledged" for entry in op.journal) == len(USERS)
    assert not any(entry.too_early or entry.overlapping or entry.replayed for entry in op.journal)


async def _log_in(kind: Kind, issuer: str, victim: subprocess.Popen[str]) -> None:
    config = ClientConfig("s6BhdRkqt3", ClientSecretBasic("gX1fBat3bV"))
    async with kind.connected() as makers, httpx.AsyncClient(trust_env=False) as http:
        stores = makers["stores"]()
        ciba = await AsyncCibaClient.discover(issuer, config, http=http, allow_loopback_http=True)
        for user in USERS:
            await ciba.start_login(REQUEST, stores=stores, session_key=user)
        # Before anything is due: what it loses is nothing.
        victim.kill()
        for user in USERS:
            until = time.monotonic() + 60
            while await ciba.load_session(stores=stores, session_key=user) is None:
                assert time.monotonic() < until
                await asyncio.sleep(0.1)
