"""The import hook: ``import fast`` builds fast.pyx, and loads it so that it can be reloaded."""

from __future__ import annotations

import _imp
import os
import sys
import sysconfig
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import abc
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from relib import spawning
from relib.file_paths import absolute
from relib.free_in_child import free_in_child
from relib.live.loaded import get, modules, on_noted
from relib.served import Served, Settings

if TYPE_CHECKING:
    from relib.config import Config
    from relib.live.loader import Loader
    from relib.reporting import Reporter
    from relib.session import Session

__all__ = ["default_directories", "install", "uninstall"]

_lock = free_in_child(threading.RLock())
_hook: _Hook | None = None


def install(
    packages: str | Iterable[str] | None = None,
    directories: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | None = None,
    *,
    watch: bool = False,
    polling: bool | float | None = None,
    report: bool | Reporter = True,
    config: Config | None = None,
    **options: object,
) -> None:
    """Import Cython files and declared extensions through relib, from now on.

    Served are the extensions that the project declares, and .pyx files where ``import`` finds
    packages and modules. Everything else is imported as ever. Children that multiprocessing starts
    do the same.

    A second call serves more, and changes the settings.

    Args:
        packages: packages or modules, by their dotted names, wherever they are.
        directories: directories, with all below them that is not installed there. If neither is
            given: the project of the current directory, and that of the running script.
        watch: reload what changes, from the first import that is served on; see
            :func:`relib.watch`.
        polling: how to watch, as for :func:`relib.watch`.
        report: with `watch`, write a line to stderr for each reload; or what is to be told of them.
        config: the settings; by default each project's own.
        options: or single settings, over the project's own: ``tier="optimized"``.

    Raises:
        ConfigError: there is no such setting, or its value is of the wrong kind.
        ProjectError: a pyproject.toml cannot be read.

    >>> import relib
    >>> relib.install(packages=["mypackage"])
    >>> relib.uninstall()
    """
    global _hook
    names = [packages] if isinstance(packages, str) else list(packages or ())
    if directories is None:
        places = [] if packages is not None else default_directories(_script())
    else:
        if isinstance(directories, str | os.PathLike):
            directories = [directories]
        places = [absolute(each) for each in directories]
    settings = Settings(config, options)
    for place in places or [Path.cwd()]:
        settings.of(place)  # what is wrong with it is said now, and not with the first import
    with _lock:
        if _hook is None:
            _hook = _Hook()
        _hook.serve(names, places, settings)
        if watch:
            _hook.watch(polling, report)


def uninstall() -> None:
    """Import as Python does again, and stop watching. What is loaded stays loaded.

    >>> uninstall()
    """
    global _hook
    session = None
    with _lock:
        if _hook is not None:
            session = _hook.remove()
            _hook = None
    if session is not None:
        # Not with the lock: an upgrade under way notes what it has loaded, and wants it for that.
        session.stop()


def default_directories(script: Path | None) -> list[Path]:
    """The project of the current directory, and that of a script.

    The current directory counts when it is in a project, or when there is no script.
    """
    from relib.config import find_root

    here = find_root(Path.cwd())
    if script is None:
        return [here]
    in_project = any((here / name).is_file() for name in ("pyproject.toml", "setup.py"))
    found = find_root(absolute(script))
    return list(dict.fromkeys([here, found] if in_project else [found]))


