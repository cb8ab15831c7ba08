"""``python benchmarks`` does what ``python benchmarks/run.py`` does."""

from run import main

main()
