"""`python -m relib` is the `relib` command."""

import sys

from relib.cli import main

if __name__ == "__main__":
    sys.exit(main())
