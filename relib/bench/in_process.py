"""What else gives a running process the new answer: `%%cython` and pyximport."""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path

from relib.bench.conversation import serve

__all__ = ["main"]


def begin_magic(directory: str) -> None:
    """A notebook's kernel with `%load_ext Cython`."""
    from IPython.core.interactiveshell import InteractiveShell  # type: ignore[import-not-found]

    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(ipython_dir=directory)
    shell.history_manager.enabled = False
    shell.run_line_magic("load_ext", "Cython")


def magic(source: str, attribute: str, edition: int) -> float:
    """Run the source in a cell; when the answer was there, in the time of `time.monotonic`."""
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    shell.run_cell_magic("cython", "", Path(source).read_text(encoding="utf-8"))
    if shell.user_ns.get(attribute) != edition:
        raise RuntimeError("the cell did not build")
    return time.monotonic()


def begin_pyximport(directory: str, include_dirs: list[str]) -> None:
    """Install pyximport's hook, with support for changed sources."""
    import pyximport  # type: ignore[import-untyped]

    setup = {"include_dirs": include_dirs, "script_args": ["--quiet"]}
    pyximport.install(build_dir=directory, reload_support=True, language_level=3, setup_args=setup)


def pyximport(name: str, attribute: str, edition: int) -> float:
    """Import it anew (importlib.reload would go on with the old code)."""
    sys.modules.pop(name, None)
    if getattr(importlib.import_module(name), attribute) != edition:
        raise RuntimeError("it goes on with the old code")
    return time.monotonic()


def main() -> None:
    """Serve."""
    serve(begin_magic, magic, begin_pyximport, pyximport)
