"""Fingerprints: contents, never times; and everything that makes a difference."""

from __future__ import annotations

import mmap
import os
from dataclasses import replace
from pathlib import Path

import pytest
from building_project import PYTHON_HEADERS, Project

from relib.building import fingerprint as module
from relib.building.fingerprint import (
    Contents,
    fingerprint,
    located,
    portable,
    recipe_hash,
    recipe_parts,
)
from relib.building.toolchain import find_toolchain


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are opened to be digested."""
    names: list[str] = []

    def note(name: str, *arguments: object) -> object:
        names.append(name)
        return Path(name).open(*arguments)  # type: ignore[call-overload]

    monkeypatch.setattr(module, "open", note, raising=False)
    return names


def test_same_contents_have_the_same_digest_whatever_their_times(tmp_path: Path) -> None:
    contents = Contents()
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"text")
    other.write_bytes(b"text")
    os.utime(other, (1, 1))
    assert contents.digest(one) == contents.digest(other)
    other.write_bytes(b"Text")
    assert contents.digest(one) != contents.digest(other)


def test_what_is_not_a_file_has_no_digest(tmp_path: Path) -> None:
    contents = Contents()
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nothing")
    os.mkfifo(tmp_path / "fifo")
    for path in ("missing", "file/below", "dangling", "", "fifo"):
        assert contents.digest(tmp_path / path) is None
    assert contents.digest(tmp_path / "file") is not None
    (tmp_path / "file").unlink()
    assert contents.digest(tmp_path / "file") is None


def test_an_old_file_is_read_once(opened: list[str]) -> None:
    contents = Contents()
    header = PYTHON_HEADERS / "Python.h"
    digests = {contents.digest(header) for _ in range(3)}
    assert len(digests) == 1
    assert opened == [str(header)]


def test_a_new_file_is_read_each_time(tmp_path: Path, opened: list[str]) -> None:
    contents = Contents()
    path = tmp_path / "fast.c"
    path.write_bytes(b"int x;")
    os.utime(path, (1, 1))  # cannot set back when the inode changed
    contents.digest(path)
    contents.digest(path)
    assert opened == [str(path)] * 2


def test_a_change_that_leaves_the_times_alone_is_seen(tmp_path: Path) -> None:
    # Writes through a mapping whose page is dirty already touch no time stamp.
    contents = Contents()
    path = tmp_path / "fast.c"
    path.write_bytes(b"a" * 100)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 100) as mapped:
        mapped[0] = ord("b")
        before = contents.digest(path)
        mapped[0] = ord("c")
        assert contents.digest(path) != before


def test_a_state_tells_a_file_that_was_changed_and_changed_back(tmp_path: Path) -> None:
    contents = Contents()
    path = tmp_path / "fast.c"
    path.write_bytes(b"a")
    before = contents.state(path)
    path.unlink()
    (tmp_path / "in the way").touch()  # so that the inode is not the same one again
    path.write_bytes(b"a")
    after = contents.state(path)
    assert after != before
    assert after.digest == before.digest


def test_paths_are_relative_to_the_root_where_they_are_below_it() -> None:
    root = Path("/project")
    for path, text in {
        "/project/pkg/fast.pyx": "pkg/fast.pyx",
        "/projects/fast.pyx": "/projects/fast.pyx",
        "/usr/include/math.h": "/usr/include/math.h",
    }.items():
        assert portable(path, root) == text
        assert located(text, root) == Path(path)
    assert portable("/usr", Path("/")) == "usr"
    assert located("usr", Path("/")) == Path("/usr")


def test_a_file_that_appears_changes_the_fingerprint() -> None:
    without = fingerprint("00", {"fast.pyx": "aa", "fast.pxd": None})
    assert fingerprint("00", {"fast.pyx": "aa", "fast.pxd": "bb"}) != without
    assert fingerprint("00", {"fast.pyx": "aa"}) != without
    assert fingerprint("01", {"fast.pyx": "aa", "fast.pxd": None}) != without


def test_a_file_name_that_is_not_utf8_has_a_fingerprint() -> None:
    assert len(fingerprint("00", {os.fsdecode(b"h\xff.h"): "aa"})) == 64


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "pkg.fast"),
        ("sources", (Path("/p/fast.pyx"), Path("/p/more.c"))),
        ("depends", (Path("/p/vec.h"),)),
        ("define_macros", (("X", "1"),)),
        ("define_macros", (("X", None),)),
        ("undef_macros", ("NDEBUG",)),
        ("include_dirs", ("/p/include",)),
        ("library_dirs", ("/p/lib",)),
        ("libraries", ("m",)),
        ("runtime_library_dirs", ("/p/lib",)),
        ("extra_objects", ("/p/x.o",)),
        ("extra_compile_args", ("-O1",)),
        ("extra_link_args", ("-lm",)),
        ("language", "c++"),
        ("directives", (("boundscheck", False),)),
        ("cython_include_path", ("/p/include",)),
    ],
)
def test_every_field_of_an_extension_counts(tmp_path: Path, field: str, value: object) -> None:
    project = Project(tmp_path)
    config = project.config
    extension = project.extension("fast.pyx")
    toolchain = find_toolchain("c", config)
    changed = replace(extension, **{field: value})  # type: ignore[arg-type]
    assert recipe_hash(recipe_parts(changed, toolchain, config)) != recipe_hash(
        recipe_parts(extension, toolchain, config)
    )


def test_flags_compiler_directives_and_environment_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def now(**options: object) -> str:
        project = Project(tmp_path, **options)
        extension = project.extension("fast.pyx")
        return recipe_hash(
            recipe_parts(extension, find_toolchain("c", project.config), project.config)
        )

    monkeypatch.delenv("CPATH", raising=False)
    recipes = [
        now(),
        now(cflags="-O1"),
        now(ldflags="-Wl,-O1"),
        now(cc="gcc -pipe"),
        now(directives={"boundscheck": False}),
    ]
    monkeypatch.setenv("CPATH", "/opt/include")
    recipes.append(now())
    monkeypatch.delenv("CPATH")
    assert now() == recipes[0]
    assert len(set(recipes)) == len(recipes)


def test_another_compiler_binary_counts(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    record = project.record_compiler()
    extension = project.extension("fast.c")

    def now() -> str:
        return recipe_hash(
            recipe_parts(extension, find_toolchain("c", project.config), project.config)
        )

    before = now()
    with record.script.open("a") as script:
        script.write("# another one now\n")
    assert now() != before


def test_with_sources_in_both_languages_both_compilers_count(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    record = project.record_compiler()
    extension = project.extension(
        "fast.cpp", sources=(tmp_path / "fast.cpp", tmp_path / "core.c"), language="c++"
    )

    def now() -> str:
        return recipe_hash(
            recipe_parts(extension, find_toolchain("c++", project.config), project.config)
        )

    before = now()
    with record.script.open("a") as script:
        script.write("# another one now\n")
    assert now() != before


def test_python_cython_and_relib_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(tmp_path)
    config = project.config
    toolchain = find_toolchain("c", config)
    extension = project.extension("fast.pyx")
    recipes = {recipe_hash(recipe_parts(extension, toolchain, config))}
    with monkeypatch.context() as patch:
        patch.setattr(module, "BUILD_VERSION", -1)
        recipes.add(recipe_hash(recipe_parts(extension, toolchain, config)))
    with monkeypatch.context() as patch:
        patch.setattr(module, "cython_version", lambda: "0.1")
        recipes.add(recipe_hash(recipe_parts(extension, toolchain, config)))
    for name, value in {"version": "3.99.0 (other)", "hexversion": 0}.items():
        with monkeypatch.context() as patch:
            patch.setattr(module.sys, name, value)
            recipes.add(recipe_hash(recipe_parts(extension, toolchain, config)))
    for variable in ("SOABI", "EXT_SUFFIX", "Py_DEBUG"):
        with monkeypatch.context() as patch:
            real = module.sysconfig.get_config_var
            patch.setattr(
                module.sysconfig,
                "get_config_var",
                lambda name, v=variable, real=real: "other" if name == v else real(name),
            )
            recipes.add(recipe_hash(recipe_parts(extension, toolchain, config)))
    assert len(recipes) == 8


def test_c_sources_do_not_depend_on_cython(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> str:
        raise AssertionError("asked for Cython")

    monkeypatch.setattr(module, "cython_version", missing)
    project = Project(tmp_path)
    toolchain = find_toolchain("c", project.config)
    assert recipe_parts(project.extension("fast.c"), toolchain, project.config)["Cython"] is None


def test_a_moved_checkout_has_the_same_recipe(tmp_path: Path) -> None:
    def at(root: Path) -> str:
        project = Project(root)
        extension = project.extension("fast.c", include_dirs=(str(root / "include"),))
        return recipe_hash(
            recipe_parts(extension, find_toolchain("c", project.config), project.config)
        )

    assert at(tmp_path / "here") == at(tmp_path / "there")


def test_the_directories_of_python_s_headers_and_libraries_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path)
    toolchain = find_toolchain("c", project.config)

    def now() -> str:
        return recipe_hash(recipe_parts(project.extension("fast.c"), toolchain, project.config))

    recipes = {now()}
    for name in ("python_includes", "python_libraries"):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, lambda: ("/venv/include",))
            recipes.add(now())
    assert len(recipes) == 3
