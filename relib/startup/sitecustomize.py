"""What Python imports while it starts, in programs that `relib run` and `relib watch` start.

It takes itself out of the program's sight (the path, the environment), lets a sitecustomize.py that
it has hidden have its turn, and installs the import hook. Nothing is left on the stack: the program
runs as under python, because it does.
"""

import json
import os
import sys

_VARIABLE = "RELIB__STARTUP"


def _start(text: str) -> None:
    told = json.loads(text)
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    sys.path[:] = [entry for entry in sys.path if entry != here]
    if told["pythonpath"] is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = told["pythonpath"]
    try:
        _let_others_have_their_turn()
    finally:
        # Python mentions what a sitecustomize.py raises, and goes on: so with the hook.
        if told["python"] == sys.implementation.cache_tag:
            _install(text)
        # else it is a program of another Python, for which relib is not installed


def _install(text: str) -> None:
    told = json.loads(text)
    found = None
    if told["relib"] not in sys.path:
        found = told["relib"]
        sys.path.append(found)
    try:
        from relib.program import begin

        begin(told)
    finally:
        if found is not None:
            sys.path.remove(found)


def _let_others_have_their_turn() -> None:
    own = sys.modules.pop("sitecustomize")
    try:
        import sitecustomize  # type: ignore[import-not-found]  # noqa: F401
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
    finally:
        # The import of this file, which is still under way, looks for it there.
        sys.modules.setdefault("sitecustomize", own)


if __name__ == "sitecustomize" and _VARIABLE in os.environ:
    _start(os.environ.pop(_VARIABLE))
