"""Is this Python one that relib can serve, and is all of relib there?"""

from __future__ import annotations

import importlib
import platform
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from relib.building import anchor
from relib.building.translate import cython_version
from relib.cli.finding import BAD, GOOD, NOTE, SLOW, Finding
from relib.errors import BuildError

__all__ = ["check_python"]

_OLDEST_CYTHON = (3, 1)


def check_python() -> Iterator[Finding]:
    """Python itself, its headers, Cython, relib's C helper and the anchors."""
    yield _platform()
    yield _python()
    yield _headers()
    yield _helper()
    yield from _cython()


def _platform() -> Finding:
    system, machine = platform.system(), platform.machine()
    libc = " ".join(platform.libc_ver()) or "another C library than glibc"
    text = f"{system} on {machine}, {libc}"
    if system != "Linux":
        return Finding("platform", BAD, text, "relib needs Linux")
    if machine != "x86_64":
        advice = "relib is tested on x86_64 only; code that may be in use is left mapped"
        return Finding("platform", NOTE, text, advice)
    return Finding("platform", GOOD, text)


def _python() -> Finding:
    text = f"{platform.python_implementation()} {platform.python_version()} ({sys.executable})"
    if platform.python_implementation() != "CPython":
        return Finding("Python", BAD, text, "relib needs CPython")
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return Finding("Python", BAD, f"{text}, free-threaded", "relib needs a Python with the GIL")
    if sysconfig.get_config_var("Py_DEBUG"):
        return Finding("Python", NOTE, f"{text}, a debug build: everything in it is slower")
    return Finding("Python", GOOD, text)


def _headers() -> Finding:
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if header.is_file():
        return Finding("Python headers", GOOD, str(header))
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    advice = (
        f"install them: apt install python{version}-dev (Debian, Ubuntu), dnf install "
        "python3-devel (Fedora), apk add python3-dev (Alpine)"
    )
    return Finding("Python headers", BAD, f"{header} is not there", advice)


def _helper() -> Finding:
    try:
        helper = importlib.import_module("relib._native")
    except ImportError as error:
        advice = "install relib again for this Python: pip install --force-reinstall relib"
        return Finding("relib._native", BAD, f"does not import: {error}", advice)
    return Finding("relib._native", GOOD, str(helper.__file__))


def _cython() -> Iterator[Finding]:
    try:
        version = cython_version()
    except BuildError:
        yield Finding("Cython", BAD, "is not installed", "pip install Cython")
        return
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < _OLDEST_CYTHON:
        yield Finding("Cython", BAD, version, "relib needs 3.1 or newer: pip install -U Cython")
        return
    yield Finding("Cython", GOOD, version)
    missing = []
    for name in anchor.names(version):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            missing.append(name)
        except ImportError as error:
            advice = "install relib again for this Python: pip install --force-reinstall relib"
            yield Finding("anchor", BAD, f"{name} does not import: {error}", advice)
            return
    if missing:
        advice = (
            "the first load of a Cython module builds them; to have them with relib, install it "
            "again: pip install --force-reinstall --no-binary relib relib"
        )
        yield Finding("anchor", SLOW, f"none for Cython {version}", advice)
    else:
        yield Finding("anchor", GOOD, f"for Cython {version}")
