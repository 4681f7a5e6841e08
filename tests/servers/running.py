"""Database servers as processes of their own on loopback, with their data in a temporary folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final, Self

POSTGRES_PROGRAMS: Final = Path("/usr/lib/postgresql")
"""Where Debian and its like have them, in a folder for each version, and not on the PATH."""


class ServerMissing(Exception):
    """The server is not installed."""


class Server(ABC):
    """A server that can be ended in the middle of its work, and started again with the data that it has."""

    port: int

    @abstractmethod
    def start(self) -> None:
        """Start, and return when it answers."""

    @abstractmethod
    def crash(self) -> None:
        """End it at once: it writes nothing more, and says goodbye to nobody."""


class Postgres(Server):
    """PostgreSQL. It refuses to run as root: then it is run as the user that its package made."""

    def __init__(self, programs: Path, directory: Path, *, fsync: bool = False) -> None:
        self._programs = programs
        self._directory = directory
        self._user = "postgres" if os.geteuid() == 0 else None
        self.port = _free_port()
        if self._user is not None:
            shutil.chown(directory, self._user, self._user)
        # Without fsync, what the server wrote outlives it, but not the machine.
        options = "" if fsync else "fsync = off\n"
        self._run("initdb", "--no-sync", "--username=tester", "--auth=trust", "--encoding=UTF8", "--locale=C")
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(f"listen_addresses = '127.0.0.1'\nport = {self.port}\n{options}")
            file.write("unix_socket_directories = ''\nmax_connections = 200\n")

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    def start(self) -> None:
        self._run("pg_ctl", "start", "--wait", "--silent", "--log", str(self._directory / "log"))

    def crash(self) -> None:
        self._run("pg_ctl", "stop", "--mode", "immediate", "--wait", "--silent")

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs / program, "--pgdata", self._data, *arguments],
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # no pipe: the server would keep it open
            stderr=subprocess.DEVNULL,
            user=self._user,
            group=self._user,
            extra_groups=None if self._user is None else [],
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            check=False,
        )
        if done.returncode:
            log = self._directory / "log"
            raise RuntimeError(f"{program}: {log.read_text() if log.exists() else done.returncode}")


class Redis(Server):
    """Redis, with the settings that the stores ask for."""

    def __init__(self, program: str, directory: Path) -> None:
        self._program = program
        self._directory = directory
        self._process: subprocess.Popen[str] | None = None
        self.port = _free_port()

    def start(self) -> None:
        settings = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": self._directory,
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
        }
        arguments = [str(part) for name, value in settings.items() for part in (f"--{name}", value)]
        self._process = subprocess.Popen(
            [self._program, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        said: list[str] = []
        for line in self._process.stdout:
            said.append(line)
            if "Ready to accept connections" in line:
                return
        raise RuntimeError(f"redis-server: {''.join(said)}")

    def crash(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.communicate()


@contextmanager
def running_postgres(*, fsync: bool = False) -> Generator[Postgres]:
    """Run PostgreSQL."""
    found = shutil.which("initdb") or max(
        POSTGRES_PROGRAMS.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]), default=None
    )
    if found is None:
        raise ServerMissing("initdb is not on the PATH (PostgreSQL, for the tests of stores)")
    with _directory() as directory:
        server = Postgres(Path(found).parent, directory, fsync=fsync)
        server.start()
        try:
            yield server
        finally:
            server.crash()


@contextmanager
def running_redis() -> Generator[Redis]:
    """Run Redis."""
    program = shutil.which("redis-server")
    if program is None:
        raise ServerMissing("redis-server is not on the PATH (Redis, for the tests of stores)")
    with _directory() as directory:
        server = Redis(program, directory)
        server.start()
        try:
            yield server
        finally:
            server.crash()


@contextmanager
def _directory() -> Generator[Path]:
    # Not in the folder of pytest, which other users cannot enter.
    with tempfile.TemporaryDirectory(prefix="server-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def _free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port: int = listener.getsockname()[1]
        return port


class Proxy:
    """A proxy before a server that can lose an answer: the server has done its work, and nobody hears of it."""

    def __init__(self, port: int) -> None:
        self._server = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._until_loss = 0
        self.port: int = self._listener.getsockname()[1]

    def lose_answer(self, number: int) -> None:
        """Cut the connection instead of handing on that answer of those to come: 1 is the next one."""
        self._until_loss = number

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()
        self._cut(*self._sockets)
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()

    def _start(self, target: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=target, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server))
                self._sockets += [client, server]
                self._start(self._ask, client, server)
                self._start(self._answer, server, client)

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)
        self._cut(client, server)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if self._until_loss:
                    self._until_loss -= 1
                    if not self._until_loss:
                        break
                client.sendall(data)
        self._cut(client, server)

    @staticmethod
    def _cut(*sockets: socket.socket) -> None:
        for each in sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
