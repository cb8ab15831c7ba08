"""Are there compilers, do they work, and what makes their builds slow?"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from relib.building.tiers import plans
from relib.building.toolchain import Toolchain, find_toolchain
from relib.cli.finding import BAD, GOOD, NOTE, SLOW, Finding
from relib.config import Config
from relib.duration import duration
from relib.errors import CompilerMissing
from relib.extension import Extension

__all__ = ["check_toolchain"]

_TRIAL = Path(__file__).with_name("trial.py")
_PATIENCE = 120.0
"""Seconds that the trial build may take."""


def check_toolchain(config: Config) -> Iterator[Finding]:
    """The compilers that builds would use, a trial build, and what could be quicker."""
    try:
        toolchain = find_toolchain("c", config)
    except CompilerMissing as error:
        yield Finding("C compiler", BAD, str(error))
        return
    yield Finding("C compiler", GOOD, _in_words(toolchain))
    try:
        yield Finding("C++ compiler", GOOD, _in_words(find_toolchain("c++", config)))
    except CompilerMissing as error:
        yield Finding("C++ compiler", NOTE, "none", f"needed for C++ extensions only: {error}")
    if config.tier != "instant":
        yield _trial(config, "optimized")
    if config.tier != "optimized":
        yield from _instant(config)
    else:
        yield from _speed(toolchain)
    unused = [
        name
        for name in ("clang", "ccache")
        if shutil.which(name) and name not in " ".join(toolchain.command)
    ]
    if unused:
        yield Finding("also there", NOTE, ", ".join(unused))


def _in_words(toolchain: Toolchain) -> str:
    return f"{toolchain.version or toolchain.family} ({' '.join(toolchain.command)})"


def _instant(config: Config) -> Iterator[Finding]:
    """The compiler that a save waits for."""
    extension = Extension("trial", (config.root / "trial.c",))
    toolchain = plans(extension, config, "instant").first.toolchain
    assert toolchain is not None
    yield Finding("instant builds", GOOD, _in_words(toolchain))
    yield _trial(config, "instant")
    if toolchain.family != "tcc":
        advice = "apt install tcc: a save of C or Cython code waits for the compiler most"
        yield Finding("speed", NOTE, "tcc, the quickest C compiler, is not installed", advice)


def _trial(config: Config, tier: str) -> Finding:
    """Build, load, call and unload a few lines of C, in a process of its own."""
    topic = f"{tier} trial"
    with tempfile.TemporaryDirectory(prefix="relib-doctor-") as directory:
        given = {key: getattr(config, key) for key in ("cc", "cflags", "cppflags", "ldflags")}
        given["tier"] = tier
        command = [sys.executable, "-P", str(_TRIAL), directory, json.dumps(given)]
        try:
            ended = subprocess.run(
                command, capture_output=True, text=True, timeout=_PATIENCE, check=False
            )
        except subprocess.TimeoutExpired:
            return Finding(topic, BAD, f"took longer than {_PATIENCE:g} s")
    try:
        result = json.loads(ended.stdout)
    except ValueError:
        last = ended.stderr.strip().splitlines()[-1:] or [f"exit status {ended.returncode}"]
        return Finding(topic, BAD, f"the process that tried it ended: {last[0]}")
    if "error" in result:
        return Finding(topic, BAD, result["error"])
    seconds = result["seconds"]
    text = ", ".join(
        f"{phase} {duration(seconds[phase])}"
        for phase in ("compile", "link", "load", "unload")
        if phase in seconds
    )
    if result["pins"]:
        return Finding(topic, BAD, f"could not be unloaded: {'; '.join(result['pins'])}")
    return Finding(topic, GOOD, f"a few lines of C: {text}")


def _speed(toolchain: Toolchain) -> Iterator[Finding]:
    """What makes optimized builds slow, where there are no others."""
    flags = " ".join(toolchain.cflags)
    levels = re.findall(r"(?:^|\s)-O(\S*)", flags)
    level = levels[-1] if levels else "0"
    debug = re.findall(r"(?:^|\s)-g(\d?)(?=\s|$)", flags)
    if toolchain.family == "tcc":
        yield Finding("speed", GOOD, "tcc compiles quickly, and does not optimise what it compiles")
        return
    heavy = [f"-O{level}"] if level not in ("0", "g") else []
    heavy += [f"-g{debug[-1]}"] if debug and debug[-1] != "0" else []
    if heavy:
        advice = (
            'while you edit, set tier = "auto" in [tool.relib], or RELIB_TIER, so that a save does '
            'not wait for the optimized build; or cflags = "-O0 -g0"'
        )
        yield Finding("speed", SLOW, f"{' '.join(heavy)} in CFLAGS makes builds slow", advice)
    else:
        yield Finding("speed", GOOD, f"-O{level} in CFLAGS keeps builds quick")
