"""relib as users get it: from a checkout, an sdist and a wheel, with all that it needs to build."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from relib.building import anchor
from relib.building.translate import cython_version

CHECKOUT = Path(__file__).parents[1]

pytestmark = [
    pytest.mark.skipif(not (CHECKOUT / "setup.py").exists(), reason="for a checkout only"),
    pytest.mark.skipif(
        not [*importlib.metadata.distributions(name="pip")], reason="pip is not installed"
    ),
]

LOADING = """
import os, sys
sys.path = [entry for entry in sys.path if entry not in ("", os.getcwd())]
import relib, relib._native
home = os.path.dirname(os.path.dirname(relib.__file__))
assert os.path.samefile(home, sys.argv[1]), relib.__file__
fast = relib.load(sys.argv[2])
assert fast.module.count(3) == [0, 1, 2]
path = sys.argv[2]
text = open(path).read().replace("range(n)", "range(n, 0, -1)")
open(path, "w").write(text)
fast.reload().require_unloaded()
assert fast.module.count(3) == [3, 2, 1]
fast.unload().require_unloaded()
print("done")
"""


def run(*command: object, cwd: Path) -> str:
    environ = {
        **{key: value for key, value in os.environ.items() if not key.startswith("RELIB_")},
        "CFLAGS": "-O0 -g0",
        # Without a network; with the setuptools and the Cython that are there.
        "PIP_NO_INDEX": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_CACHE_DIR": "1",
    }
    environ.pop("PYTHONPATH", None)
    ran = subprocess.run(
        [sys.executable, "-P", *map(str, command)],
        cwd=cwd,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    return ran.stdout


def pip(*arguments: object, cwd: Path) -> None:
    run("-m", "pip", *arguments, "--quiet", "--no-build-isolation", "--no-deps", cwd=cwd)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy without what has been built in it."""
    place = tmp_path_factory.mktemp("packaging") / "checkout"
    built = ("build", "dist", "*.egg-info", "*.so", "__pycache__", ".*")
    shutil.copytree(CHECKOUT, place, ignore=shutil.ignore_patterns(*built))
    return place


@pytest.fixture(scope="module")
def sdist(checkout: Path) -> Path:
    code = "from setuptools import build_meta; build_meta.build_sdist('../sdist')"
    run("-c", code, cwd=checkout)
    [found] = (checkout.parent / "sdist").iterdir()
    return found


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    """Of the sdist, as pip makes it for who installs that."""
    place = sdist.parents[1] / "wheel"
    pip("wheel", sdist, "--wheel-dir", place, cwd=sdist.parent)
    [found] = place.iterdir()
    return found


def test_an_sdist_has_what_is_compiled(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for path in (CHECKOUT / "csrc").glob("*.[ch]"):
        assert f"csrc/{path.name}" in names
    assert {"setup.py", "pyproject.toml", "README.md", "relib/_anchor/types.pyx"} <= names
    assert not any(name.endswith((".so", ".pyc")) for name in names)


def test_a_wheel_has_what_runs(wheel: Path) -> None:
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    names = set(zipfile.ZipFile(wheel).namelist())
    libraries = ["relib._native", *anchor.names(cython_version())]
    assert len(libraries) == 4
    assert {name for name in names if name.endswith(".so")} == {
        f"{library.replace('.', '/')}{suffix}" for library in libraries
    }
    package = CHECKOUT / "relib"
    sources = {
        path.relative_to(CHECKOUT).as_posix()
        for pattern in ("*.py", "*.pyi", "*.h", "py.typed", "*.pyx")
        for path in package.rglob(pattern)
    }
    assert any(name.startswith("relib/building/tcc/sys/") for name in sources)
    assert names >= sources
    # nothing of the checkout beside it
    assert {name.partition("/")[0] for name in names} == {"relib", f"relib-{version(wheel)}"}


def version(wheel: Path) -> str:
    return f"{wheel.name.split('-')[1]}.dist-info"


@pytest.mark.parametrize("source", ["checkout", "wheel"])
def test_it_is_installed_and_used(
    source: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """In a directory that has nothing to do with it."""
    target, place = tmp_path / "target", tmp_path / "elsewhere"
    place.mkdir()
    pip("install", "--target", target, request.getfixturevalue(source), cwd=place)
    fast = place / "fast.pyx"
    fast.write_text("def count(long n):\n    return [i for i in range(n)]\n")
    script = f"import sys; sys.path.insert(0, {str(target)!r})\n{LOADING}"
    assert run("-c", script, target, fast, cwd=place).endswith("done\n")
