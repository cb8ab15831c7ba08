"""Each way to get at the new answer has a process of its own: one line of JSON each way."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from relib.building.pool import search_path
from relib.errors import RelibError

__all__ = ["Child", "NotMeasured", "serve"]

_START = """\
import sys, json, importlib
sys.path[:] = json.loads(sys.argv[2])
importlib.import_module(sys.argv[1]).main()
"""


class NotMeasured(RelibError):
    """It could not be measured: the message says why."""


class Child:
    """Runs the `main` function of a module.

    Args:
        module: its name.
        directory: the working directory.
        paths: put before `sys.path`.
        environ: environment variables that it has besides.
        timeout: seconds that an answer may take.
    """

    def __init__(
        self,
        module: str,
        directory: Path,
        *,
        paths: tuple[Path, ...] = (),
        environ: Mapping[str, str] | None = None,
        timeout: float,
    ) -> None:
        self._timeout = timeout
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-c", _START, module),
                json.dumps([*map(str, paths), *search_path()]),
            ],
            cwd=directory,
            env={**os.environ, **(environ or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
        )

    def ask(self, question: str, **details: object) -> Any:
        """What the function of this name returns.

        Raises:
            NotMeasured: it raised an error, or took too long, or the process ended.
        """
        self.send(question, **details)
        return self.receive()

    def send(self, question: str, **details: object) -> None:
        """Ask, and do something else before the answer is received."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps([question, details]).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise NotMeasured(f"the process ended: {self._last_words()}") from None

    def receive(self) -> Any:
        """The answer to what was sent. Raises what `ask` raises."""
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(self._timeout):
                raise NotMeasured(f"no answer in {self._timeout:g} s")
        line = self._process.stdout.readline()
        if not line:
            raise NotMeasured(f"the process ended: {self._last_words()}")
        answer = json.loads(line)
        if "error" in answer:
            raise NotMeasured(answer["error"])
        return answer["value"]

    def _last_words(self) -> str:
        self._process.wait()
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return said[-1] if said else f"exit status {self._process.returncode}"

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
            self._process.wait(5)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._said.close()


def serve(*functions: Callable[..., object]) -> None:
    """Answer questions until there are no more; what the functions raise is the answer, too."""
    known = {function.__name__: function for function in functions}
    # What is printed by anything else does not belong among the answers.
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        for line in sys.stdin:
            question, details = json.loads(line)
            try:
                answer = {"value": known[question](**details)}
            except Exception as error:
                text = str(error).strip()
                answer = {"error": f"{type(error).__name__}: {text}" if text else repr(error)}
            print(json.dumps(answer), file=answers, flush=True)
