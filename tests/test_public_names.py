from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import ciba_core
from ciba_core import errors
from ciba_core.errors import CibaError
from ciba_core.values.errors import ERROR_CLASSES
from tests.readme import BLOCKS

TYPED = Path(__file__).parent / "typing" / "public_api.py"

ROOT = Path(ciba_core.__file__).parent
MODULES = [
    "ciba_core",
    *sorted(
        ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
        for path in ROOT.rglob("*.py")
        if path.name != "__init__.py" and "testing" not in path.parts
    ),
]
PUBLIC = {"errors", "events", "hints", "notification", "profiles", "states", "testing"}
"""Modules whose names are public beside those of the package itself."""
DOOR = (
    "client.request",
    "client.binding_message",
    "client.authentication",
    "client.config",
    "pool.schedule",
    "provider.draft",
    "provider.fit",
    "values.http",
    "transaction.inputs",
    "values.limits",
    "transaction.step",
    "provider.metadata",
    "operations.discovery",
    "operations.driving",
    "operations.refresh",
    "operations.revocation",
    "operations.userinfo",
    "client.polling",
    "client.profile",
    "callbacks.routing",
    "values.secret",
    "provider.shared",
    "client.signed_request",
    "login.flow",
    "login.records",
    "login.sealing",
    "login.stores",
    "transaction.transaction",
)
"""Modules whose names the package itself offers."""
NOT_AT_THE_DOOR = {
    "DeliveryMode",
    "NOTHING_SHARED",
    "NotPickled",
    "Requested",
    "bearer_will_do",
    "request_object",
    "subject_issuer",
    "subject_of",
}
"""Constants, the type of one argument and what only the machine makes: there for who looks for them."""
PARTLY = {
    "client.headers": {"HeaderContext"},
    "pool.limits": {"ProviderLimits"},
    "jose.dpop": {"DpopKey", "ProofClaims"},
    "tokens.issued": {"OriginalGrant", "TokenResponse"},
    "operations.operation": {"Operation", "OperationInput", "OperationStep"},
    "tokens.grant_audit": {"GrantAudit", "GrantedItem", "Verdict"},
    "jose.keys": {"DecryptionKey", "KeySet", "Signer", "SigningKey"},
    "callbacks.notification": {"Notification", "token_hash"},
    "client.registered": {"IdTokenPolicy", "UserInfoPolicy"},
    "jose.unsigned_jwt": {"Audience", "RemoteSigner", "UnsignedJwt"},
}
"""Modules of which the package offers what a configuration is made of."""


def names(module: str) -> list[str]:
    found: list[str] = importlib.import_module(module).__all__
    return found


def rank(name: str) -> tuple[int, str]:
    """Constants, classes, the rest; each in the order of its characters."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


@pytest.mark.parametrize("module", MODULES)
def test_names_can_be_imported_and_are_sorted(module: str) -> None:
    """Every module says what it has for others, without repetition and in order, and has it."""
    found = names(module)
    imported = importlib.import_module(module)
    assert [name for name in found if not hasattr(imported, name)] == []
    assert len(set(found)) == len(found)
    assert found == sorted(found, key=rank)


@pytest.mark.parametrize("module", [module for module in MODULES if module.count(".") == 2])
def test_modules_offer_their_own_names(module: str) -> None:
    """What a module offers is defined in it, so that every class has one home."""
    imported = importlib.import_module(module)
    for name in names(module):
        found = getattr(imported, name)
        if isinstance(found, type) or inspect.isfunction(found):
            assert found.__module__ == module


@pytest.mark.parametrize("module", DOOR)
def test_the_door_is_complete(module: str) -> None:
    """Whatever a user needs comes from ``ciba_core`` itself."""
    missing = {*names(f"ciba_core.{module}")} - NOT_AT_THE_DOOR - {*ciba_core.__all__}
    assert missing == set()
    for name in {*names(f"ciba_core.{module}")} - NOT_AT_THE_DOOR:
        assert getattr(ciba_core, name) is getattr(importlib.import_module(f"ciba_core.{module}"), name)


def test_the_door_has_nothing_else() -> None:
    """Names at the door are those of the modules behind it, five modules, and the version."""
    behind = {name for module in DOOR for name in names(f"ciba_core.{module}")}
    for module, some in PARTLY.items():
        assert some == {*names(f"ciba_core.{module}")} & {*ciba_core.__all__}
        behind |= some
    assert {*ciba_core.__all__} - behind == {"__version__", "errors", "events", "hints", "profiles", "states"}
    assert all(
        isinstance(getattr(ciba_core, name), ModuleType)
        for name in ("errors", "events", "hints", "profiles", "states")
    )


def is_public(module: str, name: str) -> bool:
    """Whether the statement in the package's docstring makes it public."""
    _, _, below = module.partition(".")
    return name in names(module) if below in PUBLIC else not below and name in {*ciba_core.__all__} | PUBLIC


