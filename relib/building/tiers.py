"""The two ways to build: *instant*, by whatever compiler is quickest, and *optimized*.

``instant``
    tcc, where it is installed and can be trusted with the code; else clang or the project's own
    compiler without optimisation. Which one it is shows on the build; that it was not the quickest
    is said once.
``optimized``
    The project's own compiler, with the project's own flags.

`plans` lists the compilers of a tier, the quickest first. The last one is always the project's own
with its own flags: what that one refuses is wrong with the source.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from relib.building.fingerprint import recipe_hash, recipe_parts
from relib.building.toolchain import Toolchain, find_toolchain, quickened
from relib.errors import CompilerMissing, ConfigError

if TYPE_CHECKING:
    from relib.config import Config
    from relib.extension import Extension

__all__ = ["Plan", "Plans", "language_of", "plans", "resolved"]

_TIERS = ("auto", "instant", "optimized")


def resolved(tier: str | None, config: Config) -> str:
    """The tier that is meant.

    Raises:
        ConfigError: there is no such tier.
    """
    wanted = config.tier if tier is None else tier
    if wanted not in _TIERS:
        known = ", ".join(map(repr, _TIERS))
        raise ConfigError(
            f"there is no tier {wanted!r}; there are {known}", key="tier", origin="an argument"
        )
    return wanted


class Plan:
    """One compiler that may build an extension, and the recipe that follows from it."""

    def __init__(
        self, extension: Extension, config: Config, tier: str, find: Callable[[], Toolchain | None]
    ) -> None:
        self.tier = tier
        """``"instant"`` or ``"optimized"``."""
        self._extension = extension
        self._config = config
        self._find = find
        # Not functools.cached_property: before 3.12 it has one lock for all instances, which would
        # put builds in a row, and which a forked child finds locked.
        self._found: tuple[Toolchain | None] | None = None
        self._parts: Mapping[str, object] | None = None
        self._recipe: str | None = None

    @property
    def toolchain(self) -> Toolchain | None:
        """The compiler; None if it is not there after all.

        Raises:
            CompilerMissing: it must be there and is not.
        """
        if self._found is None:
            self._found = (self._find(),)
        return self._found[0]

    @property
    def parts(self) -> Mapping[str, object]:
        """The recipe, part by part."""
        if self._parts is None:
            assert self.toolchain is not None
            self._parts = recipe_parts(self._extension, self.toolchain, self._config)
        return self._parts

    @property
    def recipe(self) -> str:
        """The hash of the parts."""
        if self._recipe is None:
            self._recipe = recipe_hash(self.parts)
        return self._recipe


class Plans:
    """Plans in the order of trying; each compiler is looked for when its turn comes.

    The quickest compiler does nearly every build, and looking for one takes milliseconds.
    """

    def __init__(self, every: Sequence[Plan]) -> None:
        self._every = every

    def __iter__(self) -> Iterator[Plan]:
        return (plan for plan in self._every if plan.toolchain is not None)

    @property
    def first(self) -> Plan:
        """The plan to try first."""
        return next(iter(self))


def plans(
    extension: Extension,
    config: Config,
    tier: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Plans:
    """The compilers that may build `extension`, in the order of trying.

    Args:
        extension: what is to be built.
        config: the settings in force.
        tier: ``"instant"`` or ``"optimized"``; ``"auto"`` is the former; None: as the settings say.
        environ: the environment; by default this process's.

    Raises:
        ConfigError: there is no such tier.
    """
    language = language_of(extension)
    environ = os.environ if environ is None else environ

    def own() -> Toolchain:
        return find_toolchain(language, config, environ)

    def optional(name: str) -> Toolchain | None:
        if shutil.which(name, path=environ.get("PATH")) is None or own().family == name:
            return None
        try:
            return quickened(find_toolchain(language, replace(config, cc=name), environ))
        except CompilerMissing:
            return None  # it is there and does not work

    def plan(find: Callable[[], Toolchain | None], tier: str = "instant") -> Plan:
        return Plan(extension, config, tier, find)

    if resolved(tier, config) == "optimized":
        return Plans([plan(own, "optimized")])
    quick: list[Plan] = []
    if language == "c":
        quick.append(plan(lambda: optional("tcc")))
        # Whoever has chosen a compiler has reasons; tcc, which is there for speed alone, gives way
        # to it where it cannot follow.
        if not (config.cc or environ.get("CC")):
            quick.append(plan(lambda: optional("clang")))
    return Plans([*quick, plan(lambda: quickened(own())), plan(own, "optimized")])


def language_of(extension: Extension) -> str:
    """The language of the compiler, and so of the linker, that `extension` needs.

    >>> from pathlib import Path
    >>> from relib.extension import Extension
    >>> language_of(Extension("fast", (Path("fast.pyx"), Path("core.cpp"))))
    'c++'
    """
    kinds = {replace(extension, sources=(source,)).kind for source in extension.sources}
    return "c++" if extension.language == "c++" or "c++" in kinds else "c"
