"""The npm package `oidc-provider` as a process of its own on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn

import pytest

from .certificates import Certificates
from .notifications import Notifications

DIRECTORY: Final = Path(__file__).parent / "oidc_provider"
REGISTRATIONS: Final[Mapping[str, Mapping[str, Any]]] = json.loads((DIRECTORY / "clients.json").read_bytes())
"""The clients that the provider knows, as OpenID Connect registration metadata."""


def unavailable(message: str, *, optional: bool = False) -> NoReturn:
    """Skip, or fail where a silent skip would hide it and the provider is not `optional`."""
    if os.environ.get("CI") and not optional:
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def programs(*names: str, purpose: str, optional: bool = False) -> list[str]:
    """Return the paths of programs; without one of them, the provider is not available."""
    found = {name: shutil.which(name) for name in names}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        unavailable(f"not on the PATH: {', '.join(missing)} ({purpose})", optional=optional)
    return [path for path in found.values() if path is not None]


def _install(npm: str) -> None:
    """Install what the lock file names, unless that was done before."""
    lock = hashlib.sha256((DIRECTORY / "package-lock.json").read_bytes()).hexdigest()
    stamp = DIRECTORY / "node_modules" / ".installed-from"
    if stamp.is_file() and stamp.read_text() == lock:
        return
    command = [npm, "ci", "--ignore-scripts", "--engine-strict"]
    done = subprocess.run(
        command, cwd=DIRECTORY, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.fail(f"npm ci: exit status {done.returncode}\n{done.stderr}", pytrace=False)
    stamp.write_text(lock)


@contextmanager
def running_provider(log: Path, notifications: Notifications, certificates: Certificates) -> Generator[str]:
    """Run the provider and yield its issuer; what it has to say goes to `log`."""
    node, npm = programs("node", "npm", purpose="Node.js runs oidc-provider for the interop tests")
    _install(npm)
    environment = {
        "CERTIFICATES": str(certificates.directory),
        "NODE_EXTRA_CA_CERTS": str(notifications.authority),
        "NOTIFICATION_ENDPOINT": notifications.url,
    }
    with running([node, "server.mjs"], DIRECTORY, environment, log) as issuer:
        yield issuer


@contextmanager
def running(command: list[str], directory: Path, environment: Mapping[str, str], log: Path) -> Generator[str]:
    """Run a provider that names its issuer when it is ready, and ends with its standard input."""
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            command,
            cwd=directory,
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # Ctrl-C is for the tests; they then end the provider
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            ready = process.stdout.readline()
            if not ready:
                pytest.fail(f"the provider did not start:\n{log.read_text()}", pytrace=False)
            yield json.loads(ready)["issuer"]
        finally:
            process.stdin.close()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
    assert process.returncode == 0, log.read_text()
