"""Python's import protocol around relib's own loading: what ``__loader__`` of a module is."""

from __future__ import annotations

import os
import sys
import sysconfig
from importlib import abc
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from relib.building.builder import Build, build_extension
from relib.errors import BuildGone, NotSupported
from relib.live.loaded import get, note, present
from relib.live.module import Module
from relib.live.tier import tier_now

if TYPE_CHECKING:
    from relib.config import Config
    from relib.extension import Extension
    from relib.live.module import Declared

__all__ = ["Loader"]


class Loader(abc.InspectLoader):
    """Builds, loads and, when it is asked a second time, reloads one module.

    Args:
        name: the public name.
        path: the main source.
        declared: says what the project declares for it.
        found: what that has just been.
        build: what to load at first; by default it is built when it is needed.
    """

    def __init__(
        self,
        name: str,
        path: str,
        declared: Declared,
        found: tuple[Extension, Config] | None = None,
        build: Build | None = None,
    ) -> None:
        self.name = name
        self.path = path
        self._declared = declared
        self._found = found
        self._build = build
        self._there = False

    def __repr__(self) -> str:
        return f"<relib loader of {self.name} from {self.path}>"

    def spec(self) -> ModuleSpec:
        """The specification of the module that this loads."""
        package = self.is_package(self.name)
        spec = ModuleSpec(self.name, self, origin=self.path, is_package=package)
        spec.has_location = True
        if package:
            spec.submodule_search_locations = [str(Path(self.path).parent)]
        return spec

    # --- loading ---------------------------------------------------------------------------------

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Build it; return the public module, which is empty until it is executed.

        Raises:
            BuildError: it does not build. Nothing has been put into sys.modules.
            AlreadyLoaded: the name belongs to another module.
        """
        if sysconfig.get_config_var("Py_GIL_DISABLED"):
            raise NotSupported(
                "relib needs a Python with the GIL, and this one is free-threaded: whether code is "
                "in use can be shown only while every other thread stands still"
            )
        taken = self.name in sys.modules or get(self.name) is not None
        there = present(self.name, Path(self.path)) if taken else None
        if there is not None:
            self._there = True
            return there.module
        self._found = self._found or self._declared()
        if self._build is None:
            self._build = build_extension(*self._found, tier=tier_now(self._found[1]))
        return ModuleType(self.name)

    def exec_module(self, module: ModuleType) -> None:
        """Load the build behind the public module; reload it if that has been done before.

        Raises:
            LoadError: it does not load, or its code raises.
        """
        if self._there:  # since create_module() looked: another thread was first
            self._there = False
            return
        loaded = get(self.name)
        if loaded is not None and loaded.module is module:
            loaded.reload(force=True)  # importlib.reload() executes a module whatever has changed
            return
        extension, config = self._found or self._declared()
        build = self._build or build_extension(extension, config, tier=tier_now(config))
        self._found = self._build = None
        spec = module.__spec__ or self.spec()
        try:
            made = Module(extension, config, build, self._declared, public=module, spec=spec)
        except BuildGone:
            # Another process has made room in the store between the two steps.
            build = build_extension(extension, config, tier=tier_now(config))
            made = Module(extension, config, build, self._declared, public=module, spec=spec)
        note(made)

    def again(self) -> Loader:
        """One for the next version: no version's module object leads to another's."""
        return type(self)(self.name, self.path, self._declared)

    # --- what tools ask --------------------------------------------------------------------------

    def get_filename(self, fullname: str | None = None) -> str:
        """The main source."""
        return self.path

    def is_package(self, fullname: str) -> bool:
        """Whether it is a package: whether it was made from an __init__ file."""
        # As texts: this is on the way of every load, and a Path costs more than all else here.
        return os.path.basename(self.path).partition(".")[0] == "__init__"  # noqa: PTH119

    def get_code(self, fullname: str) -> None:
        """None: it has no Python code."""

    def get_source(self, fullname: str) -> str:
        """The text of the main source.

        Raises:
            ImportError: it cannot be read.
        """
        from importlib.util import decode_source

        try:
            return decode_source(self.get_data(self.path))
        except (OSError, SyntaxError, UnicodeDecodeError) as error:
            raise ImportError(f"{self.path} cannot be read: {error}", name=self.name) from error

    def get_data(self, path: str) -> bytes:
        """The contents of a file."""
        return Path(path).read_bytes()

    def get_resource_reader(self, fullname: str) -> Any:
        """What importlib.resources reads the files of a package with."""
        from importlib.readers import FileReader

        return FileReader(self)  # type: ignore[arg-type]
