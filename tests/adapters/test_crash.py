"""Processes that are killed in the middle: every user is asked once, and no approval is lost in silence."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from ciba_adapters.httpx import CibaClient
from ciba_adapters.stores import sqlite_stores
from ciba_core.errors import AcknowledgementLost, CibaError, TokenResponseLost

from .crash_process import CLIENT, SECRET, metadata

LOGINS: Final = int(os.environ.get("CIBA_CRASH_LOGINS", "20"))
SEED: Final = int(os.environ.get("CIBA_CRASH_SEED", "14"))
KILLS: Final = max(10, LOGINS // 5)
PATIENCE: Final = 60.0 + LOGINS
"""Seconds until all logins have to be over."""
CANNOT_BE_CLOSED: Final[dict[type[CibaError], str]] = {
    AcknowledgementLost: "request sent, acknowledgement not saved, in poll mode",
    TokenResponseLost: "answer received, process dead before the save",
}


class Processes:
    """The processes of an application on one machine, and the provider's."""

    def __init__(self, folder: Path) -> None:
        self.database, self.journal = folder / "logins.db", folder / "journal"
        self.folder = folder
        self.users = [f"user-{number}" for number in range(LOGINS)]
        self.running: dict[str, subprocess.Popen[str]] = {}
        provider = self.open("provider", "provider", str(self.journal), *self.users)
        assert provider.stdout is not None
        self.issuer = provider.stdout.readline().strip()

    def open(self, name: str, *arguments: str) -> subprocess.Popen[str]:
        program = [sys.executable, "-m", "tests.adapters.crash_process", *arguments]
        process = self.running[name] = subprocess.Popen(
            program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return process

    def start(self, name: str) -> None:
        """Start one of the application's processes, a second time if it was killed."""
        if name == "starter":
            self.open(name, "start", str(self.database), self.issuer, *self.users)
        else:
            health_file = self.folder / f"{name}.json"
            health_file.unlink(missing_ok=True)
            self.open(name, "work", str(self.database), self.issuer, str(health_file))

    def kill(self, name: str) -> bool:
        """Kill a process, and return whether there was one."""
        process = self.running[name]
        process.kill()
        self.close(process)
        return process.returncode == -signal.SIGKILL

    @staticmethod
    def close(process: subprocess.Popen[str]) -> None:
        process.communicate()

    def end(self) -> None:
        for process in self.running.values():
            process.kill()
            if process.stdout is not None and not process.stdout.closed:
                self.close(process)


def outcome(processes: Processes, ciba: CibaClient, user: str) -> str:
    stores = sqlite_stores(processes.database, secrets=[SECRET])
    if ciba.load_session(stores=stores, session_key=user) is not None:
        return "session"
    try:
        ciba.check_pending(stores=stores, session_key=user)
    except CibaError as error:
        return CANNOT_BE_CLOSED.get(type(error), repr(error))
    return "under way"


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
@pytest.mark.timeout(3 * PATIENCE)
def test_processes_that_are_killed_at_random(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each user is prompted once, no poll is early or beside another one, and tokens are issued once.

    What cannot be closed, whoever writes the client, is counted and named.
    """
    chance = random.Random(SEED)
    processes = Processes(tmp_path)
    store: Any = sqlite_stores(processes.database, secrets=[SECRET]).transactions
    try:
        names = ["starter", "worker-1", "worker-2"]
        for name in names:
            processes.start(name)
        killed = 0
        while killed < KILLS:
            time.sleep(chance.uniform(0.1, 1.2))
            name = chance.choice(names)
            if name == "starter" and processes.running[name].poll() == 0:
                names.remove(name)
                continue
            killed += processes.kill(name)
            processes.start(name)
        assert processes.running["starter"].wait(PATIENCE) == 0
        until = time.monotonic() + PATIENCE
        while store.pending() and time.monotonic() < until:
            time.sleep(0.1)
        for name in ("worker-1", "worker-2"):
            while not (tmp_path / f"{name}.json").exists():
                time.sleep(0.1)
            processes.running[name].send_signal(signal.SIGTERM)
        for name in ("worker-1", "worker-2"):
            processes.close(processes.running[name])
            assert processes.running[name].returncode == 0
            health = json.loads((tmp_path / f"{name}.json").read_text())
            assert (health["state"], health["parked"]) == ("stopped", [])
    finally:
        processes.end()
    with httpx.Client(verify=False, trust_env=False) as http:
        ciba = CibaClient(metadata(processes.issuer), CLIENT, http=http)
        outcomes = {user: outcome(processes, ciba, user) for user in processes.users}
    journal = [json.loads(line) for line in processes.journal.read_text().splitlines()]
    counts = Counter(outcomes.values())
    with capsys.disabled():
        sys.stdout.write(f" [seed {SEED}, {killed} killed: {dict(counts)}] ")
    prompts = Counter(entry["user"] for entry in journal if entry["outcome"] == "acknowledged")
    assert {user: prompts[user] for user in outcomes} == dict.fromkeys(outcomes, 1)
    assert not [entry for entry in journal if entry["too_early"] or entry["overlapping"]]
    assert {*counts} <= {"session", *CANNOT_BE_CLOSED.values()}
    issued = Counter(entry["user"] for entry in journal if entry["outcome"] == "tokens")
    assert set(issued.values()) == {1}
    # Whoever asks for tokens once more is one whose answer came to a process that was killed.
    again = {entry["user"] for entry in journal if entry["replayed"]}
    assert again == {user for user, how in outcomes.items() if how == CANNOT_BE_CLOSED[TokenResponseLost]}
