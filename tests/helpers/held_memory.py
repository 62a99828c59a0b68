"""What tensors take, whatever earlier tests of the process have left."""

from __future__ import annotations

import gc

from ithaca.swap import allocator


def held_bytes() -> int:
    """Of the living ones; what nobody can reach any more is given back first.

    A budget on top of garbage would be a large one once that is collected.
    """
    gc.collect()
    return allocator.usage().allocated
