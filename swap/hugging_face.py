"""A memory session for the Trainer of Hugging Face: one more entry in its list of callbacks.

trainer = Trainer(model, arguments, ..., callbacks=[MemoryCallback("6GiB", folder="scratch",
                                                                   limit="40GiB")])

A script that may not be changed is run by ``python -m ithaca.swap.run``.

The callback has the methods of transformers' ``TrainerCallback`` and is called like one; the
library itself is not needed here.
"""

from __future__ import annotations

import atexit
from pathlib import Path

from torch import nn

from ithaca.swap.report import Report
from ithaca.swap.session import MemorySession

# Everything that a Trainer tells and that does not matter here.
IGNORED = frozenset(
    f"on_{event}"
    for event in (
        *("init_end", "epoch_begin", "epoch_end", "step_begin", "substep_end", "evaluate"),
        *("predict", "save", "log", "prediction_step", "pre_optimizer_step", "optimizer_step"),
        *("push_begin",),
    )
)


class MemoryCallback:
    """Opens a session when training begins, ends its steps, and closes it when training ends.

    A Trainer says nothing when it ends in an exception. The session is then closed by whichever
    comes first: :meth:`close`, the next training, the end of the process.

    Args:
        budget: as for :class:`~ithaca.swap.session.MemorySession`; so are the others.
    """

    def __init__(
        self,
        budget: int | str,
        *,
        folder: str | Path | None = None,
        limit: int | str | None = None,
        host: int | str | None = None,
        threads: int = 2,
        recompute: bool = True,
    ) -> None:
        self._budget, self._folder, self._limit, self._host = budget, folder, limit, host
        self._threads, self._recompute = threads, recompute
        self._session: MemorySession | None = None
        self._report: Report | None = None

    def on_train_begin(
        self, args: object, state: object, control: object, *, model: nn.Module, **_: object
    ) -> None:
        """Opens a session over ``model``."""
        self.close()
        session = MemorySession(
            model,
            self._budget,
            folder=self._folder,
            limit=self._limit,
            host=self._host,
            threads=self._threads,
            recompute=self._recompute,
        )
        session.__enter__()
        self._session = session
        atexit.register(self.close)

    def on_step_end(self, args: object, state: object, control: object, **_: object) -> None:
        """Behind the optimizer's step."""
        if self._session is not None:
            self._session.step()

    def on_train_end(self, args: object, state: object, control: object, **_: object) -> None:
        """Closes the session."""
        self.close()

    def close(self, error: BaseException | None = None) -> None:
        """Ends the session, if one is open; ``error`` is what training ended with.

        Raises:
            BudgetError: ``error`` says that the memory of the session did not suffice.
        """
        session, self._session = self._session, None
        if session is not None:
            atexit.unregister(self.close)
            try:
                session.__exit__(type(error) if error else None, error, None)
            finally:
                self._report = session.report()

    def report(self) -> Report:
        """What was used, moved and decided; also after the end."""
        if self._session is not None:
            return self._session.report()
        if self._report is None:
            raise RuntimeError("no training has begun yet")
        return self._report

    def __getattr__(self, name: str) -> object:
        if name in IGNORED:
            return _ignore
        raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")


def _ignore(*_: object, **__: object) -> None:
    """An event that does not matter."""
