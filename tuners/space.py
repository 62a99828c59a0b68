"""Search spaces: what may be chosen for each parameter, and when a parameter counts at all.

The domains are those of Optuna: floats and integers, on a linear or a logarithmic scale, and
choices; a parameter may depend on the choice made for another one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np

Value = bool | int | float | str | None
Config = dict[str, Value]
"""A value for every parameter that counts."""


class SpaceError(ValueError):
    """A search space, or a configuration for it, cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Float:
    """A number from ``low`` to ``high``, both included; with ``log`` uniform in its logarithm."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, self.log)

    def at(self, place: float) -> float:
        """The value at ``place`` of 0 to 1 on this domain's scale."""
        if not self.log:
            return float(min(max(self.low + place * (self.high - self.low), self.low), self.high))
        low, high = math.log(self.low), math.log(self.high)
        return float(min(max(math.exp(low + place * (high - low)), self.low), self.high))

    def place(self, value: Value) -> float:
        """The inverse of :meth:`at`."""
        assert isinstance(value, int | float)
        if self.high == self.low:
            return 0.5
        if self.log:
            return (math.log(value) - math.log(self.low)) / (
                math.log(self.high) - math.log(self.low)
            )
        return (value - self.low) / (self.high - self.low)

    def holds(self, value: object) -> bool:
        """Whether ``value`` may be chosen."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return math.isfinite(value) and self.low <= value <= self.high

    def halves(self) -> tuple[Float, Float] | None:
        """The lower and the upper half on the domain's scale; None if there is one value only."""
        if self.high == self.low:
            return None
        middle = self.at(0.5)
        return Float(self.low, middle, self.log), Float(middle, self.high, self.log)

    def spec(self) -> dict[str, Any]:
        """As it stands in a file."""
        return {"float": [self.low, self.high], **({"log": True} if self.log else {})}


