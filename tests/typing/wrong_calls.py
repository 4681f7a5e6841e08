"""Wrong calls, in each of which the type checkers have to find the wrong kind. Checked by them; never run.

Both checkers report a comment that ignores nothing: where a constructor begins to take anything, they fail here.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import httpx
import requests

import ciba_adapters.httpx
import ciba_adapters.requests
from ciba_core import (
    AuthenticationRequest,
    ClientConfig,
    ClientSecretBasic,
    IdTokenPolicy,
    PrivateKeyJwt,
    Profile,
    ProviderMetadata,
    SigningKey,
    hints,
)


def requests_of_the_wrong_kind(client: ClientConfig) -> None:
    """Parameters of a request."""
    AuthenticationRequest(scope=1, login_hint="a")  # type: ignore[arg-type]
    AuthenticationRequest(login_hint={"sub": "x"})  # type: ignore[arg-type]
    AuthenticationRequest(login_hint="a", authorization_details="[]")  # type: ignore[arg-type]
    AuthenticationRequest(login_hint="a", claims=[])  # type: ignore[arg-type]
    AuthenticationRequest(login_hint="a", resource=4)  # type: ignore[arg-type]
    AuthenticationRequest(login_hint="a", acr_values=5)  # type: ignore[arg-type]
    AuthenticationRequest(login_hint="a", user_code=b"x")  # type: ignore[arg-type]
    AuthenticationRequest(login_hint="a", extra=None)  # type: ignore[arg-type]
    AuthenticationRequest(login_hint="a", requested_expiry="60")  # type: ignore[arg-type]
    hints.id_token_hint(client)  # type: ignore[arg-type]


def clients_of_the_wrong_kind(signer: SigningKey) -> None:
    """Settings of a client and of a profile."""
    ClientSecretBasic(b"secret")  # type: ignore[arg-type]
    PrivateKeyJwt(signer, audience=1)  # type: ignore[arg-type]
    ClientConfig("id", "secret")  # type: ignore[arg-type]
    ClientConfig("id", ClientSecretBasic("x"), profile="fapi-ciba")  # type: ignore[arg-type]
    ClientConfig("id", ClientSecretBasic("x"), backchannel_token_delivery_mode="pull")  # type: ignore[arg-type]
    IdTokenPolicy(decryption_keys=[signer])  # type: ignore[list-item]
    IdTokenPolicy(trusted_audiences="a")  # type: ignore[arg-type]
    Profile(name="p", required="scope")  # type: ignore[arg-type]
    SigningKey.from_jwk("{}")  # type: ignore[arg-type]


def sessions_of_the_wrong_kind(client: ClientConfig, provider: ProviderMetadata) -> None:
    """What an adapter is made of."""
    ProviderMetadata(
        issuer="https://op.example",
        token_endpoint="https://op.example/t",
        backchannel_authentication_endpoint="https://op.example/b",
        backchannel_token_delivery_modes_supported="poll",  # type: ignore[arg-type]
    )
    ciba_adapters.httpx.CibaClient(provider, client, http=httpx.AsyncClient())  # type: ignore[arg-type]
    ciba_adapters.httpx.AsyncCibaClient(provider, client, http=httpx.Client())  # type: ignore[arg-type]
    ciba_adapters.requests.CibaClient({"issuer": "x"}, client, http=requests.Session())  # type: ignore[arg-type]
