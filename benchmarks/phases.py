"""Every phase of a reload after an edit, next to what it costs without relib."""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

from floors import TIMEOUT

from relib.bench.conversation import Child, serve

__all__ = ["PHASES", "main", "measure"]

PHASES = ("check", "translate", "compile", "link", "store", "load", "exec", "collect", "unload")


def measure(directory: Path, sources: dict[str, str], rounds: int) -> list[dict[str, Any]]:
    """One row for each module and phase, medians in seconds.

    Args:
        directory: the project.
        sources: file names in it, by what to call the module.
        rounds: how many times each is edited and reloaded.
    """
    rows = []
    for module, source in sources.items():
        phases, floors = defaultdict(list), defaultdict(list)
        with (
            Child("phases", directory, timeout=TIMEOUT) as ours,
            Child("floors", directory, timeout=TIMEOUT) as floor,
        ):
            ours.ask("begin", source=source)
            for edition in range(1, rounds + 2):
                done = ours.ask("edit", edition=edition)
                found = {
                    "translate": floor.ask("translate", **done["translate"]),
                    "compile": floor.ask("run", **done["compile"]),
                    "link": floor.ask("run", **done["link"]),
                    # Once: a reload opens a library that nobody has opened before, too.
                    "load": floor.ask("open_and_close", library=done["library"], count=1),
                }
                if edition == 1:
                    continue  # it starts processes and imports Cython; all others find them warm
                found["total"] = sum(found.values())
                for phase, seconds in done["seconds"].items():
                    phases[phase].append(seconds)
                for phase, seconds in found.items():
                    floors[phase].append(seconds)
        for phase in (*PHASES, "total"):
            seconds = statistics.median(phases[phase])
            least = statistics.median(floors[phase]) if phase in floors else None
            rows.append(
                {
                    "module": module,
                    "phase": phase,
                    "seconds": seconds,
                    "floor": least,
                    "ratio": seconds / least if least else None,
                }
            )
    return rows


# --- the process that reloads --------------------------------------------------------------------

loaded: Any = None


def begin(source: str) -> None:
    """Load a module."""
    global loaded
    import relib

    loaded = relib.load(source)


def edit(edition: int) -> dict[str, Any]:
    """Change the source, reload, and say how long that took and how to do it without relib."""
    source: Path = loaded.extension.main
    text = source.read_text()
    text, count = re.subn(r"(?m)^EDITION = .*$", f"EDITION = {edition}", text)
    source.write_text(text if count else f"{text}\nEDITION = {edition}\n")
    report = loaded.reload().require_unloaded()
    assert edition == loaded.module.EDITION
    return {"seconds": report.seconds, "library": str(loaded.build.library), **_by_hand()}


def _by_hand() -> dict[str, Any]:
    from relib.building.anchor import RELOADABLE_MACROS
    from relib.building.toolchain import find_toolchain
    from relib.building.translate import DEFAULT_SHARED

    build = loaded.build
    extension, config = build.extension, build.config
    work = Path("floor-build").absolute()
    work.mkdir(exist_ok=True)
    exports = work / "exports"
    exports.write_text("{ global: PyInit_*; local: *; };\n")
    c_file = build.library.with_name(f"{build.source.stem}.c")  # what relib has compiled
    init = f"PyInit_{extension.name.rpartition('.')[2]}"
    defines = [(init, f"PyInit_{build.unique_name}"), *RELOADABLE_MACROS]
    toolchain = find_toolchain("c", config)
    object_ = work / "floor.o"
    compile_ = toolchain.compile_command(c_file, object_, work / "floor.d", extension, defines)
    link = toolchain.link_command([object_], work / "floor.so", extension, exports)
    return {
        "translate": {
            "source": str(build.source),
            "name": extension.name,
            "c_file": str(work / "floor.c"),
            "cplus": False,
            "include_path": ["."],
            "directives": {},
            "shared": DEFAULT_SHARED.format(version=build.cython.replace(".", "_")),
        },
        "compile": {"commands": [compile_], "directory": str(work)},
        "link": {"commands": [link], "directory": str(work)},
    }


def main() -> None:
    """Serve."""
    serve(begin, edit)
