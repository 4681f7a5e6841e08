from __future__ import annotations

import io
import os
import re
import resource
import subprocess
import sys

import pytest
from rich.console import Console
from rich.text import Text

from ciba_adapters.cli.commands import COMMANDS
from ciba_adapters.cli.wrapping import print_hanging

from .conftest import COMMAND, Terminal, World


def test_ciba_alone_shows_its_help(world: World) -> None:
    """Without a command there is the help on standard output; no login came about, so it is no success."""
    alone, asked = world.run(), world.run("--help")
    assert (alone.status, alone.err, asked.status) == (2, "", 0)
    assert alone.out == asked.out
    for name in COMMANDS:
        assert f"\n  {name} " in alone.out


def test_the_commands_are_those_that_help_names(world: World) -> None:
    """The list that is shown without importing the commands is that of the commands."""
    ran = world.run("--help")
    section = ran.out.partition("Commands:\n")[2].partition("\n\n")[0]
    assert re.findall(r"^  (\w+) ", section, re.MULTILINE) == sorted(COMMANDS)


def test_help_imports_no_command() -> None:
    """`ciba --help` imports neither the core nor what draws on the terminal: that is what makes it slow."""
    code = (
        "import sys; from ciba_adapters.cli import main; main(['--help'])\n"
        "print(sorted({'ciba_core', 'rich', 'anyio', 'httpx', 'joserfc'} & sys.modules.keys()), file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stderr == "[]\n"
    assert ran.stdout.startswith("Usage: ciba ")


def test_help_is_cheap() -> None:
    """Help takes little more processor time than Python and click do; the limit has room for a busy machine."""

    def seconds(*program: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(program, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    base = min(seconds(sys.executable, "-c", "import click") for _ in range(3))
    ours = min(seconds(sys.executable, "-m", "ciba_adapters.cli", "--help") for _ in range(3))
    assert ours - base < 0.1


@pytest.mark.parametrize("command", ["demo", "discover", "login"])
def test_help_fits_60_columns(command: str, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """No line of a help is longer than a narrow terminal, which would break it within a word."""
    monkeypatch.setenv("COLUMNS", "60")
    ran = world.run(command, "--help")
    assert ran.status == 0
    assert [line for line in ran.out.splitlines() if len(line) > 60] == []


def test_completion() -> None:
    """The shell completes commands and the values of options."""

    def completed(*words: str) -> list[str]:
        ran = subprocess.run(
            [sys.executable, "-c", "from ciba_adapters.cli import main; import sys; sys.exit(main())"],
            env={**os.environ, "_CIBA_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return ran.stdout.split()

    assert completed("ciba", "d") == ["plain,demo", "plain,discover"]
    assert completed("ciba", "demo", "--mode", "p") == ["plain,poll", "plain,ping", "plain,push"]


@pytest.mark.parametrize("width", [60, 100])
def test_lines_break_between_words(width: int) -> None:
    """On a terminal a line that does not fit goes on below itself; a word is broken only if it is too long."""
    told = "acknowledged: 2:00 to decide, then the provider pings; without a ping, a poll in 90.0 s " * 2
    out = io.StringIO()
    print_hanging(
        Console(file=out, force_terminal=True, color_system=None, width=width), Text("   0.1 s  "), Text(told)
    )
    first, *others = out.getvalue().splitlines()
    assert others
    assert max(map(len, (first, *others))) <= width
    assert all(line.startswith(" " * 10) for line in others)
    assert " ".join(line[10:] for line in (first, *others)).split() == told.split()


def test_files_get_whole_lines() -> None:
    """What is no terminal gets a line as one line."""
    out = io.StringIO()
    print_hanging(Console(file=out, width=60), Text("   0.1 s  "), Text("word " * 40))
    assert out.getvalue().count("\n") == 1


def test_complaints_break_between_words() -> None:
    """So do the messages about wrong usage."""
    terminal = Terminal(*COMMAND, "discover", "http://localhost:1", columns=60)
    assert terminal.wait() == 2
    lines = terminal.output.split("\r\n")
    assert max(map(len, lines)) <= 60
    assert " ".join(terminal.output.split()).endswith(
        "for a provider on this machine give --allow-loopback-http"
    )


def test_demo_says_how_ping_mode_works() -> None:
    """In ping mode the demo promises no polls at an interval, and says what it does instead."""
    ran = subprocess.run(
        (*COMMAND, "demo", "--mode", "ping"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0
    assert "mode: ping: the provider calls, then the client asks once" in ran.stderr
    assert "then the provider pings; without a ping, a poll in " in ran.stderr
    assert "polls every" not in ran.stderr


def test_terminal_says_that_the_phone_has_approved() -> None:
    """The decision is a line of the terminal, before the poll that tells the client."""
    terminal = Terminal(*COMMAND, "demo", columns=60)
    terminal.read_until("acknowledged")
    terminal.press(b"a")
    assert terminal.wait() == 0
    assert terminal.output.index("approved on the phone") < terminal.output.index("tokens issued")
