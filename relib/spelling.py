"""Finds the word that was probably meant."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["did_you_mean"]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the end of a sentence that names the known word nearest to `word`, or nothing.

    >>> did_you_mean("libary_dirs", ["libraries", "library_dirs", "sources"])
    "; did you mean 'library_dirs'?"
    >>> did_you_mean("xyz", ["libraries"])
    ''
    """
    import difflib  # here, because it is needed only when something is wrong

    by_folded = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.7)
    return f"; did you mean {by_folded[near[0]]!r}?" if near else ""
