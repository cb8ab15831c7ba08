"""The compilers that tests ask for: where one is not installed, its tests are skipped."""

from __future__ import annotations

import shutil

import pytest


def needs(name: str) -> pytest.MarkDecorator:
    """A test that a compiler, or another program, has to be installed for."""
    return pytest.mark.skipif(shutil.which(name) is None, reason=f"{name} is not installed")


C_COMPILERS = [pytest.param(name, marks=needs(name)) for name in ("gcc", "clang", "tcc")]
CXX_COMPILERS = [pytest.param(name, marks=needs(name)) for name in ("g++", "clang++")]
