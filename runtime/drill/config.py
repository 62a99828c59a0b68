"""What a drill's YAML file says."""

from __future__ import annotations

from re import ASCII, fullmatch
from typing import Literal

from pydantic import Field, field_validator, model_validator

from ithaca.recovery.drill import Expectation, Soak
from ithaca.recovery.failure import FailureClass
from ithaca.recovery.fault import Fault, FaultError, FaultKind
from ithaca.runtime.config.section import BadValue, Section
from ithaca.runtime.config.units import Seconds


class SoakConfig(Section):
    """A random schedule of faults, drawn from a seed."""

    seed: int = Field(default=0, ge=0)
    """Of everything random in the schedule."""
    faults: int = Field(ge=1, le=1000)
    """How many faults are drawn."""
    kinds: tuple[FaultKind, ...] = (FaultKind.CRASH,)
    """Kinds that may be drawn, such as ``[crash, stop]``."""
    first: int = Field(default=2, ge=1)
    """The first step in which one may come."""
    last: int | None = Field(default=None, ge=1)
    """The last step in which one may come; default: the job's last but one."""
    lasting: Seconds | None = None
    """How long faults last that last; default: for ever, where that can be."""

    def soak(self, steps: int) -> Soak:
        """The schedule's description for a job of ``steps`` steps.

        Raises:
            BadValue: no step is left between the first and the last one.
        """
        if self.first > steps:
            raise BadValue("soak.first", f"is {self.first}; the job has {steps} steps")
        last = self.last if self.last is not None else max(self.first, steps - 1)
        if not self.first <= last <= steps:
            raise BadValue(
                "soak.last", f"is {last}; it lies from soak.first, {self.first}, to the job's "
                f"last step, {steps}"
            )  # fmt: skip
        return Soak(self.seed, self.faults, self.kinds, self.first, last, self.lasting)


class ExpectConfig(Section):
    """What must come of it."""

    outcome: Literal["finished", "drained", "failed"] | None = "finished"
    """How the run ends; null: however."""
    exit_code: int | None = Field(default=0, ge=0, le=255)
    """Of the command that trains; null: whatever."""
    identical: bool = True
    """Whether state, loss and norm of every step must be the bits of the undisturbed run."""
    failures: tuple[str, ...] | None = None
    """Classes of the failures in the order in which they are noticed; ``crash|hang`` for either."""
    strategies: tuple[str, ...] | None = None
    """What each recovery must be by, in order; ``reroute|reshape`` for either."""
    recoveries: int | None = Field(default=None, ge=0)
    """How many recoveries there must be."""
    max_pause: Seconds | None = None
    """The longest pause that a recovery may bring."""
    max_detect: Seconds | None = None
    """The longest time from a fault until it is noticed."""
    max_redone: int | None = Field(default=None, ge=0)
    """The most micro-batches that one recovery may do again."""
    lost_samples: int = Field(default=0, ge=0)
    """Samples that may be lost or used twice."""
    message: str | None = None
    """Words that the end of the run must say."""

    @field_validator("failures")
    @classmethod
    def _classes_are_known(cls, failures: tuple[str, ...] | None) -> tuple[str, ...] | None:
        known = [each.value for each in FailureClass]
        for number, choice in enumerate(failures or ()):
            for word in choice.split("|"):
                if word not in known:
                    raise BadValue(
                        f"expect.failures.{number}",
                        f"a failure is one of {', '.join(known)}; got {word[:60]!r}",
                    )
        return failures

    def expectation(self) -> Expectation:
        """The same, as the judge takes it."""
        return Expectation(
            self.outcome, self.exit_code, self.identical, self.failures, self.strategies,
            self.recoveries, self.max_pause, self.max_detect, self.max_redone, self.lost_samples,
            self.message,
        )  # fmt: skip


class DrillConfig(Section):
    """A drill: a job, faults, and what must come of them."""

    name: str
    """Names the folder of its runs: letters, digits, ``.``, ``_`` and ``-``, at most 64."""
    job: str
    """The job's file, from the folder of this one."""
    set: tuple[str, ...] = ()
    """Values set in the job for both runs, such as ``[steps=12, layout.pipelines=2]``."""
    faults: tuple[str, ...] = ()
    """The faults, one line each, such as ``crash w1 at step 3 before B m2``."""
    soak: SoakConfig | None = None
    """Faults drawn at random, besides ``faults``."""
    nodes: int | None = Field(default=None, ge=1, le=16)
    """Run the disturbed job on a Ray cluster of so many nodes besides its head, all of them on
    this machine; default: where the job says."""
    limit: Seconds = Field(default=600.0, validate_default=False)
    """The longest that one of the two runs may take."""
    expect: ExpectConfig = ExpectConfig()

    @field_validator("name")
    @classmethod
    def _name_fits_a_folder(cls, name: str) -> str:
        if not fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name, ASCII):
            raise ValueError(
                "must be 1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit; "
                f"got {name[:80]!r}"
            )
        return name

    @model_validator(mode="after")
    def _faults_can_be_read(self) -> DrillConfig:
        if not self.faults and self.soak is None:
            raise BadValue("faults", "are missing; give faults, or soak for random ones")
        for number, text in enumerate(self.faults):
            try:
                Fault.parse(text)
            except FaultError as error:
                raise BadValue(f"faults.{number}", str(error)) from error
        return self
