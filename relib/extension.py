"""What the project declares: an extension, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["CPLUSPLUS_SUFFIXES", "CYTHON_SUFFIXES", "C_SUFFIXES", "SOURCE_SUFFIXES", "Extension"]

# What a source is, by the end of its name.
CYTHON_SUFFIXES = (".pyx", ".py")
C_SUFFIXES = (".c",)
CPLUSPLUS_SUFFIXES = (".cpp", ".cc", ".cxx", ".c++", ".C")
SOURCE_SUFFIXES = (*CYTHON_SUFFIXES, *C_SUFFIXES, *CPLUSPLUS_SUFFIXES)


@dataclass(frozen=True, slots=True)
class Extension:
    """One extension: its public name, its sources, and how to compile them.

    Every path is absolute; the fields have the meaning of the setuptools ``Extension`` fields of
    the same name.

    Args:
        name: the public dotted name, as a program imports it.
        sources: the files to build; the first is the main one (.pyx, .py, .c or .cpp).
        depends: more files whose contents the build depends on.
        language: ``"c"`` or ``"c++"``.
        directives: Cython compiler directives, as pairs.
        cython_include_path: where Cython looks for .pxd and .pxi files, besides the source's own
            package.

    >>> from pathlib import Path
    >>> extension = Extension("pkg.fast", (Path("/src/pkg/fast.pyx"),))
    >>> extension.stem, extension.kind
    ('fast', 'cython')
    """

    name: str
    sources: tuple[Path, ...]
    depends: tuple[Path, ...] = ()
    define_macros: tuple[tuple[str, str | None], ...] = ()
    undef_macros: tuple[str, ...] = ()
    include_dirs: tuple[str, ...] = ()
    library_dirs: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    runtime_library_dirs: tuple[str, ...] = ()
    extra_objects: tuple[str, ...] = ()
    extra_compile_args: tuple[str, ...] = ()
    extra_link_args: tuple[str, ...] = ()
    language: str = "c"
    directives: tuple[tuple[str, object], ...] = ()
    cython_include_path: tuple[str, ...] = ()

    @property
    def stem(self) -> str:
        """The last part of the name: what PyInit_ is called after."""
        return self.name.rpartition(".")[2]

    @property
    def main(self) -> Path:
        """The main source."""
        return self.sources[0]

    @property
    def kind(self) -> str:
        """``"cython"``, ``"c"`` or ``"c++"``."""
        suffixes = [source.suffix for source in self.sources]
        if any(suffix in CYTHON_SUFFIXES for suffix in suffixes):
            return "cython"
        if self.language == "c++" or any(suffix in CPLUSPLUS_SUFFIXES for suffix in suffixes):
            return "c++"
        return "c"
