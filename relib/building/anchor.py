"""The anchors: three modules per Cython version that own the types which Cython modules share.

Functions, generators, coroutines, memoryviews and more of a Cython module are instances of types
that live in an ABI module (``sys.modules["_cython_3_3_1"]``) and are backed by the code of the
module that made them first (Cython 3.3, Utility/CommonStructures.c,
``__Pyx_FetchCommonTypeFromSpec``). Were that module a reloadable one, it could never be unloaded.
So the anchors make them, before any reloadable module is loaded, and are never unloaded:

``shared_<version>``
    Cython's own shared utility module: memoryview, array, and the helper code that modules
    translated with ``--shared`` then need not carry themselves.
``types_<version>``
    ``_anchor/types.pyx``, which uses every construct whose type the first does not bring.
``async_<version>``
    The same without free lists: a module that has asynchronous generators and is compiled without
    free lists, as reloadable modules are, takes all its types from another ABI module
    (``_cython_3_3_1nofreelists``; Cython 3.3, Utility/ModuleSetupCode.c, ``CYTHON_ABI``).
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relib.building.builder import Build

__all__ = ["RELOADABLE_MACROS", "build", "generate", "macros", "names"]

_TYPES = Path(__file__).parents[1] / "_anchor" / "types.pyx"

RELOADABLE_MACROS: tuple[tuple[str, str], ...] = (
    # Static types cannot be unloaded safely; free lists keep closures and so their types alive;
    # module state gives the module object a traverse and a clear.
    ("CYTHON_USE_TYPE_SPECS", "1"),
    ("CYTHON_USE_MODULE_STATE", "1"),
    ("CYTHON_USE_FREELISTS", "0"),
)
"""What every reloadable Cython module is compiled with."""


def names(cython: str) -> tuple[str, ...]:
    """The anchors' full module names for a Cython version, in the order of loading.

    >>> names("3.3.1")[0]
    'relib._anchor.shared_3_3_1'
    """
    version = "".join(c if c.isalnum() else "_" for c in cython)
    return tuple(f"relib._anchor.{kind}_{version}" for kind in ("shared", "types", "async"))


def macros(name: str) -> tuple[tuple[str, str], ...]:
    """What the anchor called `name` is compiled with."""
    return (("CYTHON_USE_FREELISTS", "0"),) if "._anchor.async_" in name else ()


def generate(name: str, directory: Path) -> Path:
    """Write the C of the anchor called `name` into `directory`, with the Cython of this Python.

    A file that has it already is left alone: nothing that depends on its time is made again.

    Raises:
        subprocess.CalledProcessError: Cython failed; its output is on the exception.
    """
    directory.mkdir(parents=True, exist_ok=True)
    target = directory / f"{name.rpartition('.')[2]}.c"
    # -P: a cython.py in the working directory is none
    command = [sys.executable, "-P", "-m", "cython"]
    with tempfile.TemporaryDirectory(dir=directory) as work:
        made = Path(work, target.name)
        if target.name.startswith("shared_"):
            command += [f"--generate-shared={made}"]
        else:
            command += ["-3", "--module-name", name, "-o", str(made), str(_TYPES)]
        subprocess.run(
            command, check=True, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}
        )
        if not target.exists() or target.read_bytes() != made.read_bytes():
            made.replace(target)  # whole at once: another process may be looking
    return target


def build(name: str, cython: str) -> Build:
    """Build the anchor called `name`, in a store of the user's own, unless it is there already.

    Raises:
        BuildMismatch: another Cython than the one asked for is installed, or none.
        BuildError: it cannot be built.
    """
    from relib.building.builder import build_extension
    from relib.building.translate import cython_version
    from relib.config import cache_directory, load_config
    from relib.errors import BuildError, BuildMismatch
    from relib.extension import Extension

    try:
        installed = cython_version()
    except BuildError:
        installed = ""
    if installed != cython:
        raise BuildMismatch(
            f"modules built with Cython {cython} need an anchor that only Cython {cython} can "
            f"make, and {f'Cython {installed}' if installed else 'no Cython'} is installed",
            name=name,
        )
    # The source is relib's, and another one with another relib.
    version = hashlib.sha256(_TYPES.read_bytes()).hexdigest()[:8]
    directory = cache_directory() / "anchor" / version
    config = load_config(directory, store=directory / "store")
    source = directory / f"{name.rpartition('.')[2]}.c"
    if not source.exists():
        try:
            generate(name, directory)
        except subprocess.CalledProcessError as error:
            raise BuildError(
                f"Cython {cython} does not make the anchor {name}:\n{error.stderr}", name=name
            ) from error
    extension = Extension(name, (source,), define_macros=macros(name))
    return build_extension(extension, config, tier="optimized")
