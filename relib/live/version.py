"""A version: one build, loaded in this process."""

from __future__ import annotations

import functools
import os
import shutil
import sysconfig
import tempfile
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from relib import _native
from relib.errors import BuildMismatch, ExecError, LoadError
from relib.live import anchor
from relib.live.retired import retire

if TYPE_CHECKING:
    from relib.building.builder import Build
    from relib.building.locks import Hold
    from relib.live.pins import Pin

__all__ = ["Version", "load_version"]

# The libraries that are open, by the path of their build. The loader hands out an open library
# again instead of mapping the file anew, data and all, so a second version of the same build has
# to come from a copy.
_open: dict[Path, int] = {}


@dataclass(eq=False, slots=True, weakref_slot=True)
class Version:
    """One build loaded in this process, from its dlopen to its dlclose.

    A version is *current* (what the public module shows), *retired* (no longer current, waiting
    for its pins to go) or *unloaded*.
    """

    name: str
    """The public name."""
    number: int
    """Counted from 1 for each module."""
    build: Build
    """What was loaded."""
    library: _native.Library
    """The shared object; its addresses are gone once the version is unloaded."""
    held: list[ModuleType]
    """The only strong reference that relib has to the module object; empty once given up."""
    alive: weakref.ref[ModuleType]
    """Dead when nothing made by this version's code is left; see also csrc/keeper.h."""
    hold: Hold
    """Keeps the build in the store while it is mapped."""
    seconds: dict[str, float] = field(default_factory=dict)
    """How long each phase of loading took."""
    state: str = "current"
    """``"current"``, ``"retired"`` or ``"unloaded"``."""
    pins: tuple[Pin, ...] = ()
    """Why it is still mapped, as last looked at."""
    revived: bool = False
    """Whether a finalizer has brought back what the collector had given up, and with that made
    relib lose sight of objects that were watched by weak references."""
    outside: int = 0
    """How many references from elsewhere there were when it was last looked at."""
    shared_types: tuple[str, ...] = ()
    """Types that other Cython modules share and whose code this version happens to own."""

    @property
    def size(self) -> int:
        """The bytes of address space that its library takes."""
        return self.library.hi - self.library.lo

    def __repr__(self) -> str:
        return f"<Version {self.name} v{self.number} {self.state}>"

    def forget_path(self) -> None:
        """Its library is closed: the next version of the same build may open the file itself."""
        count = _open.get(self.build.library, 0) - 1
        if count > 0:
            _open[self.build.library] = count
        else:
            _open.pop(self.build.library, None)
        self.hold.release()


def load_version(
    build: Build,
    number: int,
    spec: ModuleSpec,
    show: Callable[[ModuleType], None] | None = None,
) -> Version:
    """Open a build's library, make its module and execute it.

    Args:
        build: what to load.
        number: the number that the version gets.
        spec: the module's specification.
        show: called with the module before its body runs: the first version is importable while
            it is executed, as with any import.

    Raises:
        BuildMismatch: it was built for another Python, Cython or relib, or the file is damaged.
        LoadError: the loader refuses it, a symbol is missing, or its init function fails.
        ExecError: the module's own code raised; the cause says what.
    """
    _check(build)
    if build.cython is not None:
        _ensure_anchors(build, build.cython)
    started = time.perf_counter()
    hold = build.hold()
    try:
        library = _open_library(build)
    except BaseException:
        hold.release()
        raise
    version = Version(build.name, number, build, library, [], _gone, hold)
    try:
        executed = _create(version, spec)
        version.seconds["load"] = time.perf_counter() - started
        started = time.perf_counter()
        if show is not None:
            show(version.held[0])
        if not executed:
            _execute(version, version.held[0])
        version.seconds["exec"] = time.perf_counter() - started
        _note_shared_types(version)
    except BaseException:
        # It may have left anything anywhere: it goes the way of every version that is given up.
        _note_shared_types(version)
        retire(version)
        raise
    return version


def _note_shared_types(version: Version) -> None:
    if version.build.cython is not None:
        version.shared_types = anchor.types_owned_by(version.library)


_gone: weakref.ref[ModuleType] = weakref.ref(ModuleType("gone"))


@functools.cache
def _this_process() -> tuple[str | None, int]:
    """The ABI and the build version that a build must be for."""
    from relib.building.fingerprint import BUILD_VERSION

    return sysconfig.get_config_var("SOABI"), BUILD_VERSION


def _check(build: Build) -> None:
    abi, own_version = _this_process()
    if build.python != abi:
        raise BuildMismatch(
            f"{build.library} was built for {build.python}, and this is {abi}; build it again "
            f"with this Python",
            name=build.name,
            path=build.library,
        )
    if build.relib != own_version:
        raise BuildMismatch(
            f"{build.library} was built by another version of relib (build version {build.relib}, "
            f"this is {own_version}); build it again",
            name=build.name,
            path=build.library,
        )


