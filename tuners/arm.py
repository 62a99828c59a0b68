"""Arms: the parts of a search between which a policy divides the budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from ithaca.tuners.space import Config, Parameter, Space, SpaceError, Value


@dataclass(frozen=True, slots=True)
class Arm:
    """A model, or a block of a space.

    Attributes:
        name: unique.
        space: in which this arm's configurations lie.
        fixed: what all of them have besides, as pairs.
        default: the configuration that is tried first, as pairs; None for one that is proposed.

    Raises:
        SpaceError: the default does not lie in the space.
    """

    name: str
    space: Space
    fixed: tuple[tuple[str, Value], ...] = ()
    default: tuple[tuple[str, Value], ...] | None = None

    def __post_init__(self) -> None:
        if self.default is not None:
            try:
                self.space.check(dict(self.default))
            except SpaceError as error:
                raise SpaceError(f"the default of {self.name}: {error}") from error

    def full(self, own: Mapping[str, Value]) -> Config:
        """A configuration of the space with what is fixed."""
        return {**dict(self.fixed), **own}

    def own(self, full: Mapping[str, Value]) -> Config:
        """The part of a full configuration that this arm searches for.

        Raises:
            SpaceError: the configuration is not one of this arm's.
        """
        for name, value in self.fixed:
            if full.get(name) != value:
                raise SpaceError(f"{self.name} has {name}={value!r}, not {full.get(name)!r}")
        fixed = {name for name, _ in self.fixed}
        return self.space.check({key: value for key, value in full.items() if key not in fixed})

    def spec(self) -> dict[str, Any]:
        """As JSON; :meth:`parse` reads it."""
        spec = {"name": self.name, "space": self.space.spec(), "fixed": dict(self.fixed)}
        return spec if self.default is None else spec | {"default": dict(self.default)}

    @staticmethod
    def parse(data: Mapping[str, Any]) -> Arm:
        """The arm that :meth:`spec` told of."""
        default = data.get("default")
        return Arm(
            data["name"],
            Space.parse(data["space"]),
            tuple(data["fixed"].items()),
            None if default is None else tuple(default.items()),
        )


def whole(space: Space) -> tuple[Arm, ...]:
    """One arm: the whole space."""
    return (Arm("all", space),)


def models(
    spaces: Mapping[str, Space],
    key: str = "model",
    defaults: Mapping[str, Mapping[str, Value]] | None = None,
) -> tuple[Arm, ...]:
    """One arm for each model; its name is in every configuration, under ``key``.

    ``defaults``: what is tried first of some models.

    Raises:
        SpaceError: there is no model, or a default lies in no model's space.
    """
    if not spaces:
        raise SpaceError("there is no model to choose from")
    known = defaults or {}
    if unknown := sorted(known.keys() - spaces.keys()):
        raise SpaceError(f"defaults for {', '.join(unknown)}; models are: {', '.join(spaces)}")
    firsts = {name: tuple(config.items()) for name, config in known.items()}
    return tuple(
        Arm(name, space, ((key, name),), firsts.get(name)) for name, space in spaces.items()
    )


def parted(config: Mapping[str, Value], key: str = "model") -> tuple[str, Config]:
    """The model's name in a configuration of :func:`models`, and what it has besides."""
    return str(config[key]), {name: value for name, value in config.items() if name != key}


def blocks(space: Space, most: int | None = None) -> tuple[Arm, ...]:
    """Halves of every parameter's range, and an arm for each combination of halves.

    As published: 2^d arms for d parameters that can be halved and depend on no other. With
    ``most``, only the first parameters are halved, as many as give at most so many arms.
    """
    wanted = [p for p in space.parameters if p.when is None and p.domain.halves() is not None]
    if most is not None:
        if most < 1:
            raise SpaceError(f"the most arms are at least 1, not {most}")
        wanted = wanted[: most.bit_length() - 1]
    waited_for = {p.when.name for p in space.parameters if p.when is not None}
    wanted = [p for p in wanted if p.name not in waited_for]
    if not wanted:
        return whole(space)
    arms = []
    for sides in product((0, 1), repeat=len(wanted)):
        chosen = {p.name: side for p, side in zip(wanted, sides, strict=True)}
        parts = tuple(_half(p, chosen.get(p.name)) for p in space.parameters)
        name = " ".join(f"{key}{'-+'[side]}" for key, side in chosen.items())
        arms.append(Arm(name, Space(parts)))
    return tuple(arms)


def _half(parameter: Parameter, side: int | None) -> Parameter:
    halves = parameter.domain.halves()
    if side is None or halves is None:
        return parameter
    return replace(parameter, domain=halves[side])


def arm_of(arms: tuple[Arm, ...], config: Mapping[str, Value]) -> Arm:
    """The first arm in which ``config`` lies.

    Raises:
        SpaceError: it lies in none; says why for the last.
    """
    reason = SpaceError("there are no arms")
    for arm in arms:
        try:
            arm.own(config)
        except SpaceError as error:
            reason = error
        else:
            return arm
    if len(arms) > 1:
        raise SpaceError(f"it lies in none of {len(arms)} arms; not in the last, since {reason}")
    raise reason
