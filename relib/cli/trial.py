"""Builds, loads, calls and unloads a few lines of C; run by `relib doctor` in its own process.

Usage: trial.py DIRECTORY SETTINGS, where SETTINGS is a JSON object. Prints a JSON object: "seconds"
of each phase and "pins", or "error".
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import relib

SOURCE = """\
#include <Python.h>

static PyObject *answer(PyObject *self, PyObject *ignored) { return PyLong_FromLong(42); }

static PyMethodDef functions[] = {{"answer", answer, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL}};

static struct PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "trial", NULL, 0, functions, slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_trial(void) { return PyModuleDef_Init(&definition); }
"""


def try_out(directory: Path, settings: dict[str, Any]) -> dict[str, object]:
    """Do it, and say how it went."""
    source = directory / "trial.c"
    source.write_text(SOURCE)
    config = relib.load_config(directory, store=str(directory / "store"), **settings)
    try:
        module = relib.load(source, config=config)
        answer = module.module.answer()
        if answer != 42:
            return {"error": f"the trial build returned {answer!r} instead of 42"}
        seconds = {**module.build.seconds, **module.current.seconds}
        report = module.unload()
    except relib.RelibError as error:
        return {"error": str(error)}
    return {
        "seconds": {**seconds, **report.seconds},
        "pins": [str(pin) for pin in report.pins],
    }


if __name__ == "__main__":
    print(json.dumps(try_out(Path(sys.argv[1]), json.loads(sys.argv[2]))))
