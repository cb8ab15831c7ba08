"""Which compiler builds an extension, and how it is called: as setuptools would."""

from __future__ import annotations

import functools
import os
import shlex
import sys
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from relib.building import tinycc
from relib.building.compilers import Compiler, identify
from relib.building.left_out import without_slow, without_version_script
from relib.errors import CompilerMissing, ConfigError

if TYPE_CHECKING:
    from relib.config import Config
    from relib.extension import Extension

__all__ = ["Toolchain", "find_toolchain", "python_includes", "python_libraries", "quickened"]

# Every mapping costs a load and an unload some microseconds, and so does making one read-only. Two
# segments do: one to execute and one to write, where relib redirects imports (csrc/interpose.c).
FEW_MAPPINGS = ("-Wl,-z,norelro,-z,noseparate-code",)


@dataclass(frozen=True, slots=True)
class Toolchain:
    """A compiler with the flags that are the same for every extension of the project."""

    language: str
    """``"c"`` or ``"c++"``."""
    command: tuple[str, ...]
    """The compiler with its launchers (ccache, distcc) and own arguments, as given in CC or CXX."""
    family: str
    """``"gcc"``, ``"clang"``, ``"tcc"`` or ``"other"``."""
    version: str
    """The first line of what it says about its version."""
    cflags: tuple[str, ...]
    """Flags for compiling: Python's own, CFLAGS, CPPFLAGS, and what unloading needs."""
    ldflags: tuple[str, ...]
    """Flags for linking: Python's own (-shared), LDFLAGS, CFLAGS, CPPFLAGS."""
    identity: str
    """Another text whenever a program of the compiler, or a flag, is another; for fingerprints."""
    linker: tuple[str, ...] = ()
    """What links: LDSHARED of the environment; empty for the compiler itself."""
    quick: bool = False
    """Whether an extension's own flags that ask for optimisation are left out as well."""

    def compile_command(
        self,
        source: Path,
        object_: Path,
        depfile: Path,
        extension: Extension,
        defines: Sequence[tuple[str, str | None]],
    ) -> list[str]:
        """The command that compiles one source and writes the list of files it read.

        Args:
            source: the C or C++ file.
            object_: the object file to write.
            depfile: the make rule to write.
            extension: whose macros, include directories and extra arguments hold.
            defines: more macros, which win over the extension's.

        Raises:
            BuildError: tcc cannot do what a flag asks for.
        """
        return [
            *(*self.command, *self.compile_flags(extension, defines), "-c", str(source)),
            *("-o", str(object_), "-MD", "-MF", str(depfile)),
        ]

    def whole_command(
        self,
        source: Path,
        library: Path,
        depfile: Path,
        extension: Extension,
        defines: Sequence[tuple[str, str | None]],
    ) -> list[str]:
        """The command by which tcc compiles the only source of an extension and links it at once.

        Args and raises: those of `compile_command` and `link_command`.
        """
        given, inputs, flags, last = self._link_words([], extension, Path())
        return [
            *(*self.command, *self.compile_flags(extension, defines), *given),
            *(str(source), *inputs, *flags, "-o", str(library), "-MD", "-MF", str(depfile), *last),
        ]

    def compile_flags(
        self, extension: Extension, defines: Sequence[tuple[str, str | None]]
    ) -> list[str]:
        """All flags of `compile_command` but those that name files."""
        own = [*extension.extra_compile_args]
        flags = [
            *self.cflags,
            *_macros(extension.define_macros),
            *(f"-U{name}" for name in extension.undef_macros),
            *(f"-I{directory}" for directory in (*extension.include_dirs, *python_includes())),
            *(without_slow(own) if self.quick else own),
            *_macros(defines),
        ]
        if self.family == "tcc":
            flags = tinycc.compile_flags(flags, name=extension.name)
            flags[:0] = tinycc.added_compile_flags()
            flags += tinycc.listed_directories()
        return flags

    def link_command(
        self, objects: Sequence[Path], library: Path, extension: Extension, exports: Path
    ) -> list[str]:
        """The command that links an extension.

        Args:
            objects: what was compiled.
            library: the shared object to write.
            extension: whose libraries, objects and extra arguments hold.
            exports: a version script; used where the linker knows them.

        Raises:
            BuildError: tcc cannot do what a flag asks for.
        """
        given, inputs, flags, last = self._link_words(objects, extension, exports)
        driver = self.linker or self.command
        return [*driver, *given, *inputs, *flags, "-o", str(library), *last]

    def linked(self, extension: Extension) -> list[str]:
        """The arguments of `link_command` that may name files: objects, libraries, directories.

        Raises:
            BuildError: tcc cannot do what a flag asks for.
        """
        given, inputs, flags, last = self._link_words([], extension, Path())
        return [*self.linker[1:], *self.command[1:], *given, *inputs, *flags, *last]

    def _link_words(
        self, objects: Sequence[Path], extension: Extension, exports: Path
    ) -> tuple[list[str], list[str], list[str], list[str]]:
        inputs = [*map(str, objects), *extension.extra_objects]
        flags = [
            *(f"-L{directory}" for directory in (*extension.library_dirs, *python_libraries())),
            *(f"-Wl,-rpath,{directory}" for directory in extension.runtime_library_dirs),
            *(_library(library_name) for library_name in extension.libraries),
        ]
        last = [*extension.extra_link_args]
        if self.family == "tcc":
            given = tinycc.link_flags([*self.ldflags], name=extension.name)
            flags = tinycc.link_flags(flags, name=extension.name)
            last = tinycc.link_flags(last, name=extension.name)
            last += tinycc.added_link_flags()
        else:
            given = without_version_script(self.ldflags)
            last = without_version_script(without_slow(last) if self.quick else last)
            if self.family in ("gcc", "clang"):
                # After Python's own flags, which may ask for RELRO; the extension's come later.
                given = [*given, *FEW_MAPPINGS]
                # -Xlinker, since the path may have a comma, at which -Wl would split it
                last += ["-Xlinker", f"--version-script={exports}"]
        return given, inputs, flags, last


