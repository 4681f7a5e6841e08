"""One authentication for the command line: driven, watched, and brought to a result."""

from __future__ import annotations

import time
from collections.abc import Callable

from ciba_adapters.cli.masking import Masking
from ciba_adapters.cli.naming import advised, named
from ciba_adapters.cli.outcome import CANCELLED, Result
from ciba_adapters.cli.stacks import Job, TimedOut, drive
from ciba_adapters.cli.text import Unusable
from ciba_core import Step, Transaction
from ciba_core.errors import CibaError, LocalProtocolError

__all__ = ["authenticate"]


def authenticate(
    adapter: str, job: Job, watch: Callable[[Step], None], masking: Masking | None = None
) -> Result:
    """Carry out an authentication; every end of it is a result.

    Args:
        adapter: one of `stacks.ADAPTERS`.
        job: what to carry out.
        watch: called with each step.
        masking: learns of the secrets before a step is watched.

    Raises:
        Unusable: the provider cannot do what is asked for, or the adapter is not installed.

    """
    started = time.monotonic()
    last: Transaction | None = None
    masking = Masking() if masking is None else masking

    def note(current: Step) -> None:
        nonlocal last
        last = current.transaction
        masking.learn(last)
        watch(current)

    def given_up(error: str, description: str) -> Result:
        return Result(
            outcome="failed",
            error=error,
            error_description=description,
            polls=0 if last is None else last.polls,
            elapsed=time.monotonic() - started,
        )

    try:
        drive(adapter, job, note)
    except TimedOut:
        return given_up("timeout", f"no outcome within {job.timeout:g} seconds")
    except KeyboardInterrupt:
        return given_up(CANCELLED, "interrupted")
    except LocalProtocolError as error:
        network = job.network
        problem = advised(
            named(str(error)),
            job.issuer,
            job.metadata_url,
            allow_loopback_http=network.allow_loopback_http,
        )
    except CibaError as error:
        return Result.failed(error, time.monotonic() - started, masking)
    else:
        assert last is not None  # noqa: S101  # there is a first step; for the type checker
        return Result.of(last, time.monotonic() - started, masking)
    raise Unusable(problem)
