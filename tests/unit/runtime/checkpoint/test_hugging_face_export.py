"""Exports: names, shards, types, and a folder that appears whole or not at all."""

from __future__ import annotations

import argparse
import errno
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from ithaca.runtime.atomic import Disk
from ithaca.runtime.checkpoint.damage import DamagedError
from ithaca.runtime.checkpoint.export import export
from ithaca.runtime.checkpoint.layer_file import LayerFile
from ithaca.runtime.checkpoint.manifest import FILE, Manifest
from ithaca.runtime.checkpoint.store import CheckpointStore, Found
from ithaca.runtime.checkpoint.writer import write_layer
from ithaca.runtime.cli.export import register
from ithaca.runtime.errors import UserError
from ithaca.workloads.lm.workload import LM

Save = Callable[[CheckpointStore, int], Found]
States = Callable[[int], dict[str, dict[str, Tensor]]]
Manifests = Callable[[int, tuple[LayerFile, ...]], Manifest]

OPTIONS = {"use": "lm", "dim": 32, "num_layers": 2, "num_heads": 2, "context": 16, "batch_size": 2}


def _run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers())
    arguments = parser.parse_args(["export", *words])
    return int(arguments.run(arguments))


def test_weights_keep_their_own_names_without_a_mapping(
    store: CheckpointStore, save: Save, states: States, tmp_path: Path
) -> None:
    found = save(store, 20)
    exported = export(found, tmp_path / "out", None, {"model_type": "x"})
    written = load_file(tmp_path / "out" / "model.safetensors")
    expected = {
        f"{layer}.{key.removeprefix('param.')}": tensor
        for layer, state in states(20).items()
        for key, tensor in state.items()
        if key.startswith("param.")
    }
    assert written.keys() == expected.keys()
    for name, tensor in written.items():
        assert tensor.dtype is torch.float32
        assert torch.equal(tensor, expected[name].float())
    assert exported.num_tensors == len(expected)
    assert exported.bytes == sum(4 * tensor.numel() for tensor in expected.values())
    assert [path.name for path in exported.files] == ["model.safetensors", "config.json"]
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config == {"model_type": "x", "torch_dtype": "float32"}
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_a_large_model_is_written_in_shards(
    store: CheckpointStore, save: Save, states: States, tmp_path: Path
) -> None:
    names = {"head.weight": "lm_head.weight", "embed.weight": "model.embed.weight"}
    names["block0.half"] = "model.layers.0.half"
    exported = export(save(store, 20), tmp_path / "out", names, {}, torch.bfloat16, 40)
    out = tmp_path / "out"
    assert [path.name for path in exported.files] == [
        "model-00001-of-00003.safetensors",
        "model-00002-of-00003.safetensors",
        "model-00003-of-00003.safetensors",
        "config.json",
        "model.safetensors.index.json",
    ]
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert index["metadata"] == {"total_size": 30 + 14 + 30}
    assert set(index["weight_map"]) == set(names.values())
    for name, file in index["weight_map"].items():
        assert name in load_file(out / file)
    written = load_file(out / index["weight_map"]["lm_head.weight"])["lm_head.weight"]
    assert torch.equal(written, states(20)["head"]["param.weight"].to(torch.bfloat16))


def test_names_that_do_not_fit_are_refused(
    store: CheckpointStore, save: Save, tmp_path: Path
) -> None:
    found = save(store, 20)
    with pytest.raises(UserError, match=r"no head\.norm"):
        export(found, tmp_path / "out", {"head.norm": "norm"}, {})
    with pytest.raises(UserError, match="two weights of one name"):
        export(found, tmp_path / "out", {"head.weight": "w", "embed.weight": "w"}, {})
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(store: CheckpointStore, save: Save, tmp_path: Path) -> None:
    found = save(store, 20)
    (tmp_path / "empty").mkdir()
    export(found, tmp_path / "empty", None, {})
    before = (tmp_path / "empty" / "model.safetensors").read_bytes()
    with pytest.raises(UserError, match="is not empty"):
        export(found, tmp_path / "empty", None, {})
    assert (tmp_path / "empty" / "model.safetensors").read_bytes() == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="it is a file"):
        export(found, tmp_path / "file", None, {})


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_full_disk_leaves_nothing(
    store: CheckpointStore, save: Save, tmp_path: Path, at: int
) -> None:
    class Full(Disk):
        left = at

        def write(self, path: Path, chunks: Iterable[bytes | memoryview]) -> None:
            if self.left == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.left -= 1
            super().write(path, chunks)

    found = save(store, 20)
    before = set(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"No space left on device\. Nothing was left there"):
        export(found, tmp_path / "out", None, {}, shard_bytes=100, disk=Full())
    assert set(tmp_path.iterdir()) == before


def test_a_checkpoint_that_changed_is_not_exported(
    store: CheckpointStore, save: Save, tmp_path: Path
) -> None:
    found = save(store, 20)
    path = found.folder / "head.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedError, match="sha256 is"):
        export(found, tmp_path / "out", None, {})
    assert not (tmp_path / "out").exists()


@pytest.fixture
def trained(store: CheckpointStore, manifest: Manifests) -> Found:
    """A checkpoint of a language model, as far as its weights go."""
    options = {key: value for key, value in OPTIONS.items() if key != "use"}
    workload = LM(LM.Config.model_validate(options), seed=7, micro_batches=4)
    folder = store.begin(20)
    files = []
    for spec in workload.layers():
        module = spec.build()
        state = {f"param.{name}": weight for name, weight in module.named_parameters()}
        files.append(write_layer(folder, spec.name, state, 20))
    made = manifest(20, tuple(files))
    return store.commit(replace(made, config={**made.config, "workload": OPTIONS}))


def test_the_command_exports_a_language_model(
    trained: Found, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "out"
    assert _run(str(tmp_path), "--to", str(to), "--dtype", "bf16") == 0
    weights = load_file(to / "model.safetensors")
    assert weights["model.embed_tokens.weight"].dtype is torch.bfloat16
    assert "model.layers.1.mlp.down_proj.weight" in weights
    config = json.loads((to / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["torch_dtype"] == "bfloat16"
    out = capsys.readouterr().out
    assert f"exported step 20 of small to {to}" in out
    assert "model.safetensors" in out


def test_the_command_names_what_it_did_not_use(
    trained: Found, store: CheckpointStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = store.root / "step-00000030"
    broken.mkdir()
    assert _run(str(tmp_path), "--to", str(tmp_path / "out")) == 0
    assert f"not used: {broken / FILE}: is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--step", "30"], "cannot export step 30: .*there are those of: 20"),
        (["--step", "-1"], "cannot export step -1"),
    ],
)
def test_the_command_refuses_a_step_that_is_not_there(
    trained: Found, tmp_path: Path, words: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        _run(str(tmp_path), "--to", str(tmp_path / "out"), *words)


def test_the_command_refuses_what_is_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no run folder with checkpoints"):
        _run(str(tmp_path / "nowhere"), "--to", str(tmp_path / "out"))
    (tmp_path / "checkpoints" / "step-00000010").mkdir(parents=True)
    with pytest.raises(UserError, match=r"holds no checkpoint that is whole\n.*is missing"):
        _run(str(tmp_path), "--to", str(tmp_path / "out"))


def test_the_command_says_when_the_workload_is_not_there(
    store: CheckpointStore, save: Save, tmp_path: Path
) -> None:
    save(store, 20)  # its configuration names no workload
    with pytest.raises(UserError, match=r"the workload None .* cannot be built"):
        _run(str(tmp_path), "--to", str(tmp_path / "out"))
