"""Runs the Game of Life, and reloads its rules, life.pyx, before each generation.

Usage: python main.py [GENERATIONS [SECONDS BETWEEN TWO]]
"""

import random
import sys
import time
from contextlib import suppress
from pathlib import Path

import relib

WIDTH, HEIGHT = 64, 20


def main(generations: int, pause: float) -> None:
    """Run so many generations, with so many seconds between two."""
    rules = relib.load(Path(__file__).with_name("life.pyx"))
    chance = random.Random(1)
    board = bytearray(chance.randrange(2) for _ in range(WIDTH * HEIGHT))
    said = ""
    for generation in range(1, generations + 1):
        try:
            report = rules.reload()
        except relib.BuildError as error:
            # The old rules go on; the next good save is taken.
            said = str(error)
        else:
            if report is not None:
                said = str(report)
        board = rules.module.step(board, WIDTH, HEIGHT)
        print(
            f"\x1b[H\x1b[J{picture(board)}\ngeneration {generation}, rules v{rules.version}\n{said}"
        )
        time.sleep(pause)


def picture(board: bytearray) -> str:
    """The board as text."""
    rows = (board[start : start + WIDTH] for start in range(0, len(board), WIDTH))
    return "\n".join("".join(" █"[cell] for cell in row) for row in rows)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    with suppress(KeyboardInterrupt):
        main(
            int(arguments[0]) if arguments else 1000,
            float(arguments[1]) if len(arguments) > 1 else 0.2,
        )
