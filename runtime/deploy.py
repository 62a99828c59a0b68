"""From everybody's orders to everybody's part of a generation, with where it meets."""

from __future__ import annotations

from collections.abc import Mapping

from ithaca.recovery.orders import Orders
from ithaca.runtime.checkpoint.store import Found
from ithaca.runtime.mission import Mission
from ithaca.runtime.orders import Deployment, Facts


def deployments(
    mission: Mission,
    facts: Mapping[int, Facts],
    orders: Mapping[int, Orders],
    *,
    validate: bool,
    restore: Found | None = None,
) -> dict[int, Deployment]:
    """Everybody's part of a generation.

    Args:
        mission: what is carried out.
        facts: of each worker; the first one hosts the meeting.
        orders: of each worker of the plan.
        validate: whether the validation behind the step that all stand at is still to be done.
        restore: the checkpoint to go back to first, or None.
    """
    plan = next(iter(orders.values())).plan
    host = facts[min(plan.workers)]
    passes = mission.validations(plan)
    return {
        worker: Deployment(part, (host.address, host.port), passes.get(worker), validate, restore)
        for worker, part in orders.items()
    }
