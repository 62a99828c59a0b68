"""Builds the C++ extension and the package; everything else is declared in pyproject.toml."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

import torch
from setuptools import find_packages, setup
from torch.utils.cpp_extension import CUDA_HOME, BuildExtension, CppExtension

KERNELS = [Path("csrc"), Path("csrc/torch")]


def cuda_headers() -> list[str]:
    """Folders with CUDA's headers: a toolkit's, or what comes with torch's and triton's wheels.

    The compiler of CUDA is not needed: nothing here runs on the device but copies.
    """
    site = Path(sysconfig.get_path("platlib"))
    places = [Path(CUDA_HOME or "/usr/local/cuda") / "include"]
    places += [*sorted(site.glob("nvidia/*/include")), site / "triton/backends/nvidia/include"]
    whole = [place for place in places if (place / "crt/host_config.h").is_file()]
    runtime = [place for place in places if (place / "cuda_runtime_api.h").is_file()]
    if runtime and whole:
        return [str(place) for place in dict.fromkeys([runtime[0], whole[0]])]
    return []


def library_of_cxx() -> list[str]:
    """The library of C++ that torch runs on, for the linker: the extension must have no other.

    Some compilers have only the archive, and put a second copy of it into the extension. Streams
    then write numbers by the tables of one copy with the code of the other: a crash, or an error
    message that ends before its first number.
    """
    maps = Path("/proc/self/maps")
    if not maps.is_file():
        return []
    files = (line.split(maxsplit=5)[5:] for line in maps.read_text().splitlines())
    paths = (Path(name[0]) for name in files if name)
    return sorted({str(path) for path in paths if path.name.startswith("libstdc++.so")})


headers = cuda_headers() if torch.version.cuda is not None else []
if headers:
    KERNELS.append(Path("csrc/cuda"))
elif torch.version.cuda is not None:
    sys.stderr.write(
        "ithaca: no headers of CUDA found (cuda_runtime_api.h, crt/host_config.h): memory sessions "
        "will refuse models on a GPU. Set CUDA_HOME, or install nvidia-cuda-runtime and triton.\n"
    )

setup(
    package_dir={"": "src"},
    packages=find_packages("src"),
    include_package_data=False,  # only what is named here
    package_data={
        "ithaca": ["py.typed", "_C.pyi"],
        "ithaca.runtime.control": ["control.proto", "control_pb2.pyi"],
        "ithaca.runtime.report": ["template/*"],
        "ithaca.tuners.loop": ["template/*"],
    },
    ext_modules=[
        CppExtension(
            "ithaca._C",
            sorted(str(path) for folder in KERNELS for path in folder.glob("*.cpp")),
            depends=sorted(str(path) for folder in KERNELS for path in folder.glob("*.h")),
            # Without NDEBUG some of torch's types would have other members than in its libraries.
            extra_compile_args=["-O3", "-std=c++20", "-Wall", "-DNDEBUG", "-fvisibility=hidden"],
            include_dirs=headers,
            extra_link_args=library_of_cxx(),
            libraries=["torch_python", *(["c10_cuda"] if headers else [])],
            py_limited_api=True,
        )
    ],
    cmdclass={"build_ext": BuildExtension},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
