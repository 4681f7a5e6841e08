"""The command line; runs in the environment that `benchmarks.__main__` has set up."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from benchmarks import callbacks, core, imports, peers, polls, provider, report, signatures, stores, waiting
from benchmarks.measure import ALL_GROUPS, Result, Row, Scale

__all__ = ["main", "measure"]

_RESULTS = Path(__file__).parent / "results" / "latest.json"


def measure(scale: Scale, groups: Sequence[str]) -> Iterator[Result]:
    """Measure the groups, in order."""
    with ExitStack() as stack:
        if "polls" in groups or "peers" in groups:
            canned = stack.enter_context(provider.running())
            if "polls" in groups:
                yield from polls.rows(scale, canned.url)
            if "peers" in groups:
                yield from peers.rows(scale, canned)
    if "core" in groups:
        yield from core.rows(scale)
        yield from signatures.rows(scale)
        yield from signatures.peers(scale)
    if "callbacks" in groups:
        yield from callbacks.rows(scale)
    if "waiting" in groups:
        yield from waiting.rows(scale)
    if "stores" in groups:
        yield from stores.rows(scale)
    if "imports" in groups:
        yield from imports.rows(scale)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON file and the chart."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="see whether everything works, in under a minute"
    )
    parser.add_argument(
        "--only", choices=ALL_GROUPS, action="append", help="measure one group; may be repeated"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw a chart; FILE ends with .svg or .png")
    options = parser.parse_args(arguments)
    if options.plot is not None and options.plot.suffix not in {".svg", ".png"}:
        parser.error("--plot: the file has to end with .svg or .png")
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        os.environ.pop(name, None)  # everything is on loopback
    progress = Console(stderr=True)
    results: list[Result] = []
    scale = Scale.quick() if options.quick else Scale.full()
    for result in measure(scale, options.only or ALL_GROUPS):
        results.append(result)
        figure = f": {result.ratio.median:.3f}" if isinstance(result, Row) else ""
        progress.print(f"{result.group}: {result.name}{figure}", highlight=False)
    console = Console(width=None if sys.stdout.isatty() else 180)
    report.table(results, console)
    report.write_json(results, report.conditions(), _RESULTS)
    if options.plot is not None:
        report.chart(results, options.plot)
    return 0
