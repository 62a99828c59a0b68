"""Writes the variables it finds, then runs another script if one is given."""

import json
import os
import runpy
import sys
from pathlib import Path


def main() -> None:
    out = Path(sys.argv[1])
    (out / f"environment_{os.environ['RANK']}.json").write_text(json.dumps(dict(os.environ)))
    print(f"rank {os.environ['RANK']}")
    print(f"problem {os.environ['RANK']}", file=sys.stderr)
    if sys.argv[2:]:
        sys.argv = sys.argv[2:]
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