def _ensure_anchors(build: Build, cython: str) -> None:
    try:
        anchor.ensure(cython)
    except BuildMismatch as error:
        raise BuildMismatch(
            f"{build.library} was built with another Cython: {error}; build it again",
            name=build.name,
            path=build.library,
        ) from error


def _open_library(build: Build) -> _native.Library:
    path = build.library
    copy = None
    if path in _open:
        copy = _copied(path)
    try:
        library = _native.Library(os.fspath(copy or path))
    except OSError as error:
        raise _refused(build, str(error)) from None
    finally:
        if copy is not None:
            # The mapping keeps the file alive; nothing is left behind however the process ends.
            shutil.rmtree(copy.parent, ignore_errors=True)
    _open[path] = _open.get(path, 0) + 1
    return library


def _copied(path: Path) -> Path:
    """A copy of a library, in a directory of its own."""
    # In the store if it can be written to: a temporary directory may forbid execution.
    from relib.building.eviction import COPY_PREFIX

    beside = path.parents[2] / "tmp"
    writable = os.access(beside, os.W_OK)
    directory = Path(tempfile.mkdtemp(prefix=COPY_PREFIX, dir=beside if writable else None))
    try:
        return Path(shutil.copyfile(path, directory / path.name))
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


# What the loader says of a file that is not a shared object for this machine
# (glibc 2.36, elf/dl-load.c, open_verify and _dl_map_object_from_fd).
_DAMAGED = (
    "invalid ELF header",
    "file too short",
    "wrong ELF class",
    "ELF file data encoding",
    "cannot open shared object file: No such file",
    "object file has no",
    "ELF load command",
    "cannot read file data",
)


def _refused(build: Build, words: str) -> LoadError:
    if any(sign in words for sign in _DAMAGED):
        return BuildMismatch(
            f"{build.library} is not a shared object that this machine can load ({words}); remove "
            f"it with `relib clean --all` and build again",
            name=build.name,
            path=build.library,
        )
    _, found, symbol = words.partition("undefined symbol: ")
    if found:
        symbol = symbol.split()[0].rstrip(",")
        return LoadError(
            f"{build.name} needs {symbol}, which no library it is linked with defines ({words}); "
            f"add the source or library that does to the extension",
            name=build.name,
            path=build.library,
        )
    return LoadError(
        f"the loader refused {build.name}: {words}", name=build.name, path=build.library
    )


def _create(version: Version, spec: ModuleSpec) -> bool:
    """PyInit and module creation; whether the module's body has run already (single-phase)."""
    build = version.build
    source = build.source
    try:
        module, executed = _native.create(version.library, f"PyInit_{build.unique_name}", spec)
    except BaseException as error:
        if isinstance(error, LookupError):
            raise LoadError(
                f"{source} defines no function PyInit_{build.name.rpartition('.')[2]}: an "
                f"extension module called {build.name} must have one",
                name=build.name,
                path=build.library,
            ) from None
        if not isinstance(error, Exception):
            raise
        raise LoadError(
            f"the init function of {build.name} failed: {type(error).__name__}: {error}",
            name=build.name,
            path=build.library,
        ) from error
    if not isinstance(module, ModuleType):
        raise LoadError(
            f"{build.name} makes an object of type {type(module).__name__} instead of a module "
            f"(Py_mod_create); relib reloads module objects only",
            name=build.name,
            path=build.library,
        )
    namespace = module.__dict__
    # From here on the module object lives exactly as long as anything that runs its code:
    # see csrc/keeper.h.
    namespace["__relib__"] = _native.Keeper(module, version.library)
    namespace["__spec__"] = spec
    namespace["__loader__"] = spec.loader
    namespace["__name__"] = build.name
    namespace["__package__"] = spec.parent
    namespace["__file__"] = str(source)
    if spec.submodule_search_locations is not None:
        namespace["__path__"] = spec.submodule_search_locations
    version.held = [module]
    version.alive = weakref.ref(module)
    return executed


def _execute(version: Version, module: ModuleType) -> None:
    try:
        _native.execute(module)
    except BaseException as error:
        if not isinstance(error, Exception):
            raise
        raise ExecError(
            f"{version.build.source} raised {type(error).__name__} while it was being executed: "
            f"{error}; the version that ran before goes on running",
            name=version.name,
            path=version.build.source,
        ) from error
    if version.build.kind == "cython":
        # Cython's exec takes a reference for its own table of modules and never gives it back
        # (Cython 3.3, Compiler/ModuleNode.py, generate_module_creation_code).
        _native.drop_reference(module)
