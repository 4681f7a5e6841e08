"""`ciba login --listen` and `ciba demo --mode`: real callbacks, over real HTTP and TLS."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import trustme

from ciba_adapters.cli.stacks import ADAPTERS
from ciba_core.testing import (
    Approve,
    CallbackSender,
    Deny,
    Forge,
    LoopbackServer,
    RealClock,
    SimulatedClient,
    SimulatedProvider,
)

from .conftest import COMMAND, SECRET, Ran, World

PATH: Final = "/callbacks/ciba"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


class Called:
    """A world whose client is called back at a port of its own."""

    def __init__(self, world: World, provider: SimulatedProvider, client: Path, port: int) -> None:
        self.world = world
        self.provider = provider
        self.client = str(client)
        self.listen = f"127.0.0.1:{port}"

    def login(self, hint: str, *arguments: str) -> Ran:
        return self.world.login(hint, *arguments, issuer=self.provider.issuer, client=self.client)

    @property
    def statuses(self) -> list[int | None]:
        return [entry.status for entry in self.provider.journal if entry.endpoint == "client_notification"]


@contextmanager
def calling(
    world: World, tmp_path: Path, mode: str, *, authority: trustme.CA | None = None
) -> Generator[Called]:
    port = free_port()
    url = f"{'http' if authority is None else 'https'}://127.0.0.1:{port}{PATH}"
    trusting = ssl.create_default_context()
    if authority is not None:
        authority.configure_trust(trusting)  # pyright: ignore[reportUnknownMemberType]  # as trustme has it
    members = {
        "client_id": "s6BhdRkqt3",
        "client_secret": SECRET,
        "backchannel_token_delivery_mode": mode,
        "backchannel_client_notification_endpoint": url,
    }
    client = tmp_path / "called.json"
    client.write_text(json.dumps(members))
    with RealClock() as clock, LoopbackServer() as server:
        provider = SimulatedProvider(
            clock,
            issuer=server.url,
            clients=[
                SimulatedClient(
                    "s6BhdRkqt3",
                    SECRET,
                    backchannel_token_delivery_mode=mode,
                    backchannel_client_notification_endpoint=url,
                )
            ],
            users={"alice": Approve(), "dora": Deny()},
            deliver=CallbackSender(ssl_context=trusting),
        )
        server.handler = provider.handle
        yield Called(world, provider, client, port)


@pytest.mark.parametrize("mode", ["ping", "push"])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_every_adapter_is_called_back(adapter: str, mode: str, world: World, tmp_path: Path) -> None:
    """`--listen` takes real callbacks at the path of the registered endpoint, whatever the HTTP stack."""
    with calling(world, tmp_path, mode) as called:
        ran = called.login("alice", "--adapter", adapter, "--listen", called.listen, "--json")
    assert (ran.status, ran.err, ran.json["outcome"]) == (0, "", "authenticated")
    assert ran.json["polls"] == (1 if mode == "ping" else 0)
    assert ran.json["id_token_claims"]["sub"] == "alice"
    assert called.statuses == [204]


@pytest.mark.parametrize("mode", ["ping", "push"])
def test_over_tls(mode: str, world: World, tmp_path: Path) -> None:
    """CIBA-9-01: `--listen-cert` and `--listen-key` make it an https endpoint."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(key)
    with calling(world, tmp_path, mode, authority=authority) as called:
        options = ("--listen", called.listen, "--listen-cert", str(cert), "--listen-key", str(key))
        ran = called.login("alice", *options)
    assert ran.status == 0
    assert called.statuses == [204]
    assert "acknowledged: 2:00 to decide" in ran.err
    assert ("ping: the user has decided" in ran.err) == (mode == "ping")


@pytest.mark.parametrize("mode", ["ping", "push"])
def test_denied(mode: str, world: World, tmp_path: Path) -> None:
    """The exit status is that of the outcome, however it was told."""
    with calling(world, tmp_path, mode) as called:
        ran = called.login("dora", "--listen", called.listen, "--json")
    assert (ran.status, ran.json["outcome"], ran.json["error"]) == (3, "denied", "access_denied")


@pytest.mark.parametrize("forgery", ["wrong_token", "other_mode"])
def test_a_callback_that_is_turned_away_shows(forgery: Any, world: World, tmp_path: Path) -> None:
    """A warning says which rule it broke, and nothing of what came; the good one counts."""
    with calling(world, tmp_path, "push") as called:
        called.provider.inject_callback(Forge(forgery))
        ran = called.login("alice", "--listen", called.listen)
    assert ran.status == 0
    assert "callback turned away: " in ran.err
    assert called.statuses == [401 if forgery == "wrong_token" else 400, 204]


