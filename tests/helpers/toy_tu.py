"""A set of graphs in the files of TU: twenty triangles and twenty paths, in two classes."""

from __future__ import annotations

from pathlib import Path


def write_toy_tu(folder: Path) -> Path:
    """The set TOY with one fold below ``folder``, which is returned."""
    (folder / "tu" / "TOY_folds").mkdir(parents=True)
    triangle, path = "3 1\n5 2 1 2\n5 2 0 2\n7 2 0 1", "3 -1\n5 1 1\n5 2 0 2\n7 1 1"
    (folder / "tu" / "TOY.txt").write_text("\n".join(["40", *[triangle, path] * 20]) + "\n")
    (folder / "tu" / "TOY_folds" / "train_1.txt").write_text("\n".join(map(str, range(36))))
    (folder / "tu" / "TOY_folds" / "test_1.txt").write_text("36\n37\n38\n39\n")
    return folder
