"""A measurement runs in a process of its own, which answers questions: one line of JSON each way.

Several such processes take turns, so that whatever else the machine does meets all of them alike.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["Process", "serve"]

HERE = Path(__file__).parent


class Process:
    """Runs one of the scripts beside this file."""

    def __init__(self, script: str, directory: Path) -> None:
        environ = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / script)],
            cwd=directory,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, question: str, **details: object) -> Any:
        """What the script's function of this name returns; its errors end the benchmark."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([question, details]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"the process that measures ended (status {self._process.wait()})")
        return json.loads(answer)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


def serve(*functions: Callable[..., object]) -> None:
    """Answer questions until there are no more. Called by the scripts."""
    known = {function.__name__: function for function in functions}
    # What is printed by anything else does not belong among the answers.
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        for line in sys.stdin:
            question, details = json.loads(line)
            print(json.dumps(known[question](**details)), file=answers, flush=True)
