"""Builds relib._native and the anchors for the installed Cython; all else is in pyproject.toml."""

import os
import sys
from importlib.metadata import version
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).parent.resolve()
sys.path.insert(0, str(HERE))

from relib.building import anchor  # noqa: E402

# `make check` sets it: warnings of our own C are errors there, but never for those who install.
STRICT = ["-Wall", "-Wextra", "-Werror"] if os.environ.get("RELIB__STRICT_C") else []


class BuildExt(build_ext):
    """Generates the C of the anchors in the build directory, then compiles as usual."""

    def run(self) -> None:
        directory = Path(self.build_temp).resolve() / "anchor"
        for extension in self.extensions:
            if extension.name in anchor.names(version("Cython")):
                extension.sources = [str(anchor.generate(extension.name, directory))]
        super().run()


setup(
    cmdclass={"build_ext": BuildExt},
    ext_modules=[
        Extension(
            "relib._native",
            sources=sorted(str(path.relative_to(HERE)) for path in (HERE / "csrc").glob("*.c")),
            depends=sorted(str(path.relative_to(HERE)) for path in (HERE / "csrc").glob("*.h")),
            extra_compile_args=["-std=gnu11", *STRICT],
        ),
        *(
            Extension(
                name,
                sources=["relib/_anchor/types.pyx"],
                define_macros=list(anchor.macros(name)),
            )
            for name in anchor.names(version("Cython"))
        ),
    ],
)