@dataclass(frozen=True, slots=True)
class Int:
    """A whole number from ``low`` to ``high``, both included; with ``log`` as for floats."""

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        if not (isinstance(self.low, int) and isinstance(self.high, int)):
            raise SpaceError(f"an int has whole ends; got {self.low!r} and {self.high!r}")
        _check_range(self.low, self.high, self.log)

    def at(self, place: float) -> int:
        """The value at ``place`` of 0 to 1; each whole number owns the interval around it."""
        low, high = self._ends()
        if self.log:
            value = math.exp(math.log(low) + place * (math.log(high) - math.log(low)))
        else:
            value = low + place * (high - low)
        return min(max(round(value), self.low), self.high)

    def place(self, value: Value) -> float:
        """A place that :meth:`at` takes back to ``value``."""
        assert isinstance(value, int | float)
        low, high = self._ends()
        if self.log:
            return (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
        return (value - low) / (high - low)

    def _ends(self) -> tuple[float, float]:
        return self.low - 0.5, self.high + 0.5

    def holds(self, value: object) -> bool:
        """Whether ``value`` may be chosen."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return _is_number(value) and value == int(value) and self.low <= value <= self.high

    def halves(self) -> tuple[Int, Int] | None:
        """The lower and the upper half on the domain's scale; None if there is one value only."""
        if self.high == self.low:
            return None
        middle = min(max(self.at(0.5), self.low), self.high - 1)
        return Int(self.low, middle, self.log), Int(middle + 1, self.high, self.log)

    def spec(self) -> dict[str, Any]:
        """As it stands in a file."""
        return {"int": [self.low, self.high], **({"log": True} if self.log else {})}


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some words, numbers or truth values."""

    options: tuple[Value, ...]

    def __post_init__(self) -> None:
        if not self.options:
            raise SpaceError("a choice needs at least one option")
        if any(not isinstance(option, bool | int | float | str | None) for option in self.options):
            raise SpaceError(f"options are words, numbers or truth values; got {self.options!r}")
        if len({(type(option), option) for option in self.options}) != len(self.options):
            raise SpaceError(f"an option is given twice: {self.options!r}")

    def at(self, place: float) -> Value:
        """The option at ``place`` of 0 to 1."""
        return self.options[min(int(place * len(self.options)), len(self.options) - 1)]

    def place(self, value: Value) -> float:
        """The middle of the places of ``value``."""
        return (self.index(value) + 0.5) / len(self.options)

    def index(self, value: object) -> int:
        """Where ``value`` stands among the options; ``ValueError`` if nowhere."""
        for index, option in enumerate(self.options):
            if option == value and type(option) is type(value):
                return index
        raise ValueError(f"{value!r} is none of {', '.join(map(repr, self.options))}")

    def holds(self, value: object) -> bool:
        """Whether ``value`` may be chosen."""
        return any(option == value and type(option) is type(value) for option in self.options)

    def halves(self) -> tuple[Choice, Choice] | None:
        """The first and the second half of the options; None if there is one only."""
        middle = (len(self.options) + 1) // 2
        if middle == len(self.options):
            return None
        return Choice(self.options[:middle]), Choice(self.options[middle:])

    def spec(self) -> dict[str, Any]:
        """As it stands in a file."""
        return {"choice": list(self.options)}


Domain = Float | Int | Choice


@dataclass(frozen=True, slots=True)
class When:
    """A parameter counts only when ``name`` was given one of ``options``."""

    name: str
    options: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A name, what may be chosen for it, and on what it depends."""

    name: str
    domain: Domain
    when: When | None = None


@dataclass(frozen=True, slots=True)
class Space:
    """Parameters in order; one that depends on another stands behind it.

    Raises:
        SpaceError: a name is given twice, or a parameter depends on none that stands before it.
    """

    parameters: tuple[Parameter, ...]

    def __post_init__(self) -> None:
        known: dict[str, Domain] = {}
        for parameter in self.parameters:
            if parameter.name in known:
                raise SpaceError(f"{parameter.name} is given twice")
            if parameter.when is not None:
                _check_when(parameter, known)
            known[parameter.name] = parameter.domain

    @staticmethod
    def parse(data: Mapping[str, Any]) -> Space:
        """The space that a mapping like a file's describes; domains themselves may stand in it.

        ``{"lr": {"float": [1e-4, 1e-1], "log": true}, "size": {"int": [1, 8]}, "kind": {"choice":
        ["a", "b"]}, "depth": {"int": [1, 3], "when": {"kind": ["b"]}}}``

        Raises:
            SpaceError: it describes none.
        """
        if not isinstance(data, Mapping):
            raise SpaceError(f"a space maps names to domains; got {data!r:.60}")
        return Space(tuple(_parameter(str(name), spec) for name, spec in data.items()))

    def spec(self) -> dict[str, Any]:
        """A mapping from which :meth:`parse` makes this space again."""
        return {
            p.name: p.domain.spec()
            | ({"when": {p.when.name: list(p.when.options)}} if p.when else {})
            for p in self.parameters
        }

    def active(self, config: Mapping[str, Value]) -> tuple[Parameter, ...]:
        """The parameters that count, given the values of those before them."""
        counted: set[str] = set()
        found = []
        for parameter in self.parameters:
            when = parameter.when
            if when is None or (
                when.name in counted and Choice(when.options).holds(config.get(when.name))
            ):
                counted.add(parameter.name)
                found.append(parameter)
        return tuple(found)

    def sample(self, random: np.random.Generator) -> Config:
        """A configuration, uniform on every scale. Draws as often for every configuration."""
        places = random.random(len(self.parameters))
        config: Config = {}
        for parameter, place in zip(self.parameters, places, strict=True):
            if parameter in self.active(config):
                config[parameter.name] = parameter.domain.at(float(place))
        return config

    def check(self, config: Mapping[str, Value]) -> Config:
        """``config`` in the order of the space.

        Raises:
            SpaceError: a value is missing, too much, or not allowed.
        """
        counted = self.active(config)
        names = {parameter.name for parameter in counted}
        for name in config:
            if name not in names:
                known = [parameter.name for parameter in self.parameters]
                raise SpaceError(f"{name} is not asked for here{_meant(name, known)}")
        for parameter in counted:
            if parameter.name not in config:
                raise SpaceError(f"no value for {parameter.name}; give one of {parameter.domain}")
            if not parameter.domain.holds(config[parameter.name]):
                raise SpaceError(
                    f"{parameter.name} may not be {config[parameter.name]!r}; it is one of "
                    f"{parameter.domain}"
                )
        return {parameter.name: config[parameter.name] for parameter in counted}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_range(low: float, high: float, log: bool) -> None:
    if not (_is_number(low) and _is_number(high)) or low > high:
        raise SpaceError(f"a range goes from low to high, both finite; got {low!r} to {high!r}")
    if log and low <= 0:
        raise SpaceError(f"a logarithmic scale begins above 0; got {low!r}")


def _check_when(parameter: Parameter, known: Mapping[str, Domain]) -> None:
    when = parameter.when
    assert when is not None
    if when.name not in known:
        raise SpaceError(
            f"{parameter.name} depends on {when.name}, which does not stand before it"
            + _meant(when.name, list(known))
        )
    domain = known[when.name]
    if not isinstance(domain, Choice):
        raise SpaceError(f"{parameter.name} depends on {when.name}, which is no choice")
    for option in when.options:
        if not domain.holds(option):
            raise SpaceError(f"{parameter.name} waits for {when.name}={option!r}: no such option")


def _parameter(name: str, spec: object) -> Parameter:
    if isinstance(spec, Float | Int | Choice):
        return Parameter(name, spec)
    if not isinstance(spec, Mapping):
        raise SpaceError(f"{name}: write float: [low, high], int: [low, high] or choice: [...]")
    for key in spec:
        if key not in ("float", "int", "choice", "log", "when"):
            known = ["float", "int", "choice", "log", "when"]
            raise SpaceError(f"{name}: there is no {key!r}{_meant(str(key), known)}")
    kinds = [kind for kind in ("float", "int", "choice") if kind in spec]
    if len(kinds) != 1:
        raise SpaceError(f"{name}: give one of float, int and choice; got {kinds or 'none'}")
    try:
        return Parameter(name, _domain(kinds[0], spec), _when(spec.get("when")))
    except SpaceError as error:
        raise SpaceError(f"{name}: {error}") from error


def _domain(kind: str, spec: Mapping[str, Any]) -> Domain:
    given, log = spec[kind], spec.get("log", False)
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise SpaceError(f"{kind} is followed by a list; got {given!r:.60}")
    if not isinstance(log, bool):
        raise SpaceError(f"log is true or false; got {log!r:.60}")
    if kind == "choice":
        if log:
            raise SpaceError("a choice has no scale; leave log away")
        return Choice(tuple(given))
    if len(given) != 2:
        raise SpaceError(f"{kind} has two ends, [low, high]; got {list(given)!r:.60}")
    if kind == "int":
        return Int(given[0], given[1], log)
    if not all(_is_number(end) for end in given):
        raise SpaceError(f"the ends of a float are numbers; got {list(given)!r:.60}")
    return Float(float(given[0]), float(given[1]), log)


def _when(spec: object) -> When | None:
    if spec is None:
        return None
    if not isinstance(spec, Mapping) or len(spec) != 1:
        raise SpaceError(f"when names one other parameter, {{kind: [b]}}; got {spec!r:.60}")
    name, options = next(iter(spec.items()))
    several = isinstance(options, Sequence) and not isinstance(options, str)
    return When(str(name), tuple(options) if several else (options,))


def _meant(name: str, known: Sequence[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known) or 'none'}"
