"""C and C++ sources to a shared object that can be loaded next to its earlier versions."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from relib.building import elf, failures, tinycc
from relib.building.absent_headers import absent_headers, include_directories
from relib.building.anchor import RELOADABLE_MACROS
from relib.building.depfiles import read_depfile
from relib.building.diagnostics import Diagnostic, parse_compiler
from relib.building.linked import linked_files
from relib.building.prepared import Prepared, prepare
from relib.building.processes import Finished, run_all
from relib.building.toolchain import Toolchain, find_toolchain, python_includes, quickened
from relib.declared.source_check import check_source
from relib.errors import BuildError
from relib.extension import C_SUFFIXES, CPLUSPLUS_SUFFIXES

if TYPE_CHECKING:
    from relib.config import Config
    from relib.extension import Extension

__all__ = ["Compiled", "compile_extension"]

_LANGUAGES = {**dict.fromkeys(C_SUFFIXES, "c"), **dict.fromkeys(CPLUSPLUS_SUFFIXES, "c++")}
# Only PyInit_ is looked up by name. All else stays inside: nothing in another library or version is
# bound to it then (one weak symbol that libstdc++ binds to keeps a library mapped for good).
_EXPORTS = "{ global: PyInit_*; local: *; };\n"


@dataclass(frozen=True, slots=True)
class Compiled:
    """A shared object, fresh from the linker."""

    library: Path
    """The shared object, ``<unique name>.so`` in the working directory."""
    dependencies: tuple[Path, ...]
    """All files it was made from: sources, headers, objects and libraries, as absolute paths; those
    in the working directory are left out."""
    absent: tuple[Path, ...]
    """Files that would have been included or linked, had they been there."""
    diagnostics: tuple[Diagnostic, ...]
    """What the compilers warned of."""
    seconds: Mapping[str, float]
    """How long ``"compile"`` and ``"link"`` took."""


def compile_extension(
    extension: Extension,
    sources: Sequence[Path],
    *,
    unique_name: str,
    toolchain: Toolchain,
    workdir: Path,
    config: Config,
) -> Compiled:
    """Compile and link an extension's C and C++ sources.

    ``PyInit_<stem>`` becomes ``PyInit_<unique_name>``, and Cython's C gets the macros that make it
    unloadable. C++ sources, and the linking of anything that has one, go to the C++ compiler
    whatever the toolchain's language is.

    Args:
        extension: its macros, directories, libraries and extra arguments hold.
        sources: C and C++ files, with generated ones in the place of their .pyx.
        unique_name: what the module's init function, and the library, are called after.
        toolchain: the compiler, from `find_toolchain`.
        workdir: a private, existing directory for everything that is made.
        config: the settings in force; the compilers run in its root.

    Raises:
        BuildError: the sources do not compile or link; its subclasses CompilerMissing, BuildTimeout
            and DiskFull for what they say.
        SourceMissing: a source is not there, or went while it was being compiled.
        SourceUnreadable: a source cannot be read.
    """
    job = _Job(extension, unique_name, toolchain, workdir, config)
    begun = time.perf_counter()
    units = [job.unit(number, source) for number, source in enumerate(sources)]
    read, absent = job.linked(units)  # before: one that goes meanwhile was read, perhaps
    try:
        if job.can_do_it_at_once(units):
            library, said = job.compile_and_link(units[0])
            said_at_link: tuple[Diagnostic, ...] = ()
            compiled = linked = time.perf_counter()
        else:
            said = job.compile(units)
            compiled = time.perf_counter()
            library, said_at_link = job.link(units)
            linked = time.perf_counter()
        dependencies = job.dependencies(units, read)
        absent += job.absent_headers(units, dependencies)
    except OSError as error:
        raise failures.system_failed(extension.name, "build", error, workdir=workdir) from error
    return Compiled(
        library,
        dependencies,
        tuple(map(Path, absent)),
        tuple(dict.fromkeys((*said, *said_at_link))),
        {"compile": compiled - begun, "link": linked - compiled},
    )


@dataclass(frozen=True, slots=True)
class _Unit:
    """One source on its way to an object."""

    source: Path
    object_: Path
    depfile: Path
    toolchain: Toolchain
    command: list[str]
    prepared: Prepared | None
    """For tcc: Python.h in a form that it reads faster."""


@dataclass(frozen=True, slots=True)
class _Job:
    """One call of compile_extension."""

    extension: Extension
    unique_name: str
    toolchain: Toolchain
    workdir: Path
    config: Config

    def unit(self, number: int, source: Path) -> _Unit:
        """What is to be done for one source."""
        name = self.extension.name
        language = _LANGUAGES.get(source.suffix)
        if language is None:
            raise BuildError(
                f"{name}: {source} is neither C nor C++; its name must end in one of "
                f"{', '.join(_LANGUAGES)}.",
                name=name,
            )
        check_source(source)
        toolchain = self._toolchain(language)
        # numbered, since two directories may have files of one name
        object_ = self.workdir / f"{number}-{source.stem}.o"
        depfile = object_.with_suffix(".d")
        command = toolchain.compile_command(
            *(source, object_, depfile, self.extension, self._defines())
        )
        prepared = self._prepared(source, toolchain)
        return _Unit(source, object_, depfile, toolchain, command, prepared)

    def _prepared(self, source: Path, toolchain: Toolchain) -> Prepared | None:
        if toolchain.family != "tcc":
            return None
        # The name of the init function is another one in each version, and in no header.
        flags = toolchain.compile_flags(self.extension, self._defines()[1:])
        return prepare(source, toolchain.command, flags, self.config.root, self.config.store)

    def compile(self, units: Sequence[_Unit]) -> tuple[Diagnostic, ...]:
        """Compile all units and return what was said.

        Raises:
            BuildError: one of them failed.
            SourceMissing: its source is not there any more.
        """
        for unit in units:
            unit.object_.unlink(missing_ok=True)
        said: list[Diagnostic] = []
        failed: list[Finished] = []
        results = self._run([_quicker(unit.command, unit) for unit in units])
        if any(map(_is_to_be_tried_again, results, units)):
            results = self._run([unit.command for unit in units])
        for unit, result in zip(units, results, strict=True):
            if result is not None and self._failed(result, unit.toolchain, unit.object_, said):
                check_source(unit.source)
                failed.append(result)
        if failed:
            raise self._failure("compile", failed, said)
        return tuple(said)

    def can_do_it_at_once(self, units: Sequence[_Unit]) -> bool:
        """Whether one command makes the library: tcc's, which saves the start of another tcc."""
        return len(units) == 1 and self._linking_toolchain(units).family == "tcc"

    def compile_and_link(self, unit: _Unit) -> tuple[Path, tuple[Diagnostic, ...]]:
        """Make the library of the only unit with one command.

        Raises:
            BuildError: it failed.
            SourceMissing: the source is not there any more.
        """
        unfinished = self.workdir / f"{self.unique_name}.so.part"
        unfinished.unlink(missing_ok=True)
        toolchain = unit.toolchain
        command = toolchain.whole_command(
            *(unit.source, unfinished, unit.depfile, self.extension, self._defines())
        )
        said: list[Diagnostic] = []
        result = self._run([_quicker(command, unit)], brief=True)[0]
        if _is_to_be_tried_again(result, unit):
            result = self._run([command], brief=True)[0]
        assert result is not None
        if self._failed(result, toolchain, unfinished, said):
            check_source(unit.source)
            at_fault = any(d.severity == "error" and d.line for d in said)
            raise self._failure("compile" if at_fault else "link", [result], said)
        elf.forbid_executable_stack(unfinished)
        library = self.workdir / f"{self.unique_name}.so"
        unfinished.replace(library)
        return library, tuple(said)

    def _defines(self) -> list[tuple[str, str | None]]:
        defines: list[tuple[str, str | None]] = [
            (f"PyInit_{self.extension.stem}", f"PyInit_{self.unique_name}")
        ]
        if self.extension.kind == "cython":
            defines += RELOADABLE_MACROS
        return defines

    def link(self, units: Sequence[_Unit]) -> tuple[Path, tuple[Diagnostic, ...]]:
        """Link the units' objects and return the library, and what was said.

        Raises:
            BuildError: it failed.
        """
        exports = self.workdir / f"{self.unique_name}.exports"
        exports.write_text(_EXPORTS, encoding="ascii")
        unfinished = self.workdir / f"{self.unique_name}.so.part"
        unfinished.unlink(missing_ok=True)
        toolchain = self._linking_toolchain(units)
        objects = [unit.object_ for unit in units]
        command = toolchain.link_command(objects, unfinished, self.extension, exports)
        if toolchain.family != "tcc" and any(unit.toolchain.family == "tcc" for unit in units):
            # tcc's objects do not say that they need no executable stack
            command += ["-Wl,-z,noexecstack"]
        said: list[Diagnostic] = []
        result = self._run([command])[0]
        assert result is not None
        if self._failed(result, toolchain, unfinished, said):
            raise self._failure("link", [result], said)
        if toolchain.family == "tcc":
            elf.forbid_executable_stack(unfinished)
        library = self.workdir / f"{self.unique_name}.so"
        unfinished.replace(library)
        return library, tuple(said)

    def linked(self, units: Sequence[_Unit]) -> tuple[list[str], list[str]]:
        """What is linked, objects apart, and what would be if it were there.

        Raises:
            BuildError: tcc cannot do what a flag asks for.
        """
        words = self._linking_toolchain(units).linked(self.extension)
        # gcc(1): searched after -L
        places = os.environ.get("LIBRARY_PATH", "").split(os.pathsep)
        words += [f"-L{place}" for place in places if place]
        return linked_files(words, self.config.root)

    def dependencies(self, units: Sequence[_Unit], linked: Sequence[str]) -> tuple[Path, ...]:
        """Every file that was read for the units and the library."""
        root = self.config.root
        found: dict[Path, None] = {}
        for unit in units:
            escaped = unit.toolchain.family != "tcc"
            found[root / unit.source] = None
            read = dict.fromkeys(read_depfile(unit.depfile, base=root, escaped=escaped))
            if unit.prepared is not None and unit.prepared.header in read:
                del read[unit.prepared.header]
                read.update(dict.fromkeys(unit.prepared.files))
            found.update(read)
        found.update(dict.fromkeys(map(Path, linked)))
        own = f"{self.workdir}/"
        return tuple(path for path in found if not str(path).startswith(own))

    def absent_headers(self, units: Sequence[_Unit], dependencies: Sequence[Path]) -> list[str]:
        """What would have been included, had it been there."""
        # Neither what this build has made itself, which lies elsewhere each time, nor what comes
        # with Python and relib, to which nobody adds a file.
        apart = map(str, (self.config.store, *python_includes(), tinycc.HEADERS))
        not_these = tuple(f"{path}{os.sep}" for path in apart)
        headers = [path for path in map(os.fspath, dependencies) if not path.startswith(not_these)]
        words = [word for unit in units for word in unit.command]
        directories = [
            directory
            for directory in include_directories(words, self.config.root)
            if not f"{directory}/".startswith(not_these)
        ]
        return absent_headers(
            headers, directories, [unit.source for unit in units], self.config.root
        )

    def _toolchain(self, language: str) -> Toolchain:
        if language == self.toolchain.language:
            return self.toolchain
        other = find_toolchain(language, self.config)
        return quickened(other) if self.toolchain.quick else other

    def _linking_toolchain(self, units: Sequence[_Unit]) -> Toolchain:
        languages = {unit.toolchain.language for unit in units}
        languages |= {self.toolchain.language, self.extension.language}
        return self._toolchain("c++" if "c++" in languages else "c")

    def _run(
        self, commands: Sequence[Sequence[str]], *, brief: bool = False
    ) -> list[Finished | None]:
        config = self.config
        try:
            return run_all(
                commands,
                jobs=config.jobs,
                timeout=config.compile_timeout,
                cwd=config.root,
                brief=brief,
            )
        except FileNotFoundError as error:
            command = next((c for c in commands if c[0] == error.filename), None)
            if command is None:
                raise
            raise failures.compiler_gone(self.extension.name, command) from error

    def _failed(
        self, result: Finished, toolchain: Toolchain, made: Path, said: list[Diagnostic]
    ) -> bool:
        """Whether a command has failed, whatever it says itself; adds to what was said."""
        output, refused = result.output, False
        if toolchain.family == "tcc":
            output, refused = tinycc.judge(output)
        sources = self.extension.sources
        said += parse_compiler(output, cwd=self.config.root, pyx_sources=sources)
        # A host that ignores SIGCHLD hides every exit status from us: look at the result too.
        return result.returncode != 0 or refused or not made.exists() or not elf.is_whole(made)

    def _failure(
        self, step: str, failed: Sequence[Finished], said: Sequence[Diagnostic]
    ) -> BuildError:
        return failures.command_failed(
            self.extension.name,
            step,
            failed,
            tuple(dict.fromkeys(said)),
            workdir=self.workdir,
            timeout=self.config.compile_timeout,
        )


def _quicker(command: Sequence[str], unit: _Unit) -> Sequence[str]:
    if unit.prepared is None:
        return command
    words = len(unit.toolchain.command)
    return [*command[:words], f"-I{unit.prepared.directory}", *command[words:]]


def _is_to_be_tried_again(result: Finished | None, unit: _Unit) -> bool:
    """Whether it has failed with a prepared header: what is said of it is to be about real ones."""
    failed = result is not None and result.returncode != 0 and not result.expired
    return failed and unit.prepared is not None