def test_the_statement_of_what_is_public() -> None:
    """The docstring of the package names the public modules, and each of them says what is in it."""
    assert ciba_core.__doc__ is not None
    (statement,) = (part for part in ciba_core.__doc__.split("\n\n") if part.startswith("Public are"))
    assert {*re.findall(r"`(\w+)`", statement.partition("modules:")[2])} == PUBLIC
    assert all(names(f"ciba_core.{module}") for module in PUBLIC)


@pytest.mark.parametrize("source", [*BLOCKS.values(), TYPED.read_text("utf-8")])
def test_examples_use_what_is_public(source: str) -> None:
    """Whoever does as the README does depends on nothing that is private."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "ciba_core":
            assert [alias.name for alias in node.names if not is_public(node.module, alias.name)] == []


def test_the_version_is_one() -> None:
    """The version is a PEP 440 version."""
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|(a|b|rc)\d+)?", ciba_core.__version__)


@pytest.mark.parametrize("module", MODULES)
def test_what_is_offered_is_documented(module: str) -> None:
    """Every module has a docstring, and every class and function in its `__all__`."""
    imported = importlib.import_module(module)
    assert imported.__doc__
    for name in imported.__all__:
        found = getattr(imported, name)
        if isinstance(found, type) or inspect.isfunction(found):
            assert found.__doc__, name


PROBE = """
import json, sys
import attrs
before = set(sys.modules)
import ciba_core
print(json.dumps([sorted(before), sorted(set(sys.modules) - before)]))
"""


def test_importing_the_core_brings_no_io() -> None:
    """In a fresh interpreter the core imports neither HTTP nor JOSE, sockets, TLS, event loops or threads."""
    output = subprocess.run([sys.executable, "-c", PROBE], check=True, capture_output=True, text=True).stdout
    before, new = json.loads(output)
    assert "ciba_core.transaction.step" in new
    unwanted = {
        "_socket", "_ssl", "_asyncio", "_thread", "aiohttp", "anyio", "asyncio", "concurrent", "cryptography", "email", "h11",
        "h2", "http", "httpcore", "httpx", "httpx2", "joserfc", "logging", "multiprocessing", "requests",
        "select", "selectors", "socket", "socketserver", "ssl", "subprocess", "threading", "trio", "urllib3",
        "urllib.request", "xml",
    }  # fmt: skip
    assert {name for name in new if name in unwanted or name.partition(".")[0] in unwanted} == set()
    # The interpreter itself and attrs have threads; nothing of the rest was there already, and so overlooked.
    assert unwanted & {*before} <= {"_thread", "threading"}
    assert not any(name.startswith("ciba_core.testing") for name in new)


# ---- the drawing of the errors

BRANCH = re.compile(r"^(?P<lead>[ │]*)[├└]── (?P<name>\w+)(?P<rest>.*)$")


def drawn() -> list[tuple[str, str, str]]:
    """Name, parent and remark of each line of the drawing."""
    lines: list[tuple[str, str, str]] = []
    path: list[str] = ["CibaError"]
    assert errors.__doc__ is not None
    for line in errors.__doc__.splitlines():
        found = BRANCH.match(line)
        if found:
            depth = len(found["lead"]) // 4
            del path[depth:]
            lines.append((found["name"], path[-1], found["rest"]))
            path.append(found["name"])
    return lines


def test_the_drawing_of_the_errors_is_the_hierarchy() -> None:
    """Each class stands in the drawing below each of its bases, and nothing else does."""
    classes = [cls for name in errors.__all__ if issubclass(cls := getattr(errors, name), CibaError)]
    expected = {
        (cls.__name__, base.__name__)
        for cls in classes
        for base in cls.__bases__
        if issubclass(base, CibaError)
    }
    found = [(name, parent) for name, parent, _ in drawn()]
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_the_drawing_names_the_codes() -> None:
    """CIBA-11, CIBA-13: each registered code stands in the line of its class."""
    remarks = {name: rest for name, _, rest in drawn()}
    for by_code in ERROR_CLASSES.values():
        for code, cls in by_code.items():
            assert re.search(rf"\b{code}\b", remarks[cls.__name__]), code
