"""``ciba work``: a worker from a configuration file."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import Any, Final, cast

import anyio
import click
import httpx
from attrs import define, evolve, field, frozen

from ciba_adapters.cli.arguments import read_json
from ciba_adapters.cli.client_file import PROFILES, ClientFile, read_client_file
from ciba_adapters.cli.stacks import Network
from ciba_adapters.cli.text import Unusable, printable
from ciba_adapters.httpx import AsyncCibaClient
from ciba_adapters.notification import NotificationEndpoint
from ciba_adapters.stores import sqlite_stores
from ciba_adapters.work import Worked, work
from ciba_core import AsyncStores, Stores
from ciba_core.errors import CibaError

__all__ = ["work_command"]

_Members = Mapping[str, Any]
_NUMBERS: Final = frozenset({"concurrency", "rate", "lease", "look_every", "drain_within", "park_after"})
_NAMED: Final = frozenset({"parked", "failed", "cut_off"})
"""Outcomes that an operator should look at."""


@frozen
class _Configuration:
    client: ClientFile
    issuer: str
    metadata_url: str | None
    store_url: str = field(repr=False)
    """May contain the password of the database."""
    secrets_file: Path
    folder: Path
    settings: dict[str, Any]


_HELP: Final = f"""Go on with stored logins that are due, until SIGTERM or SIGINT.

FILE is a client file, as for ciba login, with more members:

\b
  issuer          the provider
  metadata_url    where its metadata lies, if not at its well-known place
  profile         one of {", ".join(PROFILES)}
  store           an object:
    url             sqlite:FILE, postgresql://..., redis://... or rediss://...
    secrets_file    a file with one secret a line; the first one encrypts, all of them decrypt
  work            an object, if you like: concurrency, rate, lease, look_every, drain_within,
                  park_after (numbers), health_file

Names of files count from the folder that FILE is in. The secrets file is read anew when it has changed.
Start as many workers as you like. What was parked is told on standard error.

