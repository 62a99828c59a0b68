"""What the YAML file of a search says."""

from __future__ import annotations

from re import ASCII, fullmatch
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from ithaca.runtime.config.section import BadValue, Section
from ithaca.runtime.config.units import Seconds
from ithaca.tuners.arm import Arm, blocks, models, whole
from ithaca.tuners.ladder import Fidelity
from ithaca.tuners.loop.knob_space import check_knobs, settings_of
from ithaca.tuners.loop.trial_space import check_trial_space
from ithaca.tuners.policies.registry import find_policy
from ithaca.tuners.search import Settings
from ithaca.tuners.space import Space, SpaceError
from ithaca.tuners.surrogates.registry import find_surrogate


class FidelityConfig(Section):
    """After how many steps trials are compared, and the best go on."""

    least: int = Field(ge=1)
    """Steps of every trial."""
    most: int = Field(ge=1)
    """Steps of those that go on to the end; the schedule of the learning rate has this length."""
    factor: int = Field(default=3, ge=2)
    """One of so many goes on, to so many times the steps."""


class TuneConfig(Section):
    """A search over the values of a job, for the lowest (or highest) value of its objective."""

    name: str
    """Names the folder: letters, digits, ``.``, ``_`` and ``-``, at most 64."""
    job: str
    """The job's file, looked for from the folder of this one."""
    set: tuple[str, ...] = ()
    """Values of the job for all trials, such as ``workload.dim=64``."""
    space: dict[str, Any] = Field(default_factory=dict)
    """Keys of the job and what may be chosen: ``optimizer.lr: {float: [1e-4, 1e-1], log: true}``,
    ``int: [1, 8]``, ``choice: [a, b]``, ``when: {key: [value]}``."""
    variants: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Spaces by name, each an arm; instead of ``space``."""
    knobs: dict[str, Any] = Field(default_factory=dict)
    """Settings of the runtime that change no bit, for the most steps a second: switched on the
    training itself while it goes on. ``layout: {choice: [1x4, 2x2]}``, ``layout.schedule``,
    ``memory.budget`` and others; instead of ``space``."""
    stretch: int = Field(default=10, ge=3, le=10**6)
    """Steps under one setting of the knobs."""
    arms: int = Field(default=1, ge=1, le=4096)
    """At most so many arms from halves of the ranges in ``space``."""
    budget: Seconds = Field(default=60.0, validate_default=False)
    """From the first trial's begin to the last one's end."""
    trials: int | None = Field(default=None, ge=1)
    """At most so many."""
    cap: Seconds | None = None
    """Longest time of one trial. Without it ``boasf+`` ends trials that take five times as long as
    the mean, unless that is less than a twentieth of the budget."""
    workers: int = Field(default=2, ge=1, le=512)
    """Trials that run at once, each in a process of its own."""
    spares: int = Field(default=0, ge=0, le=64)
    """Processes besides, warm, that hold copies and take over."""
    policy: str = "boasf+"
    """How time is divided between arms."""
    surrogate: str | None = None
    """``tpe`` or ``random``; default: what the policy wants."""
    startup: int | None = Field(default=None, ge=0)
    """Random configurations in each arm before the surrogate is asked."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Of every random number of the search."""
    direction: Literal["minimize", "maximize"] = "minimize"
    """Whether low or high values are good."""
    value: Literal["validation", "training", "time"] = "validation"
    """Loss on held-out data at the end of a trial's steps, the mean loss of its last steps, or the
    seconds of training until that mean is at most ``target``."""
    target: float | None = Field(default=None, allow_inf_nan=False)
    """Training loss to reach, in the metric's unit; for ``value: time``."""
    fidelity: FidelityConfig | None = None
    """Without it every trial runs all steps of the job."""
    replicate: Seconds = Field(default=2.0, validate_default=False)
    """Time between copies of a running trial's state in a second process."""
    folder: str | None = None
    """Of the search; default ``runs/<name>``."""
    drills: bool = False
    """Whether processes may be killed on purpose."""

    @field_validator("name")
    @classmethod
    def _name_fits_a_folder(cls, name: str) -> str:
        if not fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name, ASCII):
            raise ValueError(
                "must be 1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit; "
                f"got {name[:80]!r}"
            )
        return name

    @field_validator("policy")
    @classmethod
    def _policy_is_known(cls, name: str) -> str:
        find_policy(name)
        return name

    @field_validator("surrogate")
    @classmethod
    def _surrogate_is_known(cls, name: str | None) -> str | None:
        if name is not None:
            find_surrogate(name)
        return name

    @field_validator("budget", "cap", "replicate")
    @classmethod
    def _times_are_positive(cls, seconds: float | None) -> float | None:
        if seconds is not None and not seconds > 0:
            raise ValueError("must be a duration above 0s")
        return seconds

    @model_validator(mode="after")
    def _arms_can_be_made(self) -> TuneConfig:
        given = [name for name in ("space", "variants", "knobs") if getattr(self, name)]
        if len(given) != 1:
            raise BadValue(
                "space", f"give one of space, variants and knobs; got {', '.join(given) or 'none'}"
            )
        try:
            self.make_arms()
        except SpaceError as error:
            raise BadValue(given[0], str(error)) from error
        if self.fidelity is not None and self.fidelity.least > self.fidelity.most:
            raise BadValue("fidelity.least", "is above fidelity.most")
        if (self.value == "time") != (self.target is not None):
            raise BadValue("target", "is the loss to reach for value: time; give both or none")
        if self.value == "time" and (self.fidelity or self.direction == "maximize"):
            wrong = "fidelity" if self.fidelity else "direction"
            raise BadValue(wrong, "a time is minimized over whole trials; leave it away")
        return self

    def make_arms(self) -> tuple[Arm, ...]:
        """The arms of the search.

        Raises:
            SpaceError: a space cannot be used.
        """
        if self.variants:
            spaces = {name: Space.parse(spec) for name, spec in self.variants.items()}
            for each in spaces.values():
                check_trial_space(each, self.set)
            return models(spaces, key="variant")
        if self.knobs:
            knobs = Space.parse(self.knobs)
            check_knobs(knobs)
            return settings_of(knobs)
        space = Space.parse(self.space)
        check_trial_space(space, self.set)
        return blocks(space, self.arms) if self.arms > 1 else whole(space)

    def settings(self, steps: int) -> Settings:
        """Of the search, for a job of ``steps`` steps."""
        f = self.fidelity
        return Settings(
            policy=self.policy,
            seed=self.seed,
            maximize=self.direction == "maximize",
            budget_s=self.budget,
            num_trials=self.trials,
            cap_s=self.cap,
            workers=self.workers,
            surrogate=self.surrogate,
            startup=self.startup,
            fidelity=Fidelity(f.least, f.most, f.factor) if f else Fidelity(steps, steps),
        )
