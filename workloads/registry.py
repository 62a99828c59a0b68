"""Finding a workload by its name: a built-in one, or ``package.module:Class``."""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from importlib import import_module
from types import ModuleType

from pydantic import BaseModel

from ithaca.runtime.workload import Workload

_BUILT_IN = {
    "csgnn": "ithaca.workloads.csgnn.workload:CSGNN",
    "lm": "ithaca.workloads.lm.workload:LM",
}


def find(name: str) -> type[Workload]:
    """The workload called ``name``; its module is imported now and not before.

    Raises:
        ValueError: no such name, module or class, or the class is no complete workload.
    """
    if name not in _BUILT_IN and ":" not in name:
        raise ValueError(_unknown(name))
    path = _BUILT_IN.get(name, name)
    module_name, _, class_name = path.partition(":")
    if not class_name.isidentifier() or not all(
        part.isidentifier() for part in module_name.split(".")
    ):
        raise ValueError(
            f"{name!r} is not the name of a workload; write package.module:Class, "
            "such as my_models.graph:GraphModel"
        )
    return _checked(name, _attribute(name, _imported(name, module_name), class_name))


def _unknown(name: str) -> str:
    known = sorted(_BUILT_IN)
    close = get_close_matches(name, known, n=1)
    guess = f" (did you mean {close[0]!r}?)" if close else ""
    return (
        f"there is no workload {name!r}{guess}; known are {', '.join(known)}, "
        "and package.module:Class for one of your own"
    )


def _imported(name: str, module_name: str) -> ModuleType:
    try:
        return import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if module_name != missing and not module_name.startswith(f"{missing}."):
            raise ValueError(
                f"workload {name!r}: the module {module_name} needs {missing!r}, which is not "
                "installed; install it on every machine of the job"
            ) from error
        raise ValueError(
            f"workload {name!r}: there is no module {missing}; install its package, "
            "or put its folder on PYTHONPATH"
        ) from error
    except Exception as error:
        raise ValueError(
            f"workload {name!r}: importing {module_name} failed with "
            f"{type(error).__name__}: {error}"
        ) from error


def _attribute(name: str, module: ModuleType, class_name: str) -> object:
    found = getattr(module, class_name, None)
    if found is not None:
        return found
    classes = [key for key, value in vars(module).items() if _is_workload(value)]
    close = get_close_matches(class_name, classes or list(vars(module)), n=1)
    guess = f" (did you mean {close[0]!r}?)" if close else ""
    has = f"its workloads are {', '.join(sorted(classes))}" if classes else "it has no workload"
    raise ValueError(
        f"workload {name!r}: the module {module.__name__} has no {class_name!r}{guess}; {has}"
    )


def _is_workload(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Workload) and not inspect.isabstract(value)


def _checked(name: str, found: object) -> type[Workload]:
    """``found`` if it is a complete workload; says what it lacks otherwise."""
    if not (isinstance(found, type) and issubclass(found, Workload)):
        what = "a class" if isinstance(found, type) else f"a {type(found).__name__}"
        raise ValueError(
            f"workload {name!r} is {what}, but not a subclass of ithaca.runtime.workload.Workload"
        )
    lacking = sorted(found.__abstractmethods__)
    if lacking:
        raise ValueError(f"workload {name!r} does not define {', '.join(lacking)}")
    config = getattr(found, "Config", None)
    if not (isinstance(config, type) and issubclass(config, BaseModel)):
        raise ValueError(
            f"workload {name!r} has no class attribute Config, a pydantic model of the keys that "
            "may stand below `workload` in a job"
        )
    try:
        inspect.signature(found).bind(None, seed=0, micro_batches=1)
    except TypeError as error:
        raise ValueError(
            f"workload {name!r} cannot be built as {found.__name__}(config, seed=..., "
            f"micro_batches=...): {error}"
        ) from error
    return found