Exit status: 0 stopped; 1 the provider or the store cannot be used; 2 wrong configuration.
"""


@click.command("work", help=_HELP)
@click.argument("file", metavar="FILE")
@click.option("--cert", metavar="FILE", help="PEM file with the client's certificate, for mutual TLS.")
@click.option("--key", metavar="FILE", help="PEM file with the key of --cert, if it is not in there.")
@click.option("--cacert", metavar="FILE", help="PEM file with the certificate authorities to trust.")
@click.option("--allow-loopback-http", is_flag=True, help="Accept plain http for 127.0.0.1, ::1, localhost.")
def work_command(
    *, file: str, cert: str | None, key: str | None, cacert: str | None, allow_loopback_http: bool
) -> int:
    """Run a worker; see `_HELP`."""
    configuration = _read(file)
    network = Network(cacert, cert, key, allow_loopback_http=allow_loopback_http)
    try:
        anyio.run(_work, configuration, network)
    except CibaError as error:
        click.echo(f"ciba work: {printable(' '.join(str(error).split()))}", err=True)
        return 1
    return 0


async def _work(configuration: _Configuration, network: Network) -> None:
    client = configuration.client.config
    async with _stores(configuration) as stores, _session(network) as http:
        ciba = await AsyncCibaClient.discover(
            configuration.issuer,
            client,
            http=http,
            metadata_url=configuration.metadata_url,
            # A web server receives and stores callbacks; the worker receives none.
            endpoint=NotificationEndpoint() if client.needs_callbacks else None,
            allow_loopback_http=network.allow_loopback_http,
        )
        click.echo("ciba work: working", err=True)
        signals = (signal.SIGTERM, signal.SIGINT)
        health = await work(stores, ciba, report=_report, signals=signals, **configuration.settings)
    counts = ", ".join(f"{number} {outcome}" for outcome, number in sorted(health.counts.items()))
    click.echo(f"ciba work: stopped; {counts or 'nothing was due'}", err=True)


def _session(network: Network) -> httpx.AsyncClient:
    return httpx.AsyncClient(verify=network.context() or True, trust_env=network.proxies)


def _report(worked: Worked) -> None:
    if worked.outcome in _NAMED:
        reason = "" if worked.error is None else f": {type(worked.error).__name__}"
        click.echo(f"ciba work: {worked.outcome} {printable(worked.key)}{reason}", err=True)


# --- the stores ------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _stores(configuration: _Configuration) -> AsyncGenerator[Callable[[], Stores | AsyncStores]]:
    secrets = _Secrets(configuration.secrets_file)
    scheme, _, rest = configuration.store_url.partition(":")
    async with contextlib.AsyncExitStack() as stack:
        stores: Stores | AsyncStores
        try:
            if scheme == "sqlite":
                stores = sqlite_stores(configuration.folder / rest, secrets=secrets.lines)
            elif scheme in {"postgresql", "postgres"}:
                stores = await _postgres(stack, configuration.store_url, secrets.lines)
            else:
                stores = await _redis(stack, configuration.store_url, secrets.lines)
        except ImportError as error:
            raise Unusable(str(error)) from None
        yield lambda: _with(stores, secrets)


def _with(stores: Stores | AsyncStores, secrets: _Secrets) -> Stores | AsyncStores:
    secrets.look()
    return evolve(stores, secrets=secrets.lines)


async def _postgres(stack: contextlib.AsyncExitStack, url: str, secrets: list[str]) -> AsyncStores:
    from ciba_adapters.stores.postgres import async_postgres_stores  # noqa: PLC0415  # of an extra

    from psycopg_pool import AsyncConnectionPool  # noqa: PLC0415  # isort: skip

    pool = AsyncConnectionPool(url, kwargs={"autocommit": True}, timeout=5, open=False)
    await stack.enter_async_context(pool)
    return async_postgres_stores(pool, secrets=secrets)


async def _redis(stack: contextlib.AsyncExitStack, url: str, secrets: list[str]) -> AsyncStores:
    from ciba_adapters.stores.redis import async_redis_stores  # noqa: PLC0415  # of an extra

    import redis.asyncio  # noqa: PLC0415  # isort: skip

    client = cast("Any", redis.asyncio.Redis).from_url(url, socket_timeout=5)  # its options have no types
    stack.push_async_callback(client.aclose)
    return async_redis_stores(client, secrets=secrets)


@define
class _Secrets:
    """The secrets of a file, read anew when it has changed."""

    path: Path
    lines: list[str] = field(init=False, repr=False)
    seen: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        try:
            self._read()
        except OSError as error:
            raise Unusable(f"store.secrets_file {self.path}: {error.strerror}") from None
        except ValueError as error:
            raise Unusable(f"store.secrets_file {self.path}: {error}") from None

    def look(self) -> None:
        """Read the file. If it cannot be used, keep the secrets from before."""
        try:
            if self.path.stat().st_mtime_ns != self.seen:
                self._read()
        except (OSError, ValueError):
            click.echo(f"ciba work: {self.path} cannot be used; the secrets from before stay", err=True)

    def _read(self) -> None:
        self.seen = self.path.stat().st_mtime_ns
        lines = self.path.read_text(encoding="utf-8").splitlines()
        lines = [line.strip() for line in lines if line.strip()]
        if not lines or any(len(line.encode()) < 32 for line in lines):
            raise ValueError("it must have secrets of at least 32 octets, one a line")
        self.lines = lines


# --- the file --------------------------------------------------------------------------------------------


def _read(path: str) -> _Configuration:
    try:
        members: Any = read_json(Path(path).read_text(encoding="utf-8-sig"))
        return _configuration(path, members)
    except OSError as error:
        problem = error.strerror or type(error).__name__
    except UnicodeDecodeError:
        problem = "not UTF-8"
    except (TypeError, ValueError) as error:
        problem = str(error)
    raise Unusable(f"{path}: {problem}")


def _configuration(path: str, members: Any) -> _Configuration:
    if not isinstance(members, dict):
        raise TypeError("not a JSON object")
    found = cast("dict[str, Any]", members)
    profile = _text(found, "profile", "generic")
    if profile not in PROFILES:
        raise ValueError(f"profile: {profile!r} is none of {', '.join(PROFILES)}")
    folder = Path(path).absolute().parent
    store = _section(found, "store", {"url", "secrets_file"})
    settings = dict(_section(found, "work", {*_NUMBERS, "health_file"}, {}))
    for name in settings.keys() & _NUMBERS:
        number: Any = settings[name]
        if type(number) not in (int, float) or not number > 0:
            raise ValueError(f"work.{name} is not a number above 0")
    if "concurrency" in settings and type(settings["concurrency"]) is not int:
        raise ValueError("work.concurrency is not a whole number")
    if "health_file" in settings:
        settings["health_file"] = folder / _text(settings, "health_file", at="work.")
    url = _text(store, "url", at="store.")
    if url.partition(":")[0] not in {"sqlite", "postgresql", "postgres", "redis", "rediss"}:
        raise ValueError("store.url is none of sqlite:FILE, postgresql://..., redis://..., rediss://...")
    return _Configuration(
        read_client_file(path, profile=PROFILES[profile]),
        _text(found, "issuer"),
        _text(found, "metadata_url") if "metadata_url" in found else None,
        url,
        folder / _text(store, "secrets_file", at="store."),
        folder,
        settings,
    )


def _section(members: _Members, name: str, known: set[str], default: _Members | None = None) -> _Members:
    section: Any = members.get(name, default)
    if not isinstance(section, dict):
        raise TypeError(f"{name} is missing" if section is None else f"{name} is not an object")
    found = cast("dict[str, Any]", section)
    for unknown in sorted(found.keys() - known):
        raise ValueError(f"{name}.{unknown} is not known; known are {', '.join(sorted(known))}")
    return found


def _text(members: _Members, name: str, default: str | None = None, *, at: str = "") -> str:
    value: Any = members.get(name, default)
    if value is None:
        raise ValueError(f"{at}{name} is missing")
    if not isinstance(value, str):
        raise TypeError(f"{at}{name} is not a string")
    return value
