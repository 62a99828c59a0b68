"""A program: ``python run_path.py script [args]`` runs the script inside torch's error recorder."""

from __future__ import annotations

import runpy
import sys

from torch.distributed.elastic.multiprocessing.errors import record


@record
def main() -> None:
    """Runs ``sys.argv[1]`` as ``__main__``; its exception goes to TORCHELASTIC_ERROR_FILE too."""
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
