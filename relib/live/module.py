"""A module as the program sees it: one public object, one version after another behind it."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from relib import _native
from relib.errors import ModuleUnloaded, NoEarlierBuild
from relib.live.before_unload import call_before_unload
from relib.live.being_loaded import Show
from relib.live.carrying_out import carry_out
from relib.live.functions import Identities
from relib.live.loaded import note
from relib.live.report import Report
from relib.live.tier import tier_now
from relib.live.upgrade import Change, report_of, upgrade, upgrading
from relib.live.version import Version, load_version

if TYPE_CHECKING:
    from relib.building.builder import Build
    from relib.config import Config
    from relib.extension import Extension
    from relib.live.loader import Loader

__all__ = ["Declared", "Module", "Past"]

Declared: TypeAlias = "Callable[[], tuple[Extension, Config]]"
"""Says what the project declares for a module now."""


@dataclass(frozen=True, slots=True)
class Past:
    """An entry of a module's history: a version that was, or is, current."""

    number: int
    build: Build
    loaded_at: float
    """When it was loaded, in seconds since the epoch."""


class Module:
    """A loaded extension: what :func:`relib.load` returns.

    >>> import relib
    >>> spam = relib.load("spam.pyx")        # doctest: +SKIP
    >>> spam.name, spam.version              # doctest: +SKIP
    ('spam', 1)
    """

    def __init__(
        self,
        extension: Extension,
        config: Config,
        build: Build,
        declared: Declared,
        *,
        public: ModuleType,
        spec: ModuleSpec,
    ) -> None:
        self._declared = declared
        self._extension = extension
        self._config = config
        self._public = public
        self._loader: Loader = spec.loader  # type: ignore[assignment]
        self._seen = {build.fingerprint}
        self._history: deque[Past] = deque(maxlen=max(config.history, 1))
        self._unloaded = False
        self._number = 1
        self.functions: Identities = {}
        """The function objects that the program may hold; see relib.live.functions."""
        try:
            self._current = load_version(build, 1, spec, self._show_first)
            self._note(self._current)
        except BaseException:
            self._withdraw()
            raise
        self._bind_to_parent()

    # --- what it is ------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The public dotted name."""
        return self._extension.name

    @property
    def unloaded(self) -> bool:
        """Whether :meth:`unload` has taken it out of the program."""
        return self._unloaded

    @property
    def module(self) -> ModuleType:
        """The public module object: the same for as long as the module is loaded."""
        return self._public

    @property
    def version(self) -> int:
        """The number of the current version, counted from 1."""
        return self._current.number

    @property
    def current(self) -> Version:
        """The current version."""
        return self._current

    @property
    def build(self) -> Build:
        """The build that the current version was loaded from."""
        return self._current.build

    @property
    def extension(self) -> Extension:
        """What the project declares."""
        return self._extension

    @property
    def history(self) -> tuple[Past, ...]:
        """The versions that were current, oldest first, the current one last."""
        return tuple(self._history)

    def __repr__(self) -> str:
        state = "unloaded" if self._unloaded else f"v{self.version}"
        return f"<relib.Module {self.name} {state}>"

    # --- upgrading -------------------------------------------------------------------------------

    def reload(self, *, force: bool = False) -> Report | None:
        """Build the sources as they are now, and run the result in place of the current version.

        The version that was current is unloaded if nothing uses it any more, and retired otherwise.

        Args:
            force: load anew even though nothing has changed since the last look.

        Returns:
            What was done, or None when nothing had changed.

        Raises:
            BuildError: the sources do not build.
            LoadError: the new build does not load, or its code raises.
            BeforeUnloadFailed, Timeout: the current version's ``before_unload()`` did not let it
                go.
            ModuleUnloaded: the module has been unloaded.

        Whatever is raised, the current version goes on running.
        """
        from relib.live.together import reload_together

        reports = reload_together([self], force=force)
        return reports[0] if reports else None

    def rollback(self) -> Report:
        """Run the build before the current one again, as a new version.

        The sources stay as they are: a later :meth:`reload` does nothing until they change.

        Raises:
            NoEarlierBuild: there is none, or it is no longer in the store.
            LoadError: it does not load any more.
        """
        with upgrading:
            self._require_loaded()
            started = time.perf_counter()
            fingerprint = self.build.fingerprint
            earlier = [past for past in self._history if past.build.fingerprint != fingerprint]
            if not earlier:
                raise NoEarlierBuild(
                    f"{self.name} has had no other build than the one that runs", name=self.name
                )
            build = earlier[-1].build
            if not build.library.exists():
                raise NoEarlierBuild(
                    f"the build of {self.name} v{earlier[-1].number} is no longer in the store; "
                    f"raise store-max-size or store-max-age to keep builds longer",
                    name=self.name,
                    path=build.library,
                )
            return upgrade([Change(self, build, "rollback", started)])[0]

    def unload(self, *, timeout: float | None = None) -> Report:
        """Take the module out of the program.

        Its name leaves ``sys.modules`` and its public module object raises ModuleUnloaded from now
        on. What the program holds of it (a function, an instance) goes on working, and keeps its
        code mapped until it lets go.

        Args:
            timeout: seconds that the module's ``before_unload()`` may take; by default what the
                configuration says.

        Raises:
            BeforeUnloadFailed, Timeout: ``before_unload()`` did not let it go; the module stays.
            ModuleUnloaded: it has been unloaded already.
        """
        with upgrading:
            self._require_loaded()
            started = time.perf_counter()
            version = self._current
            call_before_unload(version, self._config.unload_timeout if timeout is None else timeout)
            reports: list[Report] = []

            def report() -> None:
                reports.append(report_of(self.name, "unload", version, None, {}, started))

            failure = carry_out([self._withdraw, report])
            if failure is not None:
                try:
                    raise failure
                finally:
                    failure = None  # it refers to this frame
            return reports[-1]

    # --- what an upgrade does with it ------------------------------------------------------------

    @property
    def config(self) -> Config:
        """The settings in force."""
        return self._config

    def next_build(self, tier: str | None = None) -> Build:
        """The build of the sources as they are now.

        Args:
            tier: by default as the settings say; see relib.live.tier.
        """
        from relib.building.builder import build_extension

        self._require_loaded()
        # Anew each time: a header line or a project file may have changed too.
        extension, config = self._declared()
        return build_extension(extension, config, tier=tier or tier_now(config))

    def is_news(self, build: Build) -> bool:
        """Whether it is another build than the one that was last seen."""
        self._require_loaded()
        return build.fingerprint not in self._seen

    def load_next(self, build: Build, show: Show) -> Version:
        """Load a build as the version after the newest; it is not current yet.

        Args:
            build: what to load.
            show: puts the new module object behind the public one, for the body that runs.
        """
        version = load_version(
            build, self._number + 1, self._loader.again().spec(), partial(show, self._public)
        )
        self._number = version.number
        return version

    def forget(self, version: Version) -> None:
        """A version that was loaded does not become current."""
        if version.number == self._number:
            self._number -= 1

    def show(self, version: Version) -> None:
        """A version becomes current. It may be done again after it has been interrupted."""
        _native.share_namespace(self._public, version.held[0])
        kind = type(version.held[0])
        if kind is not ModuleType or type(self._public).__module__ == self.name:
            self._public.__class__ = kind  # its body has set it, or that of the version before
        self._current = version
        if self._history[-1].number != version.number:
            self._note(version)
        note(self)

    def seen(self, build: Build, *, again: bool = False) -> None:
        """The sources have been looked at, and this is what they make.

        Args:
            again: in another tier than before; the sources are the same.
        """
        self._extension, self._config = build.extension, build.config
        self._seen = {build.fingerprint, *(self._seen if again else ())}

    def _note(self, version: Version) -> None:
        self._history.append(Past(version.number, version.build, time.time()))

    def _require_loaded(self) -> None:
        if self._unloaded:
            raise ModuleUnloaded(
                f"{self.name} has been unloaded; load it again with relib.load()", name=self.name
            )

    def _show_first(self, module: ModuleType) -> None:
        # Importable while its body runs, like any module: the body may import what imports it.
        _native.share_namespace(self._public, module)
        sys.modules[self.name] = self._public

    # --- the public object -----------------------------------------------------------------------

    def _bind_to_parent(self) -> None:
        parent, _, child = self.name.rpartition(".")
        if parent in sys.modules:
            setattr(sys.modules[parent], child, self._public)

    def _withdraw(self) -> None:
        """Out of sys.modules and the parent package, and unusable wherever else it is held.

        It may be done again after it has been interrupted.
        """
        self._unloaded = True
        if sys.modules.get(self.name) is self._public:
            del sys.modules[self.name]
        parent, _, child = self.name.rpartition(".")
        if parent in sys.modules and vars(sys.modules[parent]).get(child) is self._public:
            delattr(sys.modules[parent], child)
        _native.share_namespace(self._public, {"__name__": self.name})
        self._public.__class__ = _UnloadedModule


class _UnloadedModule(ModuleType):
    """What a public module object becomes when its module has been unloaded."""

    def __getattribute__(self, attribute: str) -> object:
        if not (attribute.startswith("__") and attribute.endswith("__")):
            _refuse(self)
        return super().__getattribute__(attribute)

    def __setattr__(self, attribute: str, value: object) -> None:
        _refuse(self)

    def __delattr__(self, attribute: str) -> None:
        _refuse(self)

    def __dir__(self) -> NoReturn:
        _refuse(self)

    def __repr__(self) -> str:
        return f"<module {self.__name__!r} (unloaded)>"


def _refuse(module: ModuleType) -> NoReturn:
    name = module.__name__
    raise ModuleUnloaded(
        f"the module {name} has been unloaded; load it again with relib.load() and use what that "
        f"returns",
        name=name,
    )
