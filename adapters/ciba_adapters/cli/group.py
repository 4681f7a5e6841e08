"""The command group ``ciba``. Each command is imported when it is used, so that help comes at once."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from typing import Any, Final

import click

from ciba_adapters.cli.text import is_terminal, printable

__all__ = ["complain", "interrupted", "run"]

_COMMANDS: Final = {
    "demo": "Watch an authentication, with a provider and a phone on this machine.",
    "discover": "Show a provider's metadata, and what a CIBA client would miss in it.",
    "login": "Authenticate a user at a provider.",
    "work": "Go on with stored logins that are due, until SIGTERM or SIGINT.",
}
"""The commands, which are in `ciba_adapters.cli.commands`, and what each does."""
_NO_COMMAND: Final = 2


def run(argv: Sequence[str] | None) -> int:
    """Run a command line and return the exit status."""
    try:
        status: int = _ciba.main(argv, "ciba", standalone_mode=False)
    except click.ClickException as error:
        context = error.ctx if isinstance(error, click.UsageError) else None
        complain(context.command_path if context is not None else "ciba", error.format_message())
        # click exits with 1 for files that cannot be read; here that counts as wrong usage.
        return 2
    except click.Abort:
        return interrupted()
    return status


def complain(name: str, message: str) -> None:
    """Write one line to standard error; on a terminal it is broken between words."""
    line = f"{name}: {printable(' '.join(message.split()))}"
    if is_terminal(sys.stderr):
        line = click.wrap_text(line, shutil.get_terminal_size().columns, subsequent_indent="  ")
    click.echo(line, err=True)


def interrupted() -> int:
    """Say that the user ended the command, and return the exit status."""
    from ciba_adapters.cli.outcome import CANCELLED, INTERRUPTED  # noqa: PLC0415  # slow to import

    complain("ciba", CANCELLED)
    return INTERRUPTED


class _Group(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        from ciba_adapters.cli.commands import COMMANDS  # noqa: PLC0415  # slow to import

        return COMMANDS[cmd_name]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            # Catch it before click does: click would write a line of its own.
            raise click.Abort from None


@click.group(
    cls=_Group,
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog='Completion: eval "$(_CIBA_COMPLETE=bash_source ciba)", or zsh_source; for fish see the README.',
)
@click.version_option(package_name="ciba-core")
@click.pass_context
def _ciba(context: click.Context) -> int | None:
    """OpenID Connect CIBA: authenticate a user on another device, and wait for the decision.

    Exit status: 0 tokens came; 1 failed; 2 wrong usage or configuration; 3 the user denied; 4 expired;
    5 the provider refused the request; 130 interrupted.
    """
    if context.invoked_subcommand is not None:
        return None
    click.echo(context.get_help())
    return _NO_COMMAND
