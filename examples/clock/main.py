"""Shows a clock that ticks in a thread of a C module, and reloads the module when it is edited.

Usage: python main.py [SECONDS]
"""

import os
import sys
import time
from contextlib import suppress
from pathlib import Path

import relib


def main(seconds: float) -> None:
    """Run for so long."""
    os.chdir(Path(__file__).parent)
    clock = relib.load("clock")  # as pyproject.toml declares it
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            report = clock.reload()
        except relib.BuildError as error:
            print(error)
        else:
            if report is not None:
                print(report)
        print(f"v{clock.version}: {clock.module.count()} ticks")
        time.sleep(min(1, seconds / 4))
    print(clock.unload())


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main(float(sys.argv[1]) if len(sys.argv) > 1 else 3600)
