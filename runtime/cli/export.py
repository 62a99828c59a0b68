"""``ithaca export RUN_FOLDER --to FOLDER``: a checkpoint's weights as Hugging Face safetensors."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ithaca.runtime.errors import UserError

if TYPE_CHECKING:
    from ithaca.runtime.checkpoint.manifest import Manifest
    from ithaca.runtime.checkpoint.store import CheckpointStore, Found

_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "export",
        help="write a checkpoint as Hugging Face safetensors",
        description="Verifies a checkpoint of a run and writes its weights as a Hugging Face "
        "model folder: safetensors and config.json. Needs no workers, and may run beside the job.",
    )
    parser.add_argument("run_folder", type=Path, metavar="RUN_FOLDER")
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="new or empty")
    parser.add_argument(
        "--step", type=int, metavar="N", help="which checkpoint (default: the newest whole one)"
    )
    parser.add_argument(
        "--format", choices=["huggingface"], default="huggingface", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--dtype",
        choices=list(_DTYPES),
        default="fp32",
        help="type of the weights (default: %(default)s, the trained ones)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Writes the folder and says what is in it; ``UserError`` if it cannot."""
    # torch takes seconds to import; help and mistakes in the arguments should not wait for it.
    import torch

    from ithaca.runtime.checkpoint.damage import DamagedError
    from ithaca.runtime.checkpoint.export import export
    from ithaca.runtime.checkpoint.store import CheckpointStore

    store = CheckpointStore(arguments.run_folder, keep=1)
    found = _found(store, arguments.step)
    names, config = _described(found.manifest)
    dtype = getattr(torch, _DTYPES[arguments.dtype])
    try:
        with store.reading(found):
            exported = export(found, arguments.to, names, config, dtype)
    except DamagedError as error:
        raise UserError(f"the checkpoint changed while it was exported: {error}") from error
    print(f"exported step {found.step} of {found.manifest.job} to {arguments.to}")
    print(f"  {exported.num_tensors} tensors, {exported.bytes:,} bytes, {arguments.dtype}")
    for path in exported.files:
        print(f"  {path.name}")
    return 0


def _found(store: CheckpointStore, step: int | None) -> Found:
    from ithaca.runtime.checkpoint.damage import DamagedError

    if not store.root.is_dir():
        raise UserError(
            f"{store.root.parent} is no run folder with checkpoints: there is no {store.root}. "
            "Give the folder that `ithaca run` printed."
        )
    if step is not None:
        try:
            return store.load(step)
        except DamagedError as error:
            raise UserError(f"cannot export step {step}: {error}") from error
    search = store.newest()
    if search.found is None:
        lines = "".join(f"\n  {damage}" for damage in search.damages)
        raise UserError(f"{store.root} holds no checkpoint that is whole{lines}")
    for damage in search.damages:
        print(f"ithaca export: not used: {damage}", file=sys.stderr)
    return search.found


def _described(manifest: Manifest) -> tuple[Mapping[str, str] | None, Mapping[str, Any]]:
    """Names and ``config.json``: from the workload's ``hugging_face()``, if it has that method."""
    from ithaca.runtime.config.plugin import find_workload

    options = dict(manifest.config.get("workload", {}))
    use = options.pop("use", None)
    try:
        plugin = find_workload(str(use))
        micro_batches = int(manifest.config["layout"]["micro_batches"])
        workload = plugin(
            plugin.Config.model_validate(options), seed=manifest.seed, micro_batches=micro_batches
        )
        describe = getattr(workload, "hugging_face", None)
        if describe is None:
            return None, {"model_type": "ithaca", "workload": {"use": use, **options}}
        names, config = describe()
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"the workload {use!r} that the checkpoint was trained with cannot be built: "
            f"{' '.join(str(error).split())}"
        ) from error
    return names, config
