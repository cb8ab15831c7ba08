"""The `relib` command. One file per subcommand; each has a click command called `command`."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code (see :mod:`relib.cli.exit_codes`).

    Args:
        arguments: what follows the program's name; by default that of this process.

    >>> main(["--version"])
    relib 0.1.0
    0
    """
    # Here, so that `import relib.cli` needs neither click nor rich.
    from relib.cli.program import run

    return run(arguments)
