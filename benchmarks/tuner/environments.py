"""``python -m benchmarks.tuner.environments [NAME ...]``: what the study needs, locked.

Each name is a file in requirements/peers/tuner; ``build/tuner/NAME`` is made anew with exactly what
is in it. ``tables`` sees the product's environment besides, and runs the study; opponents do not.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from benchmarks.tuner.remote import ENVIRONMENTS, ROOT

LOCKS = ROOT / "requirements" / "peers" / "tuner"
WITH_PRODUCT = "tables"


def names() -> list[str]:
    """All environments."""
    return sorted(path.stem for path in LOCKS.glob("*.txt"))


def make(name: str) -> None:
    """One environment; raises ``CalledProcessError`` if a package cannot be installed."""
    folder = ENVIRONMENTS / name
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder)
    python = folder / "bin" / "python"
    if name == WITH_PRODUCT:
        packages = next(folder.glob("lib/python*/site-packages"))
        ours = sysconfig.get_path("purelib")
        (packages / "product.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    pip = [sys.executable, "-m", "pip", "--quiet", "--python", str(python)]
    lock = str(LOCKS / f"{name}.txt")
    subprocess.run([*pip, "install", "--no-deps", "-r", lock], check=True)


def main() -> None:
    """Make those that are named, or all."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tuner.environments", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("names", nargs="*", default=names())
    for name in parser.parse_args().names:
        if not Path(LOCKS / f"{name}.txt").exists():
            parser.error(f"there is no environment {name}; there are: {', '.join(names())}")
        make(name)
        print(name, flush=True)


if __name__ == "__main__":
    main()