def _script() -> Path | None:
    """The script that runs, if it is the user's own, and not a program that is installed."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if file is None or getattr(main, "__spec__", None) is not None:
        return None
    script = absolute(file)
    installed = [sysconfig.get_path(name) for name in ("scripts", "purelib", "platlib", "stdlib")]
    return None if any(script.is_relative_to(each) for each in installed) else script


# --- finding -------------------------------------------------------------------------------------


class _Hook(abc.MetaPathFinder):
    """Stands first in sys.meta_path."""

    def __init__(self) -> None:
        self._served = Served(Settings(None, {}))
        self._names: frozenset[str] = frozenset()
        self._path: list[str] = []
        self._busy = threading.local()
        self._last = _Last(self)
        self._session: Session | None = None
        self._watching: tuple[bool | float | None, bool | Reporter] | None = None
        self._told: set[str] = set()

    def serve(self, packages: list[str], directories: list[Path], settings: Settings) -> None:
        """Serve more, with these settings."""
        self._served.settings.config = settings.config
        self._served.settings.options = settings.options
        self._served.add(packages, directories)
        for finder in (self, self._last):
            if finder in sys.meta_path:
                sys.meta_path.remove(finder)
        self._served.has_changed()
        self.learn()
        sys.meta_path.insert(0, self)
        sys.meta_path.append(self._last)
        spawning.follow(self._for_child)

    def remove(self) -> Session | None:
        """Serve nothing any more; the session is to be stopped."""
        for finder in (self, self._last):
            if finder in sys.meta_path:
                sys.meta_path.remove(finder)
        spawning.unfollow()
        return self._session

    def learn(self) -> None:
        """Find out which names may be served."""
        self._path = list(sys.path)
        self._names = self._served.names()

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """The module's specification, if relib is to import it.

        For all others this is a comparison and a look into a set: there is no access to files.
        """
        if path is None and sys.path != self._path:
            self.learn()  # what has come to the path may hold more that is served
        if fullname.partition(".")[0] not in self._names and target is None:
            return spawning.find_spec(fullname, path) if fullname == spawning.NAME else None
        if getattr(self._busy, "now", False):
            return None  # what finding imports itself
        self._busy.now = True
        try:
            with _import_lock_released():
                return self._find(fullname, path, target)
        finally:
            self._busy.now = False

    def _find(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        loaded = get(fullname)
        if loaded is not None and loaded.module is target:
            loader: Loader = target.__loader__  # type: ignore[assignment]
            return loader.again().spec()
        if fullname.partition(".")[0] not in self._names:
            return None
        found = self._served.find(fullname, path)
        if found is None:
            return None
        from relib.live.import_loader import ImportLoader

        source, project, declared = found
        served = self._served
        return ImportLoader(
            fullname, source, lambda: served.extension(fullname, source, project, declared)
        ).spec()

    def look_again(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        """The same for a name that nobody has found: it may be new."""
        if path is not None or not self._served.has_changed():
            return None
        self.learn()
        return self.find_spec(fullname, path, target)

    def invalidate_caches(self) -> None:
        """Look at directories and project files anew (importlib.invalidate_caches())."""
        self._served.forget()
        self.learn()

    # --- watching --------------------------------------------------------------------------------

    def watch(self, polling: bool | float | None, report: bool | Reporter) -> None:
        """Watch, from the first module that is loaded on."""
        if report is True:
            from relib.reporting import Reporter

            report = Reporter()
        self._watching = polling, report
        self.note_loaded()

    def note_loaded(self) -> None:
        """Modules have been loaded, or upgraded: tell of the new ones, and begin to watch."""
        if self._watching is None:
            return
        polling, report = self._watching
        loaded = modules()
        for name in loaded.keys() - self._told:
            self._told.add(name)
            if not isinstance(report, bool):
                report.loaded(loaded[name])
        with _lock:
            if self._session is not None or not loaded or _hook is not self:
                return
            from relib.building import warm_up
            from relib.session import watch

            # The first save shall not be the one that waits for a process to start.
            config = next(iter(loaded.values())).config
            warm_up(config)
            # A session has a thread: a program that loads nothing gets none.
            self._session = watch(polling=polling, events=config.events)
            if not isinstance(report, bool):
                self._session.on("*", report)

    # --- children --------------------------------------------------------------------------------

    def _for_child(self) -> dict[str, Any]:
        """What a child that multiprocessing starts passes to install()."""
        settings = self._served.settings
        return {
            "packages": sorted(self._served.packages),
            "directories": list(self._served.directories),
            "config": settings.config,
            "watch": self._watching is not None,
            "polling": self._watching[0] if self._watching else None,
            "report": self._watching[1] if self._watching else True,
            **settings.options,
        }


def _noted() -> None:
    hook = _hook
    if hook is not None:
        hook.note_loaded()


on_noted(_noted)


@contextmanager
def _import_lock_released() -> Iterator[None]:
    """Let other threads import meanwhile.

    Python asks its finders while it holds the one import lock (CPython 3.11-3.14,
    Lib/importlib/_bootstrap.py, _find_spec). Whoever imports there, runs a setup.py or waits for a
    lock waits for threads that may want to import something themselves.
    """
    levels = 0
    try:
        while True:
            _imp.release_lock()
            levels += 1
    except RuntimeError:  # this thread does not hold it
        pass
    try:
        yield
    finally:
        for _ in range(levels):
            _imp.acquire_lock()


class _Last(abc.MetaPathFinder):
    """Stands last in sys.meta_path: what comes here, nobody has found."""

    def __init__(self, hook: _Hook) -> None:
        self._hook = hook

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """The specification of a module whose file is newer than the hook."""
        return self._hook.look_again(fullname, path, target)
