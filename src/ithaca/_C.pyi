"""The compiled part. Importing it registers ``torch.ops.ithaca.*``.

``torch.ops.ithaca.hash128(data: Tensor, seed: int = 0) -> Tensor``: the 128-bit hash of the bytes
of a contiguous tensor on the CPU, as int64[2], the low half first.

``torch.ops.ithaca.memory_*``: the counting allocator and the vault of a memory session, used by
``ithaca.swap`` alone; one session is open at a time.

``torch.ops.ithaca.chordless_cycles``, ``induced_paths`` ``(starts: Tensor, edges: Tensor, longest:
int, budget: int = 0, threads: int = 1) -> (first, vertex, owner, reach)`` and ``chordless_profile(
starts: Tensor, edges: Tensor, types: Tensor | None, edge_types: int, path: int, cycle: int, hops:
int, budget: int = 0, threads: int = 1) -> (first, other, row, table, reach)``: searches of graphs;
``ithaca.workloads.csgnn.structure`` says what the tensors are.

``torch.ops.ithaca.segment_sum(table: Tensor, values: Tensor, first: Tensor, other: Tensor, row:
Tensor) -> Tensor`` and ``segment_sum_table(grad, values, first, other, row, rows: int) -> Tensor``:
sums over sorted segments, in order, and their gradient by the table; fp32 or fp64 on the CPU.

The functions are called by autograd and by hooks of modules, with a session open or not.
"""

from torch import Tensor

def pack(tensor: Tensor, /) -> Tensor:
    """The alias to save in place of a tensor."""

def hold(tensor: Tensor, /) -> Tensor:
    """The same for a tensor that we keep ourselves."""

def unpack(alias: Tensor, /) -> Tensor:
    """The tensor behind an alias, with its bytes; the error of stock autograd if it was edited."""

def note(tensor: Tensor, /) -> Tensor | None:
    """What to save in place of a tensor that is computed again; ``None`` if it is to be packed."""

def used(hollow: Tensor, /) -> None:
    """Backward reads what was noted; the error of stock autograd if it was edited."""

def enter(module: int, /) -> None:
    """A module of this number begins its forward; 0 is the root."""

def leave() -> None:
    """The module that began last ends its forward."""
