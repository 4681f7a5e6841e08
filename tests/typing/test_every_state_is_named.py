"""Whoever adds a state is shown by the type checker what has to know it.

A scratch copy of the sources gets a state more; mypy must find fault with every place that decides by the
state. A place with a default arm would be missing here.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ciba_core

pytest.importorskip("mypy", reason="needs what `make lint` needs")

CORE = Path(ciba_core.__file__).parent
ROOT = CORE.parent

PLACES = {
    ("ciba_core/transaction/step.py", "on_resumed"),
    ("ciba_core/transaction/step.py", "on_cancel"),
    ("ciba_core/transaction/step.py", "on_timer"),
    ("ciba_core/transaction/step.py", "on_signing"),
    ("ciba_core/transaction/step.py", "take_outcome"),
    ("ciba_core/transaction/step.py", "on_notification"),
    ("ciba_core/transaction/transaction.py", "deadline"),
    ("ciba_core/transaction/transaction.py", "callbacks_until"),
    ("ciba_core/transaction/transaction.py", "owes_answer"),
    ("ciba_core/transaction/transaction.py", "auth_req_id"),
    ("ciba_core/transaction/transaction.py", "expires_at"),
    ("ciba_core/transaction/transaction.py", "error"),
    ("ciba_core/transaction/snapshot.py", "_dump_state"),
    ("adapters/ciba_adapters/cli/display.py", "_panel"),
    ("adapters/ciba_adapters/cli/outcome.py", "of"),
}
"""Files and functions that decide by the state. The callback endpoint asks `Transaction.callbacks_until`."""


def function_at(path: Path, line: int) -> str:
    """Return the name of the innermost function that a line is in."""
    around = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.lineno <= line <= (node.end_lineno or 0)
    ]
    return max(around, key=lambda node: node.lineno).name


def test_a_new_state_is_pointed_at_everywhere(tmp_path: Path) -> None:
    """No decision about states has a default arm."""
    for folder in (CORE, ROOT / "adapters" / "ciba_adapters"):
        target = tmp_path / folder.relative_to(ROOT)
        shutil.copytree(folder, target, ignore=shutil.ignore_patterns("__pycache__", "testing"))
    states = tmp_path / "ciba_core" / "transaction" / "states.py"
    source = states.read_text(encoding="utf-8")
    changed = source.replace(
        "\nState = (\n    New\n", "\nclass Parked: ...\n\n\nState = (\n    Parked\n    | New\n"
    )
    assert changed != source
    states.write_text(changed, encoding="utf-8")
    checked = subprocess.run(
        [
            sys.executable, "-m", "mypy", "--strict", "--explicit-package-bases", "--no-incremental",
            "--no-error-summary", "--follow-imports=silent", *sorted({file for file, _ in PLACES}),
        ],
        cwd=tmp_path,
        env={"MYPYPATH": "adapters", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    found = re.findall(r'^(\S+?):(\d+): error: .*"assert_never".*"Parked"', checked.stdout, re.MULTILINE)
    assert {(file, function_at(tmp_path / file, int(line))) for file, line in found} == PLACES, checked.stdout
