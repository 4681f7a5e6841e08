"""Keycloak as a process of its own on loopback, and the authentication devices of its users.

Keycloak asks users over an HTTP channel that it is given the URL of; here it leads to this process. The
users' answers are scripted by name:

=======  ====================================
alice    approves at once
bob      is not authenticated
carol    never answers
dave     approves after a second
eve      cancels
=======  ====================================
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import os
import re
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest
from attrs import frozen

from .notifications import Notifications
from .provider import programs, unavailable

__all__ = ["CLIENTS", "Keycloak", "running_keycloak"]

DIRECTORY: Final = Path(__file__).parent / "keycloak"
VERSION: Final = "26.7.3"
SHA256: Final = "27a6535553c3cdcd083872ba40629efafb3475e3b758e0c6f691395561dd0f1f"
START_TIMEOUT: Final = 300.0
"""Seconds. The first start after the installation takes longest: it writes what later ones read."""

_REALM: Final[Mapping[str, Any]] = json.loads((DIRECTORY / "realm.json").read_bytes())
CLIENTS: Final[Mapping[str, Mapping[str, Any]]] = {client["clientId"]: client for client in _REALM["clients"]}
"""The clients that each realm has, as Keycloak represents them."""

_ANSWERS: Final = {
    "alice": ("SUCCEED", 0.0),
    "bob": ("UNAUTHORIZED", 0.0),
    "dave": ("SUCCEED", 1.0),
    "eve": ("CANCELLED", 0.0),
}


@frozen
class Keycloak:
    """The issuers of a running Keycloak: two realms, with the same users and clients."""

    issuer: str
    """Polled each second; the user has 30 seconds."""
    hasty_issuer: str
    """The same, but the user has 2 seconds."""


class _Devices(http.server.BaseHTTPRequestHandler):
    """The authentication channel: takes what a user is to be asked, and calls back with the answer."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        authorization = self.headers["Authorization"]
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()
        if asked["login_hint"] in _ANSWERS:
            threading.Thread(target=_answer, args=(asked["login_hint"], authorization), daemon=True).start()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # named so in the base class
        """Say nothing."""


def _answer(user: str, authorization: str) -> None:
    status, delay = _ANSWERS[user]
    payload = authorization.split(".")[1]
    issuer = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["iss"]
    request = urllib.request.Request(
        f"{issuer}/protocol/openid-connect/ext/ciba/auth/callback",
        json.dumps({"status": status}).encode(),
        {"Authorization": authorization, "Content-Type": "application/json"},
    )
    time.sleep(delay)
    for _ in range(100):
        try:
            with urllib.request.urlopen(request, timeout=10):
                return
        except urllib.error.HTTPError as error:
            with error:
                if error.code != 403:
                    raise
        # Keycloak stores the request after the channel has taken it; until then it knows of nothing to answer.
        time.sleep(0.05)


@contextmanager
def _devices() -> Generator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Devices) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def _install(mvn: str) -> Path:
    """Fetch the server with Maven and unpack it, unless that was done before."""
    home = DIRECTORY / "server" / f"keycloak-{VERSION}"
    if home.is_dir():
        return home
    home.parent.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=home.parent) as directory:
        command = [
            mvn,
            "--batch-mode",
            "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy",
            f"-Dartifact=org.keycloak:keycloak-quarkus-dist:{VERSION}:zip",
            f"-DoutputDirectory={directory}",
        ]
        done = subprocess.run(
            command, cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode:
            said = done.stdout + done.stderr
            unavailable(f"Keycloak {VERSION} cannot be fetched; mvn says:\n{said}", optional=True)
        (archive,) = Path(directory).glob("*.zip")
        with archive.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
        if found != SHA256:
            pytest.fail(f"{archive.name} is not what it was: SHA-256 {found}", pytrace=False)
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(directory)
        (Path(directory) / home.name).rename(home)
    return home


def _write_realms(home: Path, notifications: Notifications) -> None:
    realm = json.loads(json.dumps(_REALM))
    for client in realm["clients"]:
        if client["attributes"]["ciba.backchannel.token.delivery.mode"] == "ping":
            client["attributes"]["ciba.backchannel.client.notification.endpoint"] = notifications.url
    hasty = realm | {"realm": "hasty", "attributes": realm["attributes"] | {"cibaExpiresIn": "2"}}
    directory = home / "data" / "import"
    directory.mkdir(parents=True, exist_ok=True)
    for one in (realm, hasty):
        (directory / f"{one['realm']}-realm.json").write_text(json.dumps(one))


def _base_url(process: subprocess.Popen[bytes], log: Path) -> str:
    """Wait for the server to start, and return its URL."""
    end = time.monotonic() + START_TIMEOUT
    while time.monotonic() < end and process.poll() is None:
        if ready := re.search(r"Listening on: (http://[0-9.:]+)", log.read_text()):
            return ready[1]
        time.sleep(0.2)
    pytest.fail(f"Keycloak did not start:\n{log.read_text()}", pytrace=False)


@contextmanager
def running_keycloak(log: Path, notifications: Notifications) -> Generator[Keycloak]:
    """Run Keycloak; what it has to say goes to `log`."""
    purpose = "Maven fetches Keycloak for the interop tests, and Java runs it"
    mvn, _ = programs("mvn", "java", purpose=purpose, optional=True)
    home = _install(mvn)
    _write_realms(home, notifications)
    with _devices() as devices, log.open("wb") as output:
        command = [
            "sh",
            "bin/kc.sh",
            "start-dev",
            "--db=dev-mem",
            "--http-host=127.0.0.1",
            "--http-port=0",
            "--import-realm",
            f"--truststore-paths={notifications.authority}",
            f"--spi-ciba-auth-channel--ciba-http-auth-channel--http-authentication-channel-uri={devices}",
        ]
        with subprocess.Popen(
            command,
            cwd=home,
            # It does not run for long enough that the second compiler would pay.
            env=os.environ | {"JAVA_OPTS_APPEND": "-XX:TieredStopAtLevel=1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the tests; they then end the server
        ) as process:
            try:
                base = _base_url(process, log)
                yield Keycloak(f"{base}/realms/{_REALM['realm']}", f"{base}/realms/hasty")
            finally:
                process.terminate()  # the script passes it on
                try:
                    process.wait(timeout=30)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
