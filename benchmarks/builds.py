"""What a build of a one-line edit takes, next to what cannot be avoided: translation and compiler.

python -P benchmarks builds SOURCE [COUNT]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from relib.bench.subject import Subject, copy_of
from relib.building import warm_up
from relib.building.amend import amend
from relib.building.anchor import RELOADABLE_MACROS
from relib.building.builder import Build, build_extension
from relib.building.store import Store
from relib.building.tiers import plans
from relib.building.toolchain import Toolchain
from relib.building.translate import translate
from relib.config import Config, find_root, load_config
from relib.extension import Extension
from relib.project import find_extension

__all__ = ["main"]

# Between an edit and its build; time for the process that translates to tidy up.
_PAUSE = 0.3


def main(arguments: Sequence[str]) -> int:
    """Run what the command line asks for; the exit status."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(prog="benchmarks builds", description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, metavar="SOURCE", help="it is not changed")
    parser.add_argument(
        "count", type=int, nargs="?", default=15, metavar="COUNT", help="edits; by default 15"
    )
    options = parser.parse_args(arguments)
    for name, seconds in _measure(options.source.absolute(), options.count).items():
        values = [value * 1000 for value in seconds]
        median = statistics.median(values)
        print(f"{name:10} median {median:7.1f} ms   minimum {min(values):7.1f} ms")
    return 0


def _measure(source: Path, count: int) -> dict[str, list[float]]:
    """Seconds of each of `count` edits of a copy: of builds, their parts by hand, and reverts."""
    with tempfile.TemporaryDirectory(prefix="relib-benchmark-") as directory:
        place = Path(directory).resolve()
        copy = _copy(source, place)
        warm_up(copy.config).join()
        copy.build(0)
        seconds: dict[str, list[float]] = {
            name: [] for name in ("build", "translate", "compile", "floor", "back")
        }
        for number in range(1, count + 1):
            build, took = copy.build(number)
            if build.cached:
                raise SystemExit("the edit changed nothing")
            translating, compiling = _by_hand(copy, build.unique_name, place)
            seconds["build"].append(took)
            seconds["translate"].append(translating)
            seconds["compile"].append(compiling)
            seconds["floor"].append(translating + compiling)
        for number in range(count):
            # To and fro: what has not changed since the last build would cost even less.
            again, took = copy.build(count if number % 2 else 0)
            if not again.cached or again.unique_name == build.unique_name:
                raise SystemExit("an earlier content was not found in the store")
            build = again
            seconds["back"].append(took)
    return seconds


@dataclass(frozen=True)
class _Copy:
    subject: Subject
    extension: Extension
    config: Config

    def build(self, edition: int) -> tuple[Build, float]:
        """Save an edit and build it; how many seconds that took."""
        self.subject.save(edition)
        time.sleep(_PAUSE)
        begun = time.perf_counter()
        build = build_extension(self.extension, self.config)
        return build, time.perf_counter() - begun


def _copy(source: Path, place: Path) -> _Copy:
    store = str(place / "store")
    config = load_config(find_root(source), tier="instant", store=store)
    extension, config = find_extension(source, config=config)
    inputs = build_extension(extension, config).inputs
    subject = copy_of(extension, config, inputs, place / "copy")
    config = load_config(subject.root, tier="instant", store=store)
    extension, config = find_extension(subject.source, name=subject.name, config=config)
    return _Copy(subject, extension, config)


def _by_hand(copy: _Copy, unique_name: str, place: Path) -> tuple[float, float]:
    """Seconds of Cython, which is warm, and of the compiler, for what has just been built."""
    time.sleep(_PAUSE)
    work = place / "floor"
    work.mkdir(exist_ok=True)
    extension, config = copy.extension, copy.config
    translating, c_file = 0.0, extension.main
    if extension.kind == "cython":
        begun = time.perf_counter()
        c_file = translate(extension, c_file, work / "floor.c", config=config).c_file
        translating = time.perf_counter() - begun
        text = c_file.read_bytes().decode("latin-1")
        c_file.write_bytes(amend(text).text.encode("latin-1"))
    commands = _commands(copy, c_file, work, unique_name)

    def compile_() -> None:
        for command in commands:
            subprocess.run(command, check=True, capture_output=True)

    return translating, _seconds(compile_)


def _commands(copy: _Copy, c_file: Path, work: Path, unique_name: str) -> list[list[str]]:
    """What the build has run: the compiler is told by what it left in the manifest."""
    extension = copy.extension
    toolchain = _toolchain(extension, copy.config, unique_name)
    defines = RELOADABLE_MACROS if extension.kind == "cython" else ()
    library, depfile, exports = work / "floor.so", work / "floor.d", work / "floor.exports"
    if toolchain.family == "tcc":
        return [toolchain.whole_command(c_file, library, depfile, extension, defines)]
    exports.write_text("{ global: PyInit_*; local: *; };\n")
    object_ = work / "floor.o"
    return [
        toolchain.compile_command(c_file, object_, depfile, extension, defines),
        toolchain.link_command([object_], library, extension, exports),
    ]


def _toolchain(extension: Extension, config: Config, unique_name: str) -> Toolchain:
    last = Store(config).last_used(extension.name)
    assert last is not None
    for plan in plans(extension, config):
        if plan.parts["compiler's identity"] == last[1].parts["compiler's identity"]:
            assert plan.toolchain is not None
            return plan.toolchain
    raise SystemExit(f"nobody knows who has built {unique_name}")


def _seconds(function: Callable[[], object]) -> float:
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun
