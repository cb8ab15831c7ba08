"""A project that is read and not built: its files, and its settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from relib.config import Config, load_config


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to make a project in, which is the current one too."""
    directory = tmp_path / "project"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


def config_of(root: Path, **options: object) -> Config:
    return load_config(root, {}, **options)
