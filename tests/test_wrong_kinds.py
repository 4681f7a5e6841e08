"""Arguments of the wrong kind are refused where they are given, by the parameter's name."""

from __future__ import annotations

from typing import Any

import aiohttp
import httpx
import httpx2
import pytest
import requests

import ciba_adapters.aiohttp
import ciba_adapters.httpx
import ciba_adapters.httpx2
import ciba_adapters.requests
import ciba_adapters.trio
from ciba_core import (
    AuthenticationRequest,
    Begin,
    ClientConfig,
    ClientSecretBasic,
    DecryptionKey,
    SigningKey,
    Transaction,
    check_fit,
    profiles,
    step,
)
from tests.samples import CLIENT, NOW, PROVIDER

SYNC: list[Any] = [
    ciba_adapters.requests.CibaClient,
    ciba_adapters.httpx.CibaClient,
    ciba_adapters.httpx2.CibaClient,
]
ASYNC: list[Any] = [
    ciba_adapters.httpx.AsyncCibaClient,
    ciba_adapters.httpx2.AsyncCibaClient,
    ciba_adapters.aiohttp.AsyncCibaClient,
    ciba_adapters.trio.AsyncCibaClient,
]
SESSIONS: dict[Any, Any] = {
    ciba_adapters.requests.CibaClient: requests.Session,
    ciba_adapters.httpx.CibaClient: httpx.Client,
    ciba_adapters.httpx2.CibaClient: httpx2.Client,
    ciba_adapters.httpx.AsyncCibaClient: httpx.AsyncClient,
    ciba_adapters.httpx2.AsyncCibaClient: httpx2.AsyncClient,
    ciba_adapters.aiohttp.AsyncCibaClient: aiohttp.ClientSession,
    ciba_adapters.trio.AsyncCibaClient: ciba_adapters.trio.TrioHttp,
}
# The kind of session is told by its class, so that none has to be opened, and closed, for this.
GIVEN: list[Any] = [kind.__new__(kind) for kind in SESSIONS.values() if kind is not aiohttp.ClientSession]


@pytest.mark.parametrize(
    "adapter", [*SYNC, *ASYNC], ids=lambda adapter: f"{adapter.__module__}.{adapter.__name__}"
)
def test_a_session_of_another_stack_or_colour(adapter: Any) -> None:
    """An async session for a sync client, and the other way round; nothing is sent, and the message says both."""
    wanted = SESSIONS[adapter]
    others: list[Any] = [*GIVEN, None, {}, "session", wanted]
    for http in others:
        if isinstance(http, wanted):
            continue
        with pytest.raises(TypeError, match=r"^http must be [\w.]+, not [\w.]+$") as caught:
            adapter(PROVIDER, CLIENT, http=http)
        assert str(caught.value).startswith(
            f"http must be {wanted.__module__.partition('.')[0]}.{wanted.__name__}"
        )


def test_discovery_refuses_an_async_session() -> None:
    """Before anything is sent."""
    wrong: Any = httpx.AsyncClient.__new__(httpx.AsyncClient)
    with pytest.raises(TypeError, match=r"^http must be httpx\.Client, not httpx\.AsyncClient$"):
        ciba_adapters.httpx.CibaClient.discover("https://op.example", CLIENT, http=wrong)


@pytest.mark.parametrize("adapter", SYNC, ids=lambda adapter: adapter.__module__)
def test_a_dict_as_metadata_or_configuration(adapter: Any) -> None:
    """The values are made, and checked, before a client is."""
    http = SESSIONS[adapter].__new__(SESSIONS[adapter])
    with pytest.raises(TypeError, match=r"^provider must be ciba_core\.ProviderMetadata, not dict$"):
        adapter({"issuer": "x"}, CLIENT, http=http)
    with pytest.raises(TypeError, match=r"^client must be ciba_core\.ClientConfig, not dict$"):
        adapter(PROVIDER, {"client_id": "x"}, http=http)
    with pytest.raises(TypeError, match=r"^client must be ciba_core\.ClientConfig, not str$"):
        adapter.discover("https://op.example", "x", http=http)


def test_the_core_refuses_them_too() -> None:
    """An embedder without an adapter is told when the transaction begins."""
    request = AuthenticationRequest(login_hint="alice")
    wrong: Any = {"issuer": "x"}
    for name, arguments in (
        ("request", (wrong, CLIENT, PROVIDER)),
        ("client", (request, wrong, PROVIDER)),
        ("provider", (request, CLIENT, wrong)),
    ):
        with pytest.raises(TypeError, match=rf"^{name} must be \w+, not dict$"):
            check_fit(*arguments)
    with pytest.raises(TypeError, match=r"^provider must be ProviderMetadata, not dict$"):
        step(Transaction(client=CLIENT, provider=wrong), Begin(request), NOW)


def config(**wrong: Any) -> ClientConfig:
    return ClientConfig("id", ClientSecretBasic("x"), **wrong)


@pytest.mark.parametrize("mode", ["pull", "POLL", None, 1, ["poll"]], ids=repr)
def test_a_wrong_delivery_mode(mode: Any) -> None:
    """CIBA Core 5 has three."""
    with pytest.raises(
        ValueError, match=r"^backchannel_token_delivery_mode must be one of poll, ping, push$"
    ):
        config(backchannel_token_delivery_mode=mode)


@pytest.mark.parametrize("profile", ["fapi-ciba", None, {}, type(profiles.GENERIC)], ids=repr)
def test_a_profile_by_its_name(profile: Any) -> None:
    """A profile is a value, and the message says where they are."""
    with pytest.raises(TypeError, match=r"^profile must be a Profile, such as profiles\.FAPI_CIBA, not "):
        config(profile=profile)


@pytest.mark.parametrize("make", [SigningKey.from_jwk, DecryptionKey.from_jwk], ids=["signing", "decryption"])
def test_a_set_of_keys_where_one_is_due(make: Any) -> None:
    """RFC 7517 5: which of them is meant is not guessed, even of one."""
    for keys in ([], [{"kty": "EC", "d": "MARKER"}]):
        with pytest.raises(ValueError, match=r"^jwk must be one key, not a set of keys") as caught:
            make({"keys": keys})
        assert "MARKER" not in str(caught.value)
    with pytest.raises(TypeError, match=r"^jwk must be a mapping, not str$"):
        make("{}")
