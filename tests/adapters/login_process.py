"""A process that logs in, or goes on with a login, and stops for good where it is told to.

Arguments: the database, the issuer, the wall clock to begin with, and the place to stop at (store, moment and
number of the save), or nothing.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final

import httpx

from ciba_adapters.httpx import CibaClient
from ciba_adapters.stores import SqliteStore
from ciba_core import (
    AuthenticationRequest,
    ClientConfig,
    ClientSecretBasic,
    ProviderMetadata,
    Session,
    StoredRecord,
    Stores,
)
from ciba_core.errors import CibaError, NoPendingLogin
from ciba_core.testing import VirtualClock

SECRET: Final = "a secret of at least thirty-two octets"


class Process:
    def __init__(self, database: str, issuer: str, start: str, stop: str = "") -> None:
        self.clock = VirtualClock(float(start))
        self.stop = stop
        self.place = ""
        self.stores = Stores(
            transactions=StoppingStore(self, database, "transactions"),
            sessions=StoppingStore(self, database, "sessions"),
            secrets=[SECRET],
        )
        self.provider = ProviderMetadata(
            issuer=issuer,
            token_endpoint=f"{issuer}/token",
            backchannel_authentication_endpoint=f"{issuer}/bc-authorize",
            jwks_uri=f"{issuer}/jwks",
            allow_loopback_http=True,
        )

    def come_to(self, place: str) -> None:
        if self.stop and place == self.stop:
            sys.stdout.write("stopped\n")
            sys.stdout.flush()
            sys.stdin.read()

    def time(self) -> float:
        """Called by a store in the middle of a save."""
        self.come_to(self.place)
        return self.clock.time()

    def go_on(self) -> Session:
        options: dict[str, Any] = {"stores": self.stores, "session_key": "key"}
        with httpx.Client(verify=False, trust_env=False) as http:
            ciba = CibaClient(
                self.provider,
                ClientConfig("s6BhdRkqt3", ClientSecretBasic("gX1fBat3bV")),
                http=http,
                clock=self.clock,
            )
            try:
                return ciba.resume_pending(**options)
            except NoPendingLogin:
                request = AuthenticationRequest(scope="openid", login_hint="alice")
                return ciba.login_backchannel(request, **options)


class StoppingStore:
    def __init__(self, process: Process, database: str, table: Any) -> None:
        self.process, self.table, self.saves = process, table, 0
        self.inner = SqliteStore(database, table, time=process.time)

    def load(self, key: str, *, store_options: Any) -> StoredRecord | None:
        return self.inner.load(key)

    def save(
        self,
        key: str,
        text: str,
        *,
        expected_revision: str | None,
        forget_at: float | None,
        store_options: Any,
    ) -> str:
        self.saves += 1
        self.process.place = f"{self.table} within {self.saves}"
        revision = self.inner.save(key, text, expected_revision=expected_revision, forget_at=forget_at)
        self.process.place = ""
        self.process.come_to(f"{self.table} after {self.saves}")
        return revision

    def remove(self, key: str, *, store_options: Any) -> None:
        raise NotImplementedError


if __name__ == "__main__":
    try:
        outcome = Process(*sys.argv[1:]).go_on().user
    except CibaError as error:
        outcome = (type(error).__name__, "")
    sys.stdout.write(json.dumps(outcome))
