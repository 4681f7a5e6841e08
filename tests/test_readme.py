"""The README tells the truth: its code runs, its diagram is the transition table, its names exist."""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import anyio
import pytest
import trustme

import ciba_core.errors
import ciba_core.states
from ciba_adapters._drive import Cancellation
from ciba_core.states import TRANSITIONS
from ciba_core.testing import Approve, LoopbackServer, SimulatedClient, SimulatedProvider

README: Final = Path(__file__).parent.parent / "README.md"
BEGIN: Final = "<!-- states: written by tests/test_readme.py -->\n"
END: Final = "<!-- /states -->\n"
BLOCKS: Final = re.findall(r"^```python\n(.*?)^```$", README.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def diagram() -> str:
    """Draw the transition table as a Mermaid state diagram."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for (source, event), target in TRANSITIONS.items():
        arrows.setdefault((source.__name__, target.__name__), []).append(event.__name__)
    sources = {source.__name__ for source, _ in TRANSITIONS}
    ends = dict.fromkeys(name for _, name in arrows if name not in sources)
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> New"]
    lines += [
        f"    {source} --> {target}: {', '.join(events)}" for (source, target), events in arrows.items()
    ]
    lines += [f"    {name} --> [*]" for name in ends]
    return "\n".join([*lines, "```", ""])


def test_diagram_is_the_transition_table() -> None:
    """The diagram in the README is drawn from the table; run this module to draw it anew."""
    drawn = README.read_text("utf-8").partition(BEGIN)[2].partition(END)[0]
    assert drawn == diagram()


@pytest.fixture
def op(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """Serve a simulated provider over TLS that every HTTP library trusts; waits pass at once."""
    authority = trustme.CA()
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(bundle)
    # The means of the HTTP libraries, for the sake of code that is printed without any set-up.
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)  # pyright: ignore[reportUnknownMemberType]  # as trustme has it

    async def anyio_sleep(_seconds: float) -> None:
        await anyio.lowlevel.checkpoint()

    def sleep(_seconds: float) -> None:
        pass

    def wait(_cancellation: Cancellation, _seconds: float) -> None:
        pass

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(anyio, "sleep", anyio_sleep)
    monkeypatch.setattr(Cancellation, "wait", wait)
    with LoopbackServer(ssl_context=context) as server:
        issuer = server.url.replace("127.0.0.1", "localhost")
        provider = SimulatedProvider(
            time,
            issuer=issuer,
            clients=[SimulatedClient("s6BhdRkqt3", "7Fjfp0ZBr1KtDRbnfVdmIw")],
            users={"alice": Approve(after_polls=1)},
            interval=1,
            throttle_early_polls=False,
        )
        server.handler = provider.handle
        yield issuer


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_code_runs(number: int, op: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each block of Python runs as it stands, with the example's provider replaced by a real one."""
    code = BLOCKS[number].replace("https://op.example", op)
    scope: dict[str, object] = {"__name__": "readme"}
    exec(compile(code, f"README block {number}", "exec"), scope)  # our own text
    printed = capsys.readouterr().out
    expected = ["alice openid Secret('***')", "thank you", "", "TokenResponse", "", ""][number]
    assert expected in printed
    assert "7Fjfp0ZBr1KtDRbnfVdmIw" not in printed


def test_names_exist() -> None:
    """Every state and exception that the table of outcomes names is there."""
    table = README.read_text("utf-8").partition("| state at the end |")[2].partition("\n\n")[0]
    names = set(re.findall(r"`([A-Z]\w+)`", table))
    known = {*ciba_core.states.__all__, *ciba_core.errors.__all__}
    assert names <= known
    ends = {cls.__name__ for cls in TRANSITIONS.values()} - {source.__name__ for source, _ in TRANSITIONS}
    assert ends <= names


if __name__ == "__main__":
    head, _, rest = README.read_text("utf-8").partition(BEGIN)
    README.write_text(head + BEGIN + diagram() + END + rest.partition(END)[2], "utf-8")
