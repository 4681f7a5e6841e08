"""``ciba work``: a worker from a configuration file."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from ciba_adapters.httpx import CibaClient
from ciba_adapters.stores import sqlite_stores
from ciba_core import AuthenticationRequest, ClientConfig, ClientSecretBasic

from .conftest import COMMAND, SECRET, World

OLD, NEW = "an old secret of more than thirty-two octets", "a new secret of more than thirty-two octets"
PAGE: Final = Path(__file__).parents[2] / "docs" / "howto" / "workers.md"
REQUEST: Final = AuthenticationRequest(scope="openid", login_hint="alice")


def configuration(world: World, folder: Path, **members: Any) -> str:
    """Write the configuration of the page on workers, and the secrets; return its path."""
    (folder / "secrets.txt").write_text(f"{OLD}\n")
    (block,) = re.findall(r"^```json\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    found = json.loads(block) | {"issuer": world.provider.issuer, "client_secret": SECRET}
    path = folder / "worker.json"
    path.write_text(json.dumps(found | members))
    return str(path)


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)
    assert holds()


def test_a_worker_as_a_command(world: World, tmp_path: Path) -> None:
    """It goes on with stored logins, takes a new secret from the file, and ends well on SIGTERM."""
    path = configuration(world, tmp_path)
    stores = sqlite_stores(tmp_path / "logins.db", secrets=[OLD])
    later = sqlite_stores(tmp_path / "logins.db", secrets=[NEW, OLD])
    with httpx.Client(trust_env=False) as http:
        ciba = CibaClient.discover(
            world.provider.issuer,
            ClientConfig("s6BhdRkqt3", ClientSecretBasic(SECRET)),
            http=http,
            allow_loopback_http=True,
        )
        ciba.start_login(REQUEST, stores=stores, session_key="first")
        with subprocess.Popen(
            [*COMMAND, "work", path, "--allow-loopback-http"], stderr=subprocess.PIPE, text=True
        ) as worker:
            try:
                until(lambda: ciba.load_session(stores=later, session_key="first"))
                (tmp_path / "secrets.txt").write_text(f"{NEW}\n{OLD}\n")
                ciba.start_login(REQUEST, stores=later, session_key="second")
                ciba.start_login(REQUEST, stores=later, session_key="poison")
                record = stores.transactions.load("poison", store_options=None)
                assert record is not None
                store: Any = stores.transactions
                store.save("poison", "garbage", expected_revision=record.revision, wake_after=0.0)
                until(lambda: ciba.load_session(stores=later, session_key="second"))
                health = tmp_path / "health.json"
                until(lambda: json.loads(health.read_text())["parked"] == ["poison"])
            finally:
                worker.send_signal(signal.SIGTERM)
            _, err = worker.communicate(timeout=60)
    assert worker.returncode == 0
    assert err.splitlines()[0] == "ciba work: working"
    assert "ciba work: parked poison: StoredContentAltered" in err.splitlines()
    assert "2 session" in err.splitlines()[-1]
    assert json.loads(health.read_text())["state"] == "stopped"


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"store": None}, "store is missing"),
        ({"store": []}, "store is not an object"),
        ({"store": {"url": "sqlite:a"}}, "store.secrets_file is missing"),
        ({"store": {"url": 5, "secrets_file": "secrets.txt"}}, "store.url is not a string"),
        (
            {"store": {"url": "mysql://root:hunter2@db", "secrets_file": "secrets.txt"}},
            "store.url is none of sqlite:FILE, postgresql://..., redis://..., rediss://...",
        ),
        ({"store": {"uri": "sqlite:a"}}, "store.uri is not known; known are secrets_file, url"),
        ({"issuer": None}, "issuer is missing"),
        ({"profile": "nobody"}, "profile: 'nobody' is none of "),
        ({"work": {"rate": 0}}, "work.rate is not a number above 0"),
        ({"work": {"rate": True}}, "work.rate is not a number above 0"),
        ({"work": {"concurrency": 1.5}}, "work.concurrency is not a whole number"),
        ({"work": {"health_file": 5}}, "work.health_file is not a string"),
        ({"client_id": None}, "client_id"),
    ],
)
def test_what_is_wrong_with_a_configuration(
    world: World, tmp_path: Path, members: dict[str, Any], problem: str
) -> None:
    """It is told in one line that names the member and shows nothing secret; exit status 2."""
    ran = world.run("work", configuration(world, tmp_path, **members), "--allow-loopback-http")
    assert (ran.status, ran.out) == (2, "")
    assert problem in ran.err
    assert ran.err.count("\n") == 1
    assert "hunter2" not in ran.err


@pytest.mark.parametrize("content", ["", "too short\n", f"{OLD}\nshort\n"])
def test_secrets_that_are_none(world: World, tmp_path: Path, content: str) -> None:
    """A secrets file has secrets of at least 32 octets; what is in it is not shown."""
    path = configuration(world, tmp_path)
    (tmp_path / "secrets.txt").write_text(content)
    ran = world.run("work", path, "--allow-loopback-http")
    assert ran.status == 2
    assert "it must have secrets of at least 32 octets, one a line" in ran.err
    assert "short" not in ran.err
    (tmp_path / "secrets.txt").unlink()
    assert "No such file" in world.run("work", path, "--allow-loopback-http").err


def test_a_provider_that_is_not_there(world: World, tmp_path: Path) -> None:
    """It ends with 1, and whoever supervises it starts it again."""
    path = configuration(world, tmp_path, issuer="http://127.0.0.1:1")
    ran = world.run("work", path, "--allow-loopback-http")
    assert ran.status == 1
    assert ran.err.startswith("ciba work: ")


def test_what_is_no_configuration(world: World, tmp_path: Path) -> None:
    """A file that is not there, is not JSON, or holds something else is told as that."""
    path = tmp_path / "worker.json"
    assert "No such file" in world.run("work", str(path)).err
    for content, problem in ((b"\xff", "not UTF-8"), (b"{", "not JSON"), (b"[]", "not a JSON object")):
        path.write_bytes(content)
        ran = world.run("work", str(path))
        assert (ran.status, problem in ran.err) == (2, True)
