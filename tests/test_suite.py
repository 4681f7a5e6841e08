from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_in_the_background() -> None:
    """The suite ends where it is started with SIGINT ignored, as a shell script starts what it puts behind it."""
    interrupted = "tests/adapters/test_cancellation.py::test_interrupt"
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout", "60", interrupted],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert ran.returncode == 0, ran.stdout
    assert "3 passed" in ran.stdout
