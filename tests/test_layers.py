"""What may import what, read from the sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import ciba_core

CORE = Path(ciba_core.__file__).parent
ADAPTERS = CORE.parent / "adapters" / "ciba_adapters"

ROWS = [
    {"errors", "http", "secret", "_json", "_form"},
    {"_check", "grant_audit"},
    {"binding_message", "jose", "limits"},
    {"polling", "keys", "sealing"},
    {"unsigned_jwt", "stores"},
    {"client_auth", "dpop", "draft", "shared", "token_policy"},
    {"hints", "signed_request"},
    {"profile"},
    {"profiles"},
    {"config"},
    {"metadata", "endpoint_answer"},
    {"authentication_request", "token_response", "endpoint_request", "notification"},
    {"id_token", "inputs", "token_answer"},
    {"key_search"},
    {"events"},
    {"states"},
    {"codec", "snapshot", "validation"},
    {"transaction", "operations"},
    {"machine", "routing", "login"},
]
"""From below to above; `testing` and the public door stand on top of them all."""
ROW = {module: number for number, row in enumerate(ROWS) for module in row}

IMPURE = {
    "aiohttp", "anyio", "asyncio", "concurrent", "ftplib", "h11", "h2", "http", "httpcore", "httpx", "httpx2",
    "logging", "multiprocessing", "os", "pathlib", "random", "requests", "sched", "select", "selectors",
    "shutil", "signal", "smtplib", "socket", "socketserver", "ssl", "subprocess", "sys", "tempfile",
    "threading", "time", "trio", "urllib3", "uuid", "wsgiref",
}  # fmt: skip
ASYNC = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await)


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(path: Path, *, for_types: bool = True) -> Iterator[str]:
    """The full name of everything that a file imports, at any depth; relative imports as they stand.

    Without `for_types`, what is imported for the type checker only, and never when the code runs, is left out.
    """
    pending: list[ast.AST] = [tree(path)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (f"{module}.{alias.name}" for alias in node.names)
        if for_types or not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            pending += ast.iter_child_nodes(node)


def core_modules(path: Path, *, for_types: bool = True) -> set[str]:
    """The modules of the core that a file imports from; the door is the empty name."""
    found: set[str] = set()
    for name in imports(path, for_types=for_types):
        top, *rest = name.split(".")
        if top == "ciba_core":
            found.add(rest[0] if rest and rest[0] in {*ROW, "testing"} else "")
    return found


MODULES = sorted(CORE.glob("*.py"))
BELOW_THE_DOOR = [path for path in MODULES if path.stem != "__init__"]
ADAPTER_MODULES = sorted(ADAPTERS.rglob("*.py"))
TESTING_MODULES = sorted((CORE / "testing").rglob("*.py"))


def stem(path: Path) -> str:
    return path.stem


def test_every_module_has_its_row() -> None:
    """A new module has to be placed."""
    assert {path.stem for path in BELOW_THE_DOOR} == set(ROW)
    assert {path.name for path in CORE.iterdir() if path.is_dir()} - {"__pycache__"} == {"testing"}
    assert ADAPTER_MODULES
    assert TESTING_MODULES


@pytest.mark.parametrize("path", BELOW_THE_DOOR, ids=stem)
def test_modules_import_from_rows_below(path: Path) -> None:
    """A module imports neither from its own row nor from above, nor through the door; types excepted."""
    allowed = {module for module, row in ROW.items() if row < ROW[path.stem]}
    assert core_modules(path, for_types=False) <= allowed


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
    assert [path.stem for path in MODULES if any(name.startswith("secrets") for name in imports(path))] == [
        "config"
    ]


def test_the_door_opens_on_the_core_only() -> None:
    """Importing the package does not import what is for tests."""
    assert core_modules(CORE / "__init__.py") <= {*ROW, ""}


@pytest.mark.parametrize("path", ADAPTER_MODULES, ids=stem)
def test_adapters_leave_the_inside_alone(path: Path) -> None:
    """An adapter moves transactions as an embedder does: no module with an underscore, no part of `step`."""
    private = {module for module in ROW if module.startswith("_")} | {"codec", "machine", "snapshot"}
    assert core_modules(path).isdisjoint(private)


@pytest.mark.parametrize("path", TESTING_MODULES, ids=stem)
def test_the_simulated_provider_shares_no_code_with_the_client(path: Path) -> None:
    """A mistake made once is not made twice: neither parsing nor encoding nor arithmetic is shared."""
    assert core_modules(path).isdisjoint({"_json", "_form", "_check", "polling", "codec", "snapshot"})
