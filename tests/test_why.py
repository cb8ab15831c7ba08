"""`relib why`: which change would rebuild an extension."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from building_project import Project

from relib.building import fingerprint
from relib.building.store import Store
from relib.building.why import SettingChange, Why, explain


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path / "project")
    project.write_c("fast", "VALUE", "value.h")
    project.write("value.h", "#define VALUE 1\n")
    return project


def why(project: Project, source: str = "fast.c", **fields: object) -> Why:
    return explain(project.extension(source, **fields), project.config)


def test_never_built(project: Project) -> None:
    answer = why(project)
    assert answer.needed
    assert answer.last is None
    assert str(answer) == "fast: would be built: the store has no build of it"
    assert not project.config.store.exists()


def test_up_to_date(project: Project) -> None:
    build = project.build("fast.c")
    answer = why(project)
    assert answer == Why("fast", False, build.unique_name)
    assert str(answer) == f"fast: up to date ({build.unique_name})"


def test_a_changed_header_and_flag(project: Project) -> None:
    build = project.build("fast.c")
    project.write("value.h", "#define VALUE 2\n")
    answer = why(project)
    assert answer == Why("fast", True, build.unique_name, changed=(Path("value.h"),))
    assert str(answer) == "fast: would rebuild: value.h changed"
    project.options["cflags"] = "-O1 -g0"
    text = str(why(project))
    assert text.startswith("fast: would rebuild: value.h changed; CFLAGS changed from '")
    assert "-O0 -g0" in text
    assert "-O1 -g0" in text
    assert "identity" not in text


def test_a_reverted_edit_is_up_to_date(project: Project) -> None:
    project.build("fast.c")
    project.write("value.h", "#define VALUE 2\n")
    project.build("fast.c")
    project.write("value.h", "#define VALUE 1\n")
    assert not why(project).needed


def test_compared_with_the_build_that_was_used_last(project: Project) -> None:
    first = project.build("fast.c")
    project.write("value.h", "#define VALUE 2\n")
    project.build("fast.c")
    project.write("value.h", "#define VALUE 1\n")
    assert project.build("fast.c").cached
    project.write_c("fast", 1)
    assert why(project) == Why("fast", True, first.unique_name, changed=(Path("fast.c"),))


def test_what_appeared_and_what_vanished(project: Project) -> None:
    project.write("slow.pyx", 'include "text.pxi"\n')
    project.write("text.pxi", "text = 1\n")
    project.build("slow.pyx")
    project.write("slow.pxd", "cdef int x\n")
    (project.root / "text.pxi").unlink()
    answer = why(project, "slow.pyx")
    assert answer.appeared == (Path("slow.pxd"),)
    assert answer.vanished == (Path("text.pxi"),)
    assert answer.changed == ()
    assert str(answer) == "slow: would rebuild: slow.pxd appeared; text.pxi vanished"


def test_a_source_that_vanished(project: Project) -> None:
    project.build("fast.c")
    (project.root / "fast.c").unlink()
    assert str(why(project)) == "fast: would rebuild: fast.c vanished"


def test_a_changed_declaration(project: Project) -> None:
    project.build("fast.c")
    answer = why(project, define_macros=(("DEBUG", None),), libraries=("m",))
    assert answer.settings == (
        SettingChange("define_macros", [], [["DEBUG", None]]),
        SettingChange("libraries", [], ["m"]),
    )
    assert str(answer) == (
        'fast: would rebuild: define_macros changed from nothing to [["DEBUG", null]]; '
        'libraries changed from nothing to ["m"]'
    )


def test_another_compiler(project: Project) -> None:
    record = project.record_compiler()
    project.build("fast.c")
    with record.script.open("a") as script:
        script.write("# another one now\n")
    assert str(why(project)) == "fast: would rebuild: compiler's identity changed"
    project.options["cc"] = "gcc"
    assert [change.name for change in why(project).settings] == ["compiler"]


def test_another_cython_python_and_relib(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write("slow.pyx", "answer = 1\n")
    project.build("slow.pyx")
    monkeypatch.setattr(fingerprint, "cython_version", lambda: "0.1")
    monkeypatch.setattr(fingerprint.sys, "version", "3.99.0 (else, somewhere)")
    monkeypatch.setattr(fingerprint, "BUILD_VERSION", 99)
    names = [change.name for change in why(project, "slow.pyx").settings]
    assert names == ["relib's build version", "Python", "Cython"]


def test_a_damaged_build(project: Project) -> None:
    build = project.build("fast.c")
    build.library.write_bytes(b"")
    answer = why(project)
    assert answer == Why("fast", True, build.unique_name, damaged=True)
    assert str(answer) == f"fast: would rebuild: {build.unique_name} in the store is damaged"


def test_asking_builds_and_changes_nothing(project: Project) -> None:
    record = project.record_compiler()
    project.build("fast.c")
    project.write("value.h", "#define VALUE 2\n")

    def everything() -> list[tuple[str, int]]:
        paths = sorted(project.root.rglob("*"))
        return [(str(path), path.stat().st_mtime_ns) for path in paths]

    before = everything(), len(record.compiled)
    why(project)
    assert (everything(), len(record.compiled)) == before


def test_projects_that_share_a_store_are_kept_apart(project: Project, tmp_path: Path) -> None:
    project.options["store"] = str(tmp_path / "store")
    other = Project(tmp_path / "other", **project.options)
    other.write_c("fast", 7)
    build = project.build("fast.c")
    other.build("fast.c")
    project.write("value.h", "#define VALUE 2\n")
    assert why(project) == Why("fast", True, build.unique_name, changed=(Path("value.h"),))
    assert Store(project.config).clean(everything=True).removed == 2


def test_all_reasons_are_one_line() -> None:
    answer = Why(
        "fast",
        True,
        "fast__r1_00000000",
        changed=(Path("vec.h"),),
        settings=(SettingChange("CFLAGS", "-O2", "-O0"),),
    )
    assert str(answer) == "fast: would rebuild: vec.h changed; CFLAGS changed from '-O2' to '-O0'"


def test_the_environment_of_the_compiler(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CPATH", raising=False)
    project.build("fast.c")
    monkeypatch.setenv("CPATH", "/opt/include")
    assert str(why(project)) == (
        "fast: would rebuild: compiler's environment changed from nothing "
        'to {"CPATH": "/opt/include"}'
    )


def test_going_back_and_forth_between_branches_builds_each_once(project: Project) -> None:
    """A checkout that goes back and forth between two commits builds each once."""

    def git(*arguments: str) -> None:
        subprocess.run(
            ["git", "-C", project.root, "-c", "user.name=x", "-c", "user.email=x", *arguments],
            check=True,
            capture_output=True,
        )

    git("init", "-q", "-b", "main")
    git("add", "fast.c", "value.h")
    git("commit", "-q", "-m", "one")
    project.build("fast.c")
    git("checkout", "-q", "-b", "two")
    project.write("value.h", "#define VALUE 2\n")
    git("commit", "-q", "-am", "two")
    assert why(project).needed
    project.build("fast.c")
    for branch in ("main", "two", "main"):
        git("checkout", "-q", branch)
        assert not why(project).needed


def test_declarations_that_are_found_elsewhere(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("slow.pyx", "from shapes cimport SIDES\nanswer = SIDES\n")
    place = tmp_path / "place"
    place.mkdir()
    (place / "shapes.pxd").write_text("cdef enum:\n    SIDES = 4\n")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(place)
        build = project.build("slow.pyx")
    answer = why(project, "slow.pyx")
    assert answer == Why("slow", True, build.unique_name, elsewhere=(place / "shapes.pxd",))
    assert str(answer) == (
        f"slow: would rebuild: {place}/shapes.pxd is not what Cython finds now (sys.path)"
    )


def test_flags_of_the_compiler_are_not_told_as_the_linker_s_too(project: Project) -> None:
    project.build("fast.c")
    project.options["cflags"] = "-O1 -g0"
    assert [change.name for change in why(project).settings] == ["CFLAGS"]
    project.options["ldflags"] = "-Wl,-O1"
    assert [change.name for change in why(project).settings] == ["CFLAGS", "LDFLAGS"]