def find_toolchain(
    language: str, config: Config, environ: Mapping[str, str] | None = None
) -> Toolchain:
    """Find the compiler for a language, as setuptools does.

    The configuration's cc, cxx, cflags, cppflags and ldflags come before CC, CXX, CFLAGS (CXXFLAGS
    for C++, where it is set), CPPFLAGS and LDFLAGS of the environment, and these before what Python
    was built with. Flags are added to Python's own, after them, so that they win.

    Args:
        language: ``"c"`` or ``"c++"``.
        config: the settings in force.
        environ: the environment; by default this process's.

    Raises:
        CompilerMissing: there is no such compiler, or it cannot compile this language.
        ConfigError: a command or flags have unbalanced quotes.
    """
    if language not in ("c", "c++"):
        raise ValueError(f"language must be 'c' or 'c++', not {language!r}")
    environ = os.environ if environ is None else environ
    command, origin = _command(language, config, environ)
    compiler = identify(command, language, environ, origin=origin)
    cflags, ldflags = _flags(language, config, environ, compiler)
    variable = "LDCXXSHARED" if language == "c++" else "LDSHARED"
    linker, own = _linker(variable, environ, compiler)
    ldflags = (*own, *ldflags)
    identity = _identity(command, linker, compiler, cflags, ldflags)
    if language == "c++":
        # a C++ extension may have C parts
        try:
            identity += "\n" + find_toolchain("c", config, environ).identity
        except CompilerMissing:
            identity += "\nno C compiler"
    return Toolchain(
        *(language, command, compiler.family, compiler.version, cflags, ldflags, identity, linker)
    )


def quickened(toolchain: Toolchain) -> Toolchain:
    """The same compiler, told to be quick: no optimisation, no debug information, no warnings.

    Everything else stays: macros, directories, the language's standard, and options that change
    what code means.

    Args:
        toolchain: from `find_toolchain`.
    """
    if toolchain.quick or toolchain.family == "tcc":
        return toolchain
    cflags = (*without_slow(toolchain.cflags), "-O0", "-g0", "-w")
    ldflags = tuple(without_slow(toolchain.ldflags))
    identity = f"{toolchain.identity}\n{shlex.join((*cflags, *ldflags))}"
    return replace(toolchain, cflags=cflags, ldflags=ldflags, identity=identity, quick=True)


def _command(
    language: str, config: Config, environ: Mapping[str, str]
) -> tuple[tuple[str, ...], str]:
    variable, setting = ("CXX", config.cxx) if language == "c++" else ("CC", config.cc)
    if setting:
        origin, text = f"from relib's setting {variable.lower()}", setting
    elif environ.get(variable):
        origin, text = f"from the environment's {variable}", environ[variable]
    else:
        origin = f"which Python was built with; {variable} is not set"
        text = sysconfig.get_config_var(variable) or ("c++" if language == "c++" else "cc")
    return tuple(_split(text, variable, origin)), origin


