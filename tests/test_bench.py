"""`relib bench` measures; what it measures is not judged here, as timing never decides a test."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from conftest import Project

from relib.bench.measure import rounds
from relib.bench.ways import PHASES

PYX = """
    def answer():
        return 41
"""
C = """
    #include <Python.h>
    static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "plain", NULL, 0};
    PyMODINIT_FUNC PyInit_plain(void) { return PyModuleDef_Init(&definition); }
"""


def bench(project: Project, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    ran = subprocess.run(
        [sys.executable, "-m", "relib", "bench", *arguments],
        cwd=project.root,
        env=project.environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert ran.returncode == status, f"{ran.stdout}\n{ran.stderr}"
    return ran


def measured(project: Project, *arguments: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(bench(project, *arguments, "--json").stdout)
    return document


def test_each_edit_of_a_file_is_timed(project: Project, tmp_path: Path) -> None:
    source = project.write("fast.pyx", PYX)
    before = source.read_bytes()
    chart = tmp_path / "fast.svg"

    found = measured(project, "fast.pyx", "--edits", "3", "--against", "none", "--plot", str(chart))

    assert source.read_bytes() == before
    extension = found["extension"]
    assert (extension["name"], extension["kind"]) == ("fast", "cython")
    assert found["machine"].keys() >= {"relib", "python", "cython", "compiler", "cores", "load"}
    rows = {row["name"]: row for row in found["rows"]}
    names = [f"relib, {tier}" for tier in ("instant", "optimized", "auto", "back to earlier")]
    names.append("floor")
    assert list(rows) == names
    for row in rows.values():
        assert row["seconds"] > 0
        assert len(row["edits"]) == 3
        assert row["to_floor"] > 0
    for tier in names[:3]:
        assert rows[tier]["phases"].keys() >= {*PHASES}
        assert rows[tier]["unloaded"] is True
    assert rows["floor"]["phases"].keys() == {"translate", "compile", "load"}
    assert "translate" not in rows["relib, back to earlier"]["phases"]  # it was in the store
    drawn = ElementTree.parse(chart).getroot()
    assert {text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")} >= {*names}


def test_other_ways_are_timed_with_the_same_edits(project: Project) -> None:
    project.write("pkg/__init__.py", "")
    project.write("pyproject.toml", '[tool.relib.extensions]\n"pkg.fast" = "pkg/fast.pyx"\n')
    project.write("pkg/fast.pyx", PYX)

    found = measured(project, "--edits", "1", "--tier", "instant", "--against", "setuptools")

    rows = {row["name"]: row for row in found["rows"]}
    assert "relib, optimized" not in rows
    one = rows["relib, instant"]  # a single edit: no medians, whose sum is no median
    assert sum(one["phases"][phase] for phase in PHASES) == pytest.approx(one["seconds"])
    assert rows["setuptools + restart"]["seconds"] > 0, rows["setuptools + restart"]["reason"]
    assert rows["setuptools + restart"]["phases"].keys() == {"build", "restart"}


def test_what_cannot_be_compared_is_said(project: Project) -> None:
    project.write("plain.c", C)
    said = bench(project, "plain.c", "--edits=1", "--tier=instant", "--against=pyximport").stdout
    assert "pyximport + restart: not measured: it is for Cython alone" in said
    assert "relib, instant" in said


def test_a_source_that_does_not_build_is_an_error(project: Project) -> None:
    project.write("broken.pyx", "def answer(:\n")
    assert "broken.pyx" in bench(project, "broken.pyx", status=1).stderr


def test_one_of_several_extensions_must_be_chosen(project: Project) -> None:
    project.write("pyproject.toml", '[tool.relib.extensions]\none = "one.pyx"\ntwo = "two.pyx"\n')
    assert "one, two" in bench(project, status=2).stderr


def test_slow_ways_have_fewer_edits_but_enough_for_a_median() -> None:
    # with one that is not counted: two quick ways, and two others
    assert rounds(10, tiers=1, against=2) == 2 * 11 + 2 * 6
    assert rounds(50, tiers=2, against=1) == 2 * 51 + 2 * 11
    assert rounds(3, tiers=2, against=1) == 4 * 4


def test_an_answer_that_is_there_before_it_is_asked_for_counts(project: Project) -> None:
    """C has nothing that tells one edit from another but its version."""
    project.write("plain.c", C)
    told = project.run(
        """
        from pathlib import Path
        from relib.bench import program

        program.begin("plain.c", "plain", os.getcwd(), {"tier": "instant"})
        source = Path("plain.c")
        source.write_text(source.read_text() + "enum { edition = 1 };\\n")
        while relib.get("plain").version == 1:
            time.sleep(0.001)
        first = program.answer(None, 1, 60)
        say([first["cached"], first["unloaded"]])
        """
    )
    assert told.value == [False, True]
