"""``python -m ithaca``: the same as the console command."""

from __future__ import annotations

import sys

from ithaca.runtime.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
