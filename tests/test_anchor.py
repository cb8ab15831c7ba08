"""The anchors: made by the Cython that is installed, and again when anything of them changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from relib.building import anchor
from relib.building.translate import cython_version


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_c_that_is_the_same_is_not_written_again(tmp_path: Path) -> None:
    name = anchor.names(cython_version())[1]
    first = anchor.generate(name, tmp_path)
    before = first.stat()
    assert anchor.generate(name, tmp_path) == first
    assert (first.stat().st_ino, first.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert list(tmp_path.iterdir()) == [first]
    first.write_text("other")
    assert "PyInit_types" in anchor.generate(name, tmp_path).read_text()


def test_a_cython_in_the_working_directory_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cython.py").write_text("raise SystemExit('not me')\n")
    monkeypatch.chdir(tmp_path)
    anchor.generate(anchor.names(cython_version())[1], tmp_path / "made")


def test_another_source_has_an_anchor_of_its_own(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = anchor.names(cython_version())[1]
    first = anchor.build(name, cython_version())
    assert anchor.build(name, cython_version()).cached
    assert first.library.is_relative_to(cache)
    other = tmp_path / "types.pyx"
    other.write_bytes(anchor._TYPES.read_bytes() + b"\ndef more(): pass\n")
    monkeypatch.setattr(anchor, "_TYPES", other)
    second = anchor.build(name, cython_version())
    assert second.fingerprint != first.fingerprint
    assert "more" in second.source.read_text()
