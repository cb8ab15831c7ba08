"""How long it takes from a save to the new answer: relib, next to what one does without it.

`relib bench` and the benchmarks in relib's repository both use it.
"""
