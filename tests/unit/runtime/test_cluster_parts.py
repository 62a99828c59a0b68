"""What a cluster needs before Ray is asked."""

from __future__ import annotations

import os
import signal
import site
import subprocess
import sys
from pathlib import Path

import pytest

from ithaca.runtime import cluster, sweeper
from ithaca.runtime.cluster import Cluster, ClusterError, interface_address, package_folder


def test_the_loopback_interface_has_an_address() -> None:
    assert interface_address("lo") == "127.0.0.1"


def test_an_unknown_interface_is_told_with_the_known_ones() -> None:
    with pytest.raises(ClusterError, match=r"'nix0'.*interfaces are: .*lo"):
        interface_address("nix0")


def test_the_package_folder_makes_the_package_importable() -> None:
    assert (package_folder() / "__init__.py").is_file()
    assert package_folder().name == "ithaca"


def test_a_python_path_has_our_folders_first_and_never_site_packages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"/old{os.pathsep}/ours")
    monkeypatch.setattr(site, "getsitepackages", lambda: ["/site"])
    made = cluster._python_path(["/ours", "/site", "/mine"]).split(os.pathsep)
    assert made == ["/ours", "/mine", "/old"]


@pytest.mark.parametrize(
    ("workers", "address", "message"),
    [(0, "local", "at least one worker"), (1, "ray://head:10001", "names a protocol")],
)
def test_what_no_cluster_can_be(workers: int, address: str, message: str) -> None:
    with pytest.raises(ClusterError, match=message):
        Cluster.start(workers, address)


def test_the_sweeper_ends_writers_and_spares_readers(tmp_path: Path) -> None:
    folder = tmp_path / "cluster"
    folder.mkdir()
    log = folder / "log"
    log.touch()
    hold = "import sys; file = open(sys.argv[1], sys.argv[2]); print(flush=True); sys.stdin.read()"
    processes = {
        mode: subprocess.Popen(
            [sys.executable, "-S", "-c", hold, str(log), mode],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for mode in ("r", "a")
    }
    for process in processes.values():
        assert process.stdout is not None
        process.stdout.readline()
    writer, reader = processes["a"], processes["r"]
    assert list(sweeper.writers(str(folder))) == [writer.pid]
    assert list(sweeper.writers(str(tmp_path / "clus"))) == []
    sweeper.sweep(str(folder), spared=writer.pid)
    assert writer.poll() is None
    sweeper.sweep(str(folder), spared=0)
    assert writer.wait(10) == -signal.SIGKILL
    assert reader.poll() is None
    reader.kill()
    for process in processes.values():
        process.communicate()
