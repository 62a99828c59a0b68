"""Writing and reading a layer: the same bits, or an error and no file."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ithaca.runtime.atomic import Disk
from ithaca.runtime.checkpoint.damage import DamagedError
from ithaca.runtime.checkpoint.reader import check_layer, read_layer
from ithaca.runtime.checkpoint.state import stage
from ithaca.runtime.checkpoint.writer import write_layer

States = Callable[[int], dict[str, dict[str, Tensor]]]


class FullDisk(Disk):
    """Fails with ENOSPC at operation number ``at`` (a piece of a file is one), and after it."""

    def __init__(self, at: int) -> None:
        self.left = at

    def write(self, path: Path, chunks: Iterable[bytes | memoryview]) -> None:
        super().write(path, self._pieces(chunks))

    def _pieces(self, chunks: Iterable[bytes | memoryview]) -> Iterable[bytes | memoryview]:
        for chunk in chunks:
            self._use()
            yield chunk

    def rename(self, old: Path, new: Path) -> None:
        self._use()
        super().rename(old, new)

    def sync_folder(self, folder: Path) -> None:
        self._use()
        super().sync_folder(folder)

    def _use(self) -> None:
        if self.left == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.left -= 1


def _same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        first[key].dtype == second[key].dtype
        and first[key].shape == second[key].shape
        and torch.equal(_bytes(first[key]), _bytes(second[key]))
        for key in first
    )


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).view(torch.uint8)


def test_a_layer_comes_back_bit_for_bit(tmp_path: Path, states: States) -> None:
    state = states(3)["block0"]
    state["param.weight"][0, 0] = float("nan")
    state["param.weight"][0, 1] = -0.0
    written = write_layer(tmp_path, "block0", state, 3)
    data = (tmp_path / "block0.safetensors").read_bytes()
    assert (written.name, written.file) == ("block0", "block0.safetensors")
    assert (written.bytes, written.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert [info.name for info in written.tensors] == sorted(state)
    assert [path.name for path in tmp_path.iterdir()] == ["block0.safetensors"]
    check_layer(tmp_path, written)
    read = read_layer(tmp_path, written)
    assert _same(read, state)
    assert _same(load_file(tmp_path / "block0.safetensors"), state)
    assert all(tensor.data_ptr() % 64 == 0 for tensor in read.values() if tensor.numel())


def test_a_changed_bit_would_be_seen(tmp_path: Path, states: States) -> None:
    """Negative control of the comparison above."""
    state = states(3)["block0"]
    read = read_layer(tmp_path, write_layer(tmp_path, "block0", state, 3))
    read["param.half"].view(torch.int16)[3] ^= 1
    assert not _same(read, state)


def test_staging_keeps_the_state_of_its_moment() -> None:
    weight = torch.arange(6.0).reshape(2, 3)
    staged = stage({"param.weight": weight.T, "step": torch.tensor(1)})
    weight.fill_(0)
    assert staged.tensors["param.weight"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert staged.tensors["param.weight"].is_contiguous()
    assert staged.bytes == 6 * 4 + 8


def test_parameters_that_need_gradients_are_written(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    written = write_layer(tmp_path, "head", {"param.weight": weight}, 1)
    assert torch.equal(read_layer(tmp_path, written)["param.weight"], torch.ones(3))


def test_a_disk_that_is_full_at_any_point_leaves_nothing(tmp_path: Path, states: States) -> None:
    state = states(1)["head"]
    failures = 0
    while not _written(tmp_path, state, FullDisk(failures)):
        failures += 1
    assert failures > 5


def _written(folder: Path, state: dict[str, Tensor], disk: Disk) -> bool:
    try:
        write_layer(folder, "head", state, 1, disk)
    except OSError:
        # After the rename the file is whole: only its name may not be on the disk yet.
        for path in folder.iterdir():
            assert path.name == "head.safetensors"
            assert _same(load_file(path), state)
            path.unlink()
        return False
    return True


def test_a_folder_that_is_gone_is_not_made_again(tmp_path: Path, states: States) -> None:
    with pytest.raises(FileNotFoundError):
        write_layer(tmp_path / "gone", "head", states(1)["head"], 1)
    assert list(tmp_path.iterdir()) == []


def test_other_tensors_than_promised_are_refused(tmp_path: Path, states: States) -> None:
    """Even when the sha256 fits: the manifest is wrong about what is in the file."""
    written = write_layer(tmp_path, "head", states(1)["head"], 1)
    wrong = type(written)(
        written.name, written.file, written.sha256, written.bytes, written.tensors[1:]
    )
    with pytest.raises(DamagedError, match="other tensors"):
        check_layer(tmp_path, wrong)
    with pytest.raises(DamagedError, match="other tensors"):
        read_layer(tmp_path, wrong)


def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path) -> None:
    for data in (b"", b"1234567", b"\xff" * 100, (2).to_bytes(8, "little") + b"{}" + b"x"):
        (tmp_path / "head.safetensors").write_bytes(data)
        good = write_layer(tmp_path, "other", {"a": torch.ones(1)}, 1)
        digest = hashlib.sha256(data).hexdigest()
        claimed = type(good)("head", "head.safetensors", digest, len(data), good.tensors)
        for read in (check_layer, read_layer):
            with pytest.raises(DamagedError, match=r"head\.safetensors: not a safetensors file"):
                read(tmp_path, claimed)
