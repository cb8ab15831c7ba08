"""Whether an extension would be rebuilt, and which change is the reason."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from relib.building.builder import contents
from relib.building.cimport_path import found_elsewhere
from relib.building.fingerprint import located
from relib.building.manifest import Manifest
from relib.building.store import Store
from relib.building.tiers import plans, resolved
from relib.config import Config
from relib.extension import Extension

__all__ = ["SettingChange", "Why", "explain"]


@dataclass(frozen=True, slots=True)
class SettingChange:
    """One part of the recipe that is not what it was.

    >>> print(SettingChange("CFLAGS", "-O2", "-O0 -g"))
    CFLAGS changed from '-O2' to '-O0 -g'
    >>> print(SettingChange("Cython", None, "3.3.1"))
    Cython changed from nothing to '3.3.1'
    """

    name: str
    before: object
    after: object

    def __str__(self) -> str:
        if self.name in _UNREADABLE:
            return f"{self.name} changed"
        return f"{self.name} changed from {_shown(self.before)} to {_shown(self.after)}"


@dataclass(frozen=True, slots=True)
class Why:
    """Whether a build is needed, and why: against the build that was made or used last.

    >>> print(Why("fast", True, changed=(Path("vec.h"),)))
    fast: would rebuild: vec.h changed
    """

    name: str
    """The extension's name."""
    needed: bool
    """Whether a build would be made; otherwise the store has what the sources say."""
    last: str | None = None
    """The unique name of the build compared with, or of the one that would be used."""
    changed: tuple[Path, ...] = ()
    """Inputs with other contents, relative to the project's root when they are below it."""
    appeared: tuple[Path, ...] = ()
    """Files that were not there and would be read now."""
    vanished: tuple[Path, ...] = ()
    """Inputs that are no longer there."""
    elsewhere: tuple[Path, ...] = ()
    """Files that Cython would no longer take: on `sys.path` another one comes before, or none."""
    settings: tuple[SettingChange, ...] = ()
    """What changed besides files: flags, compiler, Cython, Python, relib, the declaration."""
    damaged: bool = False
    """Nothing changed, but the build in the store is not whole."""

    def __str__(self) -> str:
        reasons = self.reasons
        said = "; ".join(reasons)
        if not self.needed:
            return f"{self.name}: up to date ({self.last})"
        if self.last is None and not reasons:
            return f"{self.name}: would be built: the store has no build of it"
        return f"{self.name}: would rebuild: {said}"

    @property
    def reasons(self) -> list[str]:
        """Each reason in a few words."""
        reasons = [
            *(f"{path} changed" for path in self.changed),
            *(f"{path} appeared" for path in self.appeared),
            *(f"{path} vanished" for path in self.vanished),
            *(f"{path} is not what Cython finds now (sys.path)" for path in self.elsewhere),
            *(str(setting) for setting in self.settings),
        ]
        if self.damaged:
            reasons.append(f"{self.last} in the store is damaged")
        return reasons


# Parts that say nothing to a reader; and those whose change another part explains better.
_UNREADABLE = {"Python's build", "compiler's identity"}
_EXPLAINED_BY = {
    "Python's build": {"Python"},
    "compiler": {"tier"},
    "compiler's identity": {"tier", "compiler", "compiler's version", "CFLAGS", "LDFLAGS"},
    "compiler's version": {"tier", "compiler"},
    "CFLAGS": {"tier"},
    "LDFLAGS": {"tier"},
}


def explain(extension: Extension, config: Config, tier: str | None = None) -> Why:
    """Say whether building `extension` would compile anything, and why. Builds nothing.

    Args:
        extension: what would be built.
        config: the settings in force.
        tier: as for :func:`relib.building.builder.build_extension`.

    Raises:
        ConfigError: there is no such tier.
        CompilerMissing: there is no compiler to compare.
        StoreRefused: the store is not private.
    """
    store = Store(config)
    tier = resolved(tier, config)
    ways = plans(extension, config, tier)
    for way in [ways] if tier != "auto" else [plans(extension, config, "optimized"), ways]:
        for plan in way:
            found = store.find(extension.name, plan.recipe, contents)
            if found is not None:
                return Why(extension.name, False, found[1].unique_name)
    last = store.last_used(extension.name)
    if last is None:
        return Why(extension.name, True)
    # It may have been another compiler's turn: what that one would do now is the like of it.
    identity = last[1].parts.get("compiler's identity")
    parts = next(
        (plan.parts for plan in ways if plan.parts["compiler's identity"] == identity),
        ways.first.parts,
    )
    before = last[1].parts
    if tier != "auto" and last[1].tier != tier:
        before, parts = {"tier": last[1].tier, **before}, {"tier": tier, **parts}
    return _compare(extension.name, last[1], before, parts, config.root)


def _compare(
    name: str,
    last: Manifest,
    before_parts: Mapping[str, object],
    parts: Mapping[str, object],
    root: Path,
) -> Why:
    changed, appeared, vanished = [], [], []
    for text, before in {**last.found, **last.inputs}.items():
        try:
            now = contents.digest(located(text, root))
        except OSError:
            now = None  # cannot be read any more
        if now == before:
            continue
        if before is None:
            appeared.append(Path(text))
        elif now is None:
            vanished.append(Path(text))
        else:
            changed.append(Path(text))
    elsewhere = tuple(map(Path, found_elsewhere(last, root)))
    settings = _settings(before_parts, parts)
    return Why(
        name,
        True,
        last.unique_name,
        tuple(changed),
        tuple(appeared),
        tuple(vanished),
        elsewhere,
        settings,
        damaged=not (changed or appeared or vanished or elsewhere or settings),
    )


def _settings(
    before: Mapping[str, object], after: Mapping[str, object]
) -> tuple[SettingChange, ...]:
    differing = [part for part in {**before, **after} if before.get(part) != after.get(part)]
    return tuple(
        SettingChange(part, before.get(part), after.get(part))
        for part in differing
        if not _EXPLAINED_BY.get(part, set()).intersection(differing)
    )


def _shown(value: object) -> str:
    if value in (None, "", [], {}):
        return "nothing"
    return repr(value) if isinstance(value, str) else json.dumps(value)
