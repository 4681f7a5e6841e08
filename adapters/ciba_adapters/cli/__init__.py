"""The command line ``ciba``; needs the extra ``cli``. The commands are in the modules beside this one."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from ciba_adapters._missing import missing_extra

__all__ = ["main"]

_LIBRARIES = frozenset({"anyio", "click", "rich"})


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``ciba`` and return its exit status.

    Args:
        argv: the arguments, without the name of the program; those of the process by default.

    """
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        # Do not fail if the terminal cannot show a character.
        reconfigure(errors="backslashreplace")
    try:
        from ciba_adapters.cli.group import run  # noqa: PLC0415  # says below what is missing

        status = run(argv)
        sys.stdout.flush()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _LIBRARIES:
            raise
        sys.stderr.write(f"ciba: {missing_extra('cli', error)}\n")
        return 2
    except BrokenPipeError:
        # The reader of the output has closed it (`ciba discover ... | head`). Leave nothing to be flushed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status
