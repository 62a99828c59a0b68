"""What the simulated cluster is: cards, memory, links, and the seconds that recovery actions take.

Every constant says where it comes from. They hold for all systems alike; what only one system has
stands in that system's file.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

CARDS = 32
"""Of the study."""

CARD_BYTES = 16 * 2**30
"""V100, 16 GiB."""

RESERVED_BYTES = 2**29
"""Context, communication buffers and fragmentation (JF-D/Parcae plans with 15.5 of 16 GiB)."""

PARAM_BYTES, GRADIENT_BYTES, STATE_BYTES = 2, 2, 12
"""Per parameter: fp16 weight, fp16 gradient, fp32 weight and two moments of Adam."""

DETECT_S = 0.5
"""From the failure until all survivors know, for every system: a closed connection or a missed
heartbeat (Oobleck's agents ping every 0.4 s)."""

REGROUP_S = 1.8
"""A new world group of 32 cards without a restart, for every system that keeps its processes:
45 groups at 39.3 ms (JF-D/Parcae, removal of cards under GPT-1.5B); NCCL's shrink takes 1.4 to
2.0 s at 32 to 1,024 ranks."""

GROUP_S = 0.0393
"""One more process group (JF-D/Parcae)."""

RENDEZVOUS_S = 6.6
"""Rendezvous of all processes (JF-D/Parcae)."""

PROCESS_S = 0.24
"""A process's own start (JF-D/Parcae)."""

BUILD_S_PER_LAYER = 0.43
"""Building one transformer layer anew (JF-D/Parcae)."""

CHECKPOINT_S = 14.0
"""Saving and loading a checkpoint, together (JF-D/Parcae)."""

RESTART_S: Mapping[int, float] = {
    1: 28.760,
    2: 33.587,
    4: 36.189,
    8: 40.882,
    12: 39.020,
    16: 42.892,
    20: 36.749,
    24: 37.849,
    32: 37.588,
}
"""A restart of all processes by the number of cards, profiled (JF-D/Parcae)."""


def restart_s(cards: int) -> float:
    """Seconds of a restart on ``cards``: the profiled number above it, or the largest."""
    known = sorted(RESTART_S)
    return RESTART_S[known[min(bisect_left(known, cards), len(known) - 1)]]


CHECKPOINT_EVERY_S = 120.0
"""Between checkpoints, for every system but the one that lives by them. They are written in the
background: a card's state, 3 GB, is copied to its host in 0.3 s and leaves over the link in 3 s, so
training would lose 0.2 %, which is not charged."""
