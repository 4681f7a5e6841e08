"""``python -m ciba_adapters.cli``."""

from __future__ import annotations

import sys

from ciba_adapters.cli import main

sys.exit(main())
