"""Builds the C++ extension and the package; everything else is declared in pyproject.toml."""

from __future__ import annotations

from pathlib import Path

from setuptools import find_packages, setup
from torch.utils.cpp_extension import BuildExtension, CppExtension

KERNELS = [Path("csrc"), Path("csrc/torch")]

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
            libraries=["torch_python"],
            py_limited_api=True,
        )
    ],
    cmdclass={"build_ext": BuildExtension},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
