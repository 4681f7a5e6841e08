"""A process of the crash test: a provider with a journal, or an application's process that is killed at random.

``provider JOURNAL USER...``: serves a simulated provider, and appends to the journal what became of each request.
``start DATABASE ISSUER USER...``: starts a login for each user that has none, as an application does.
``work DATABASE ISSUER HEALTH``: a worker.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

import anyio
import httpx

from ciba_adapters.httpx import AsyncCibaClient, CibaClient
from ciba_adapters.stores import sqlite_stores
from ciba_adapters.work import work
from ciba_core import AuthenticationRequest, ClientConfig, ClientSecretBasic, ProviderMetadata
from ciba_core.testing import Approve, LoopbackServer, SimulatedClient, SimulatedProvider

SECRET: Final = "a secret of at least thirty-two octets"
CLIENT: Final = ClientConfig("s6BhdRkqt3", ClientSecretBasic("gX1fBat3bV"), connect_timeout=0.5, timeout=1.0)
INTERVAL: Final = 1
TAKES: Final = 0.02
WRITTEN: Final = ("endpoint", "outcome", "too_early", "overlapping", "replayed")


def provider(journal: str, *users: str) -> None:
    lock = threading.Lock()
    with LoopbackServer() as server, Path(journal).open("a", encoding="utf-8", buffering=1) as out:
        op = SimulatedProvider(
            time,
            issuer=server.url,
            clients=[SimulatedClient("s6BhdRkqt3", "gX1fBat3bV")],
            users={user: Approve(after=3 + number % 6) for number, user in enumerate(users)},
            interval=INTERVAL,
            expires_in=600,
        )
        asked: dict[str | None, str] = {}
        written = 0

        def write() -> None:
            nonlocal written
            entries = op.journal[written:]
            written += len(entries)
            for entry in entries:
                line = {name: getattr(entry, name) for name in WRITTEN}
                out.write(json.dumps(line | {"user": asked.get(entry.auth_req_id)}) + "\n")

        def handle(method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes) -> Any:
            # A provider takes its time: so a client can be killed while a request is out, or its answer.
            time.sleep(TAKES)
            answer: Any = op.handle(method, target, headers, body)
            with lock:
                if target == "/bc-authorize":
                    auth_req_id = json.loads(answer.body)["auth_req_id"]
                    asked[auth_req_id] = parse_qs(body.decode())["login_hint"][0]
                write()
            time.sleep(TAKES)
            return answer

        server.handler = handle
        sys.stdout.write(server.url + "\n")
        sys.stdout.flush()
        sys.stdin.read()


def metadata(issuer: str) -> ProviderMetadata:
    return ProviderMetadata(
        issuer=issuer,
        token_endpoint=f"{issuer}/token",
        backchannel_authentication_endpoint=f"{issuer}/bc-authorize",
        jwks_uri=f"{issuer}/jwks",
        allow_loopback_http=True,
    )


def start(database: str, issuer: str, *users: str) -> None:
    stores = sqlite_stores(database, secrets=[SECRET])
    with httpx.Client(verify=False, trust_env=False) as http:
        ciba = CibaClient(metadata(issuer), CLIENT, http=http)
        for user in users:
            if stores.transactions.load(user, store_options=None) is None:
                ciba.start_login(
                    AuthenticationRequest(scope="openid", login_hint=user), stores=stores, session_key=user
                )


def run_worker(database: str, issuer: str, health_file: str) -> None:
    async def main() -> None:
        async with httpx.AsyncClient(verify=False, trust_env=False) as http:
            await work(
                sqlite_stores(database, secrets=[SECRET]),
                AsyncCibaClient(metadata(issuer), CLIENT, http=http),
                concurrency=4,
                lease=2.0,
                look_every=0.1,
                drain_within=5.0,
                health_file=health_file,
            )

    anyio.run(main)


if __name__ == "__main__":
    roles: dict[str, Callable[..., None]] = {"provider": provider, "start": start, "work": run_worker}
    roles[sys.argv[1]](*sys.argv[2:])
