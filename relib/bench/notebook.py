"""A notebook: IPython, where `%%cython` gives a running process the new answer."""

from __future__ import annotations

import time
from pathlib import Path

from relib.bench.conversation import serve

__all__ = ["main"]


def begin(directory: str) -> None:
    """A notebook's kernel with `%load_ext Cython`."""
    from IPython.core.interactiveshell import InteractiveShell  # type: ignore[import-not-found]

    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(ipython_dir=directory)
    shell.history_manager.enabled = False
    shell.run_line_magic("load_ext", "Cython")


def cell(source: str, attribute: str, edition: int) -> float:
    """Run the source in a cell; when the answer was there, in the time of `time.monotonic`."""
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    shell.run_cell_magic("cython", "", Path(source).read_text(encoding="utf-8"))
    if shell.user_ns.get(attribute) != edition:
        raise RuntimeError("the cell did not build")
    return time.monotonic()


def main() -> None:
    """Serve."""
    serve(begin, cell)
