"""What may import what, read from the sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import ciba_core

CORE = Path(ciba_core.__file__).parent
ADAPTERS = CORE.parent / "adapters" / "ciba_adapters"

LAYERS = {
    "ground": ("values", "jose"),
    "saying": ("client",),
    "knowing": ("provider", "tokens"),
    "driven": ("callbacks", "transaction", "operations"),
    "many": ("pool",),
    "storing": ("login",),
}
"""The rooms of the core by layer, from below to above; `testing` and the public doors stand on top of them."""
ROOMS = [room for layer in LAYERS.values() for room in layer]
DOORS = {"errors", "events", "hints", "notification", "profiles", "states"}
"""Public modules that offer what a room has."""

IMPURE = {
    "aiohttp", "anyio", "asyncio", "concurrent", "ftplib", "h11", "h2", "http", "httpcore", "httpx", "httpx2",
    "logging", "multiprocessing", "os", "pathlib", "random", "requests", "sched", "select", "selectors",
    "shutil", "signal", "smtplib", "socket", "socketserver", "ssl", "subprocess", "sys", "tempfile",
    "threading", "time", "trio", "urllib3", "uuid", "wsgiref",
}  # fmt: skip
ASYNC = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await)


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(path: Path) -> Iterator[str]:
    """The full name of everything that a file imports, at any depth, also for the type checker alone.

    Relative imports come as they stand.
    """
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (f"{module}.{alias.name}" for alias in node.names)


def place(path: Path) -> str:
    """The room and the name of a module, as in ``values/json``."""
    return path.relative_to(CORE).with_suffix("").as_posix()


def core_modules(path: Path) -> set[str]:
    """The modules of the core that a file imports from, as `place` has them; the door is the empty name."""
    found: set[str] = set()
    for name in imports(path):
        top, *rest = name.split(".")
        if top != "ciba_core":
            continue
        if rest and rest[0] in ROOMS:
            found.add("/".join(rest[:2]))
        else:
            found.add(rest[0] if rest and rest[0] in DOORS | {"testing"} else "")
    return found


def rooms(modules: set[str]) -> set[str]:
    return {module.partition("/")[0] for module in modules}


MODULES = sorted(path for path in CORE.rglob("*.py") if "testing" not in path.parts)
IN_ROOMS = [path for path in MODULES if path.parent != CORE]
ADAPTER_MODULES = sorted(ADAPTERS.rglob("*.py"))
TESTING_MODULES = sorted((CORE / "testing").rglob("*.py"))


def stem(path: Path) -> str:
    return path.stem if path.parent in (CORE, ADAPTERS) else f"{path.parent.name}/{path.stem}"


def test_every_room_has_its_layer() -> None:
    """A new room has to be placed; nothing but doors stands beside the rooms."""
    folders = {path.name for path in CORE.iterdir() if path.is_dir()} - {"__pycache__"}
    assert folders == {*ROOMS, "testing"}
    assert {path.stem for path in CORE.glob("*.py")} == DOORS | {"__init__"}
    assert ADAPTER_MODULES
    assert TESTING_MODULES


@pytest.mark.parametrize("path", IN_ROOMS, ids=stem)
def test_rooms_import_from_rooms_below(path: Path) -> None:
    """A room imports from itself and from rooms below it, and never through a door; types too."""
    room = path.parent.name
    allowed = {*ROOMS[: ROOMS.index(room) + 1]}
    assert rooms(core_modules(path)) <= allowed


@pytest.mark.parametrize("room", ROOMS)
def test_no_circle_in_a_room(room: str) -> None:
    """The modules of a room have an order in which each imports from those before it; types too."""
    below = {place(path): core_modules(path) - {place(path)} for path in sorted((CORE / room).glob("*.py"))}
    TopologicalSorter(below).prepare()


def test_only_one_room_knows_the_cryptography() -> None:
    """joserfc, and cryptography below it, are named in the room jose and nowhere else."""
    knowing = {
        path.parent.name
        for path in MODULES
        if any(name.split(".")[0] in ("joserfc", "cryptography") for name in imports(path))
    }
    assert knowing == {"jose"}


@pytest.mark.parametrize("path", MODULES, ids=stem)
def test_the_core_is_pure(path: Path) -> None:
    """No clock, no chance, no I/O, no threads, no event loop; nothing is async."""
    found = set(imports(path))
    assert {name for name in found if name.split(".")[0] in IMPURE} == set()
    assert not any(name.startswith(("urllib.request", "urllib.error", ".")) for name in found)
    nodes = list(ast.walk(tree(path)))
    assert not any(isinstance(node, ASYNC) for node in nodes)
    assert not any(isinstance(node, ast.comprehension) and node.is_async for node in nodes)
    called = {
        node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert called.isdisjoint({"open", "print", "input", "exec", "eval", "__import__"})


@pytest.mark.parametrize("path", MODULES, ids=stem)
def test_the_core_reads_no_clock(path: Path) -> None:
    """JOSE-01: time is an argument: nobody asks `datetime` for it either."""
    asked = {node.attr for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute)}
    assert asked.isdisjoint({"utcnow", "today", "monotonic", "perf_counter"})
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute) and node.attr == "now":
            assert isinstance(node.value, ast.Name)
            assert node.value.id not in ("datetime", "date", "time")


def test_there_is_one_source_of_randomness() -> None:
    """JOSE-01: only the configuration knows `secrets`; everything else is handed what it gives."""
    assert [place(path) for path in MODULES if any(name.startswith("secrets") for name in imports(path))] == [
        "client/config"
    ]


def test_the_door_opens_on_the_core_only() -> None:
    """Importing the package does not import what is for tests."""
    assert rooms(core_modules(CORE / "__init__.py")) <= {*ROOMS, *DOORS, ""}


@pytest.mark.parametrize("path", ADAPTER_MODULES, ids=stem)
def test_adapters_leave_the_inside_alone(path: Path) -> None:
    """An adapter moves transactions as an embedder does: no module with an underscore, no part of `step`."""
    assert core_modules(path).isdisjoint(PRIVATE)


PRIVATE = {
    "values/json", "values/form", "values/check",
    "transaction/decoding", "transaction/step", "transaction/snapshot",
}  # fmt: skip


@pytest.mark.parametrize("path", TESTING_MODULES, ids=stem)
def test_the_simulated_provider_shares_no_code_with_the_client(path: Path) -> None:
    """A mistake made once is not made twice: neither parsing nor encoding nor arithmetic is shared."""
    assert core_modules(path).isdisjoint({*PRIVATE, "client/polling"} - {"transaction/step"})