def _flags(
    language: str, config: Config, environ: Mapping[str, str], compiler: Compiler
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    def given(variable: str, setting: str | None) -> list[str]:
        if setting is not None:
            return _split(setting, variable, f"relib's setting {variable.lower()}")
        return _split(environ.get(variable, ""), variable, f"the environment's {variable}")

    with_cxxflags = language == "c++" and config.cflags is None and "CXXFLAGS" in environ
    user = given("CXXFLAGS" if with_cxxflags else "CFLAGS", config.cflags)
    preprocessor = given("CPPFLAGS", config.cppflags)
    python = _of_python("CFLAGS")
    if compiler.family == "tcc":
        return (
            (*tinycc.compile_flags_of_python(python), *user, *preprocessor),
            (*given("LDFLAGS", config.ldflags), *user, *preprocessor),
        )
    needed = _of_python("CCSHARED") or ["-fPIC"]
    if compiler.knows_gnu_unique:
        # A library with a unique symbol in it is never unmapped (elf/dl-lookup.c, do_lookup_unique)
        needed.append("-fno-gnu-unique")
    if compiler.family == "gcc" and compiler.major >= 11:
        # as clang and older ones count; else a tab counts as eight
        needed.append("-fdiagnostics-column-unit=byte")
    return (
        (*python, *user, *preprocessor, *needed),
        (*given("LDFLAGS", config.ldflags), *user, *preprocessor),
    )


def _linker(
    variable: str, environ: Mapping[str, str], compiler: Compiler
) -> tuple[tuple[str, ...], list[str]]:
    """What links if it is not the compiler, and the flags that make a shared object."""
    if environ.get(variable) and compiler.family != "tcc":
        return tuple(_split(environ[variable], variable, f"the environment's {variable}")), []
    words = _of_python(variable) or _of_python("LDSHARED") or ["cc", "-shared"]
    own = _of_python("CXX" if variable == "LDCXXSHARED" else "CC")
    # "gcc -pthread -shared" where the compiler is "gcc -pthread"; it may be another one now
    flags = words[len(own) :] if own and words[: len(own)] == own else words[1:]
    if compiler.family == "tcc":
        return (), tinycc.link_flags_of_python(flags)
    return (), flags


def _identity(
    command: Sequence[str],
    linker: Sequence[str],
    compiler: Compiler,
    cflags: Sequence[str],
    ldflags: Sequence[str],
) -> str:
    files = (f"{path} ({size} bytes, {time} ns)" for path, size, time in compiler.files)
    return "\n".join(
        [
            f"{compiler.family}: {compiler.version}",
            *files,
            *(shlex.join(words) for words in (command, linker, cflags, ldflags)),
        ]
    )


def _of_python(variable: str) -> list[str]:
    value = sysconfig.get_config_var(variable)
    return list(_words(value)) if isinstance(value, str) else []


@functools.lru_cache(maxsize=64)
def _words(text: str) -> tuple[str, ...]:
    return tuple(shlex.split(text))


def _split(text: str, variable: str, origin: str) -> list[str]:
    try:
        return list(_words(text))
    except ValueError as error:
        raise ConfigError(
            f"{variable} ({origin}) cannot be split into words: {error}: {text!r}",
            key=variable.lower(),
            origin=origin,
        ) from None


def _macros(macros: Iterable[tuple[str, str | None]]) -> list[str]:
    return [f"-D{name}" if value is None else f"-D{name}={value}" for name, value in macros]


@functools.cache
def python_includes() -> tuple[str, ...]:
    """The directories of Python's headers, and of those that packages bring."""
    paths = [sysconfig.get_path("include"), sysconfig.get_path("platinclude")]
    if sys.prefix != sys.base_prefix:
        # before Python's, as build_ext has it: packages put headers into a virtual environment
        paths.insert(0, str(Path(sys.prefix) / "include"))
    return tuple(dict.fromkeys(paths))


@functools.cache
def python_libraries() -> tuple[str, ...]:
    """The directory of libpython, for extensions that name a library which lies beside it."""
    # as build_ext does
    shared = sysconfig.get_config_var("Py_ENABLE_SHARED")
    directory = sysconfig.get_config_var("LIBDIR")
    return (directory,) if shared and isinstance(directory, str) else ()


def _library(name: str) -> str:
    """What links a library: "m", or a file when the name has a directory.

    >>> _library("m")
    '-lm'
    """
    directory, base = os.path.split(name)
    if not directory:
        return f"-l{name}"
    files = [Path(directory) / f"lib{base}{suffix}" for suffix in (".so", ".a")]
    return next((str(file) for file in files if file.exists()), f"-l{base}")
