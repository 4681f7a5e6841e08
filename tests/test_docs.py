from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parent.parent / "docs"


def test_tutorial(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of the tutorial are one program, which prints what the page says."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    text = (DOCS / "tutorial" / "index.md").read_text(encoding="utf-8")
    program = "\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
    scope: dict[str, Any] = {}
    try:
        exec(compile(program, "tutorial", "exec"), scope)
    finally:
        scope["http"].close()
        scope["server"].close()
    first, second, *journal = capsys.readouterr().out.splitlines()
    assert (first, second) == ("alice", "Bob does not want to")
    assert journal == [
        "metadata served 200",
        "backchannel_authentication acknowledged 200",
        "token tokens 200",
        "jwks served 200",
        "backchannel_authentication acknowledged 200",
        "token access_denied 400",
    ]


def test_many(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of the page on pools are one program, which prints what the page says."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    text = (DOCS / "howto" / "many.md").read_text(encoding="utf-8")
    program = "\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
    scope: dict[str, Any] = {}
    try:
        exec(compile(program, "many", "exec"), scope)
    finally:
        scope["server"].close()
    printed = capsys.readouterr().out.splitlines()
    assert printed == ["100 users agreed", "1 request for the keys", "carol is left"]
    assert all(f"`{line}`" in text for line in printed)