@pytest.mark.parametrize(
    ("mode", "options", "message"),
    [
        ("poll", ["--listen", "127.0.0.1:0"], "--listen: a client in poll mode is not called back"),
        ("ping", [], "--listen is missing, which a client in ping mode needs"),
        ("push", ["--listen", "nowhere"], "--listen nowhere: not of the form HOST:PORT"),
        ("push", ["--listen", ":80"], "--listen :80: not of the form HOST:PORT"),
        ("push", ["--listen", "[::1:0"], "--listen [::1:0: not of the form HOST:PORT"),
        ("push", ["--listen", "::1:0"], "--listen ::1:0: not of the form HOST:PORT"),
        ("push", ["--listen", "127.0.0.1:65536"], "--listen 127.0.0.1:65536: not of the form HOST:PORT"),
        ("ping", ["--listen", "0.0.0.0:0"], "--listen 0.0.0.0:0: plain HTTP is for loopback addresses, "),
        ("ping", ["--listen", "shop.example:0"], "--listen shop.example:0: plain HTTP is for loopback"),
        (
            "ping",
            ["--listen", "127.0.0.1:0", "--listen-key", "key.pem"],
            "--listen-key: there is no --listen-cert that it belongs to",
        ),
        (
            "ping",
            ["--listen", "127.0.0.1:0", "--listen-cert", "nowhere.pem"],
            "--listen-cert nowhere.pem: No such file",
        ),
        (
            "ping",
            ["--listen", "127.0.0.1:0", "--listen-cert", __file__],
            f"--listen-cert {__file__}: no certificate with its unencrypted key, both in PEM form",
        ),
        ("ping", ["--listen", "192.0.2.1:0", "--listen-cert", "CERT"], "--listen 192.0.2.1:0: "),
    ],
)
def test_wrong_options(mode: str, options: list[str], message: str, world: World, tmp_path: Path) -> None:
    """A wrong command line is one line and exit 2, and nothing is sent."""
    issued = trustme.CA().issue_cert("shop.example")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    options = [str(tmp_path / "both.pem") if option == "CERT" else option for option in options]
    client = tmp_path / "client-of-a-mode.json"
    members: dict[str, Any] = {
        "client_id": "x",
        "client_secret": "y",
        "backchannel_token_delivery_mode": mode,
    }
    if mode != "poll":
        members["backchannel_client_notification_endpoint"] = "https://shop.example/ciba"
    client.write_text(json.dumps(members))
    ran = world.login("alice", *options, client=str(client))
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith(f"ciba: {message}")
    assert ran.err.count("\n") == 1
    assert world.provider.journal == ()


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({}, "backchannel_client_notification_endpoint is missing, which a client in ping mode needs"),
        (
            {"backchannel_client_notification_endpoint": "ftp://shop.example/"},
            "backchannel_client_notification_endpoint is neither an https URL nor, on loopback, an http URL",
        ),
        (
            {"backchannel_client_notification_endpoint": "http://shop.example/ciba"},
            "backchannel_client_notification_endpoint is neither an https URL nor, on loopback, an http URL",
        ),
        (
            {"backchannel_client_notification_endpoint": 1},
            "backchannel_client_notification_endpoint is not a string",
        ),
        ({"backchannel_token_delivery_mode": "pull"}, "backchannel_token_delivery_mode: 'pull' is none of"),
    ],
    ids=["missing", "not https", "http", "number", "mode"],
)
def test_wrong_client_file(members: dict[str, Any], problem: str, world: World, tmp_path: Path) -> None:
    """REG-01, REG-02: what the registration has to say of callbacks is asked for by name."""
    client = tmp_path / "wrong.json"
    client.write_text(json.dumps({"client_id": "x", "backchannel_token_delivery_mode": "ping", **members}))
    ran = world.login("alice", "--listen", "127.0.0.1:0", client=str(client))
    assert (ran.status, ran.out) == (2, "")
    assert problem in ran.err


def test_a_port_that_is_taken(world: World, tmp_path: Path) -> None:
    """It is one line and exit 2."""
    with calling(world, tmp_path, "ping") as called, socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ran = called.login("alice", "--listen", address)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.endswith(f"ciba: --listen {address}: Address already in use\n")


@pytest.mark.parametrize(("mode", "polls"), [("ping", 1), ("push", 0)])
def test_demo(mode: str, polls: int) -> None:
    """The demo shows how the result comes in the other two modes, and ends by itself."""
    ran = subprocess.run(
        (*COMMAND, "demo", "--mode", mode, "--approve"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert ran.returncode == 0
    assert "callbacks to: http://127.0.0.1:" in ran.stderr
    assert ("ping: the user has decided" in ran.stderr) == (mode == "ping")
    assert f"  polls          {polls}\n" in ran.stdout
