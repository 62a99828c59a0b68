"""Says what this machine lacks before set-up starts: ``python3 requirements/check.py c++``.

Runs on whatever Python 3 there is, so it keeps to what an old one can parse; it makes nothing.
"""

import os
import shutil
import sys

OLDEST = (3, 11)

OLD_PYTHON = """\
Python {oldest} or newer is needed, and {executable} is {version}.
Install one, or name one: make PYTHON=/path/to/python{oldest}"""

INSIDE = """\
{executable} lies inside the environment that is about to be made anew.
Leave it first (deactivate), or name another Python: make PYTHON=/usr/bin/python3"""

NO_VENV = """\
{executable} cannot make virtual environments: its module {module} is missing.
On Debian and its relatives: apt install python3-venv"""

NO_COMPILER = """\
There is no C++ compiler: {compiler!r} was not found. One for C++20 is needed.
On Debian and its relatives: apt install g++
One with another name: make CXX=clang++"""


def missing_module() -> str:
    """The first module that a virtual environment needs and that is not there; or nothing."""
    for module in ("venv", "ensurepip"):
        try:
            __import__(module)
        except ImportError:
            return module
    return ""


def complaint(version: tuple, compiler: str, environment: str) -> str:  # type: ignore[type-arg]
    """The first thing that is wrong, in words; an empty text when nothing is.

    ``version`` is the interpreter's as in ``sys.version_info``; ``compiler`` the command that
    will be called for C++; ``environment`` the folder that the environment will be made in.
    """
    oldest = ".".join(str(number) for number in OLDEST)
    if version[:2] < OLDEST:
        given = ".".join(str(number) for number in version[:3])
        return OLD_PYTHON.format(oldest=oldest, executable=sys.executable, version=given)
    if os.path.realpath(sys.prefix) == os.path.realpath(environment):
        return INSIDE.format(executable=sys.executable)
    module = missing_module()
    if module:
        return NO_VENV.format(executable=sys.executable, module=module)
    if not compiler.split() or shutil.which(compiler.split()[0]) is None:
        return NO_COMPILER.format(compiler=compiler)
    return ""


def main() -> int:
    """Prints what is wrong, if anything, and returns the exit code."""
    compiler, environment = sys.argv[1:3]
    text = complaint(tuple(sys.version_info), compiler, environment)
    if text:
        sys.stderr.write("set-up: " + text.replace("\n", "\n        ") + "\n")
    return 1 if text else 0


if __name__ == "__main__":
    sys.exit(main())
