"""What a build of a one-line edit takes, next to what cannot be avoided: translation and compiler.

python benchmarks/builds.py SOURCE [COUNT]
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from relib.building import warm_up
from relib.building.amend import amend
from relib.building.anchor import RELOADABLE_MACROS
from relib.building.builder import build_extension
from relib.building.toolchain import Toolchain
from relib.building.translate import translate
from relib.config import Config, load_config
from relib.extension import Extension
from relib.project import extension_from_file

# Between two edits; time for the process that translates to tidy up.
_PAUSE = 0.3


def measure(source: Path, count: int) -> None:
    """Print medians and minima of `count` edits of a copy of the package that `source` is in."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        place = root / source.parent.name if (source.parent / "__init__.py").exists() else root
        place.mkdir(exist_ok=True)
        for path in source.parent.glob("*.p*" if place != root else source.name):
            if path.is_file():
                shutil.copy(path, place)
        copy, text = place / source.name, source.read_text()
        config = load_config(root, tier="instant")
        extension = extension_from_file(copy, config=config)
        warm_up(config).join()
        build_extension(extension, config)
        rows = [_edit(extension, copy, text, config, number) for number in range(count)]
        copy.write_text(text)
        back = [_seconds(lambda: build_extension(extension, config)) for _ in range(count)]
    for name, values in zip(
        ("build", "translate", "compile", "floor"), zip(*rows, strict=True), strict=True
    ):
        _show(name, values)
    _show("back", back)


def _edit(
    extension: Extension, copy: Path, text: str, config: Config, number: int
) -> tuple[float, float, float, float]:
    cython = extension.kind == "cython"
    line = f"\ndef edited(): return {number}\n" if cython else f"\nint edited_{number};\n"
    copy.write_text(text + line)
    time.sleep(_PAUSE)
    begun = time.perf_counter()
    built = build_extension(extension, config)
    took = time.perf_counter() - begun
    if built.cached:
        raise SystemExit("the edit changed nothing")
    time.sleep(_PAUSE)
    work = config.root / "floor"
    work.mkdir(exist_ok=True)
    translating, c_file = 0.0, copy
    if cython:
        begun = time.perf_counter()
        c_file = translate(extension, copy, work / "floor.c", config=config).c_file
        translating = time.perf_counter() - begun
        text_of_c = c_file.read_bytes().decode("latin-1")
        c_file.write_bytes(amend(text_of_c).text.encode("latin-1"))
    compiling = sum(
        _seconds(lambda command=command: subprocess.run(command, check=True, capture_output=True))
        for command in _commands(extension, c_file, work, built.unique_name, config)
    )
    return took, translating, compiling, translating + compiling


def _commands(
    extension: Extension, c_file: Path, work: Path, unique_name: str, config: Config
) -> list[list[str]]:
    """What the build has run: the compiler is told by what it left in the manifest."""
    toolchain = _toolchain(extension, config, unique_name)
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
    from relib.building.store import Store
    from relib.building.tiers import plans

    last = Store(config).last_used(extension.name)
    assert last is not None
    for plan in plans(extension, config):
        if plan.parts["compiler's identity"] == last[1].parts["compiler's identity"]:
            assert plan.toolchain is not None
            return plan.toolchain
    raise SystemExit(f"nobody knows who has built {unique_name}")


def _seconds(function: object) -> float:
    begun = time.perf_counter()
    function()  # type: ignore[operator]
    return time.perf_counter() - begun


def _show(name: str, seconds: object) -> None:
    values = [value * 1000 for value in seconds]  # type: ignore[attr-defined]
    print(f"{name:10} median {statistics.median(values):7.1f} ms   minimum {min(values):7.1f} ms")


if __name__ == "__main__":
    measure(Path(sys.argv[1]).absolute(), int(sys.argv[2]) if len(sys.argv) > 2 else 15)
