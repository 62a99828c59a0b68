"""States of trials on the disk, beside the journal: what outlives all processes of a search.

One file in the format of safetensors for each trial, its newest state. A file is written whole
under another name and renamed, so what has its name is whole even if the writer was killed. It does
not wait for the disk: that all machines of a search lose their power at once is not its matter.
"""

from __future__ import annotations

import json
import os
import threading
from typing import Any

import numpy as np
import torch

from ithaca.runtime.checkpoint.header import decode, encode, header_bytes
from ithaca.runtime.checkpoint.record import RecordError
from ithaca.tuners.loop.state import Snapshot
from ithaca.tuners.loop.state_folder import StateFolder


class StateFiles(StateFolder):
    """The newest state of every trial in a folder, which is made when it is first needed."""

    def write(self, state: Snapshot) -> None:
        """Put a state on the disk in place of the trial's older one.

        Raises:
            OSError: it cannot be written; the older one is still there.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(state.trial, state.step)
        unique = f"{os.getpid()}.{threading.get_ident()}"
        temporary = path.with_name(f".{path.name}.{unique}.tmp")
        names = list(state.arrays)
        tensors: dict[str, torch.Tensor] = {}
        for index, parts in enumerate(state.tensors().values()):
            tensors |= {f"{index}.{key}": tensor for key, tensor in parts.items()}
        try:
            with temporary.open("xb") as file:
                for chunk in encode(tensors, {"layers": json.dumps(names)}):
                    file.write(chunk)
            temporary.rename(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self._remove(state.trial, below=state.step)

    def read(self, trial: int, step: int) -> Snapshot | None:
        """A state, in memory of this process's own; None if it is not here or not whole."""
        try:
            with self._path(trial, step).open("rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                length = header_bytes(file.read(8), size)
                header = file.read(length)
                data = np.empty(size - 8 - length, dtype=np.uint8)
                whole = _fill(file, memoryview(data.data))
            entries = decode(header, len(data))
            names = json.loads(json.loads(header)["__metadata__"]["layers"])
        except (OSError, RecordError, ValueError, KeyError):
            return None
        if not whole:
            return None
        arrays: dict[str, dict[str, Any]] = {name: {} for name in names}
        for entry in entries:
            index, _, key = entry.name.partition(".")
            part = torch.from_numpy(data[entry.begin : entry.end])
            tensor = part.view(entry.torch_dtype).reshape(entry.shape)
            arrays[names[int(index)]][key] = tensor.numpy()
        return Snapshot(trial, step, arrays)


def _fill(file: Any, view: memoryview) -> bool:  # noqa: ANN401 - a raw binary file
    """Read until ``view`` is full; False if the file ends before."""
    while view:
        count = file.readinto(view)
        if not count:
            return False
        view = view[count:]
    return True
