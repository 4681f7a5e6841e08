"""A provider in push mode on loopback, made with the Nimbus OAuth 2.0 / OpenID Connect SDK for Java."""

from __future__ import annotations

import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from .notifications import Notifications
from .provider import programs, running, unavailable

__all__ = ["SECRET", "running_push_provider"]

DIRECTORY: Final = Path(__file__).parent / "nimbus"
SECRET: Final = "nimbus-4mWq2VtY8sLx0ZkBhRj6NcPd7GfTaUe3"
"""The secret of its clients, ``rs256`` and ``es256``."""


def _install(mvn: str) -> Path:
    """Fetch what pom.xml names, unless that was done before."""
    libraries = DIRECTORY / "lib"
    stamp = libraries / "pom.xml"
    pom = (DIRECTORY / "pom.xml").read_text()
    if not stamp.is_file() or stamp.read_text() != pom:
        goal = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
        done = subprocess.run(
            [mvn, "--batch-mode", goal, f"-DoutputDirectory={libraries}"],
            cwd=DIRECTORY,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = done.stdout + done.stderr
            unavailable(f"the Nimbus SDK cannot be fetched; mvn says:\n{said}", optional=True)
        stamp.write_text(pom)
    return libraries


@contextmanager
def running_push_provider(log: Path, notifications: Notifications) -> Generator[str]:
    """Run the provider and yield its issuer; what it has to say goes to `log`."""
    purpose = (
        "Maven fetches what the push provider of the interop tests needs, and a JDK compiles and runs it"
    )
    mvn, java, _ = programs("mvn", "java", "javac", purpose=purpose, optional=True)
    libraries = _install(mvn)
    environment = {
        "NOTIFICATION_AUTHORITY": str(notifications.authority),
        "NOTIFICATION_ENDPOINT": notifications.url,
    }
    with running([java, "-cp", f"{libraries}/*", "PushProvider.java"], DIRECTORY, environment, log) as issuer:
        yield issuer
