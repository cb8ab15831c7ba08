"""The benchmark runs; what it measures is not judged here, as timing never decides a test."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

pytestmark = pytest.mark.skipif(not BENCHMARKS.exists(), reason="benchmarks are in a checkout only")


def run(*options: str | Path, cwd: Path, status: int = 0) -> str:
    """As `make bench` runs it, but from another directory."""
    environ = {**os.environ, "CFLAGS": "-O0 -g0"}
    done = subprocess.run(
        [sys.executable, "-P", str(BENCHMARKS), *map(str, options)],
        cwd=cwd,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert done.returncode == status, done.stdout
    return done.stdout


def test_the_benchmark_writes_what_it_measured(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    output = run("reloads", "--quick", "--json", file, cwd=tmp_path)
    results = json.loads(file.read_text())

    assert results["quick"] is True
    assert {"relib", "cores", "python", "libc", "compiler", "cython"} <= results["machine"].keys()
    phases = {(row["module"], row["phase"]): row for row in results["phases"]}
    for module in ("small", "large"):
        for phase in ("translate", "compile", "link", "load", "total"):
            assert phases[module, phase]["ratio"] > 0, phase
        for phase in ("check", "store", "exec", "collect", "unload"):
            assert phases[module, phase]["seconds"] > 0, phase
    for row in results["cycles"]:
        assert row.keys() >= {"load", "unload", "total", "floor", "ratio", "to_plain", "target"}
    assert {(row["module"], row["host"]) for row in results["cycles"]} == {
        (module, host)
        for module in ("trivial.c", "small.pyx")
        for host in ("plain", "objects", "mappings")
    }
    assert [row["module"] for row in results["growth"]] == ["trivial.c", "small.pyx", "rich.pyx"]
    for row in results["growth"]:
        assert row.keys() >= {"rss", "malloc", "python", "blocks", "mappings", "descriptors"}
        assert row["descriptors"] == 0
    for heading in ("A reload after an edit", "Load and unload", "Growth"):
        assert heading in output


def test_one_measurement_can_be_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    run("reloads", "--quick", "--only", "growth", "--json", file, cwd=tmp_path)
    assert {"growth"} == json.loads(file.read_text()).keys() - {"machine", "quick"}


def test_save_to_answer_gives_a_table_json_and_a_chart(tmp_path: Path) -> None:
    file, chart = tmp_path / "results.json", tmp_path / "chart.svg"
    output = run(
        *("save-to-answer", "--edits=1", "--only=small", "--against=setuptools"),
        *("--json", file, "--plot", chart),
        cwd=tmp_path,
    )
    [subject] = json.loads(file.read_text())["subjects"]
    rows = {row["name"]: row for row in subject["rows"]}
    names = [f"relib, {tier}" for tier in ("instant", "optimized", "auto", "back to earlier")]
    assert list(rows) == [*names, "floor", "setuptools + restart"]
    for row in rows.values():
        assert row["seconds"] > 0, row["reason"]
        assert row["name"] in output
    targets = {target["row"]: target for target in subject["targets"]}
    assert list(targets) == ["relib, instant", "relib, back to earlier"]
    for name, target in targets.items():
        assert target["target"] <= {"relib, instant": 0.075}.get(name, 0.020)
        assert target["met"] == (target["seconds"] <= target["target"])
    drawn = ElementTree.parse(chart).getroot()
    assert {text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")} >= {*rows}


def test_what_cannot_be_measured_does_not_end_the_rest(tmp_path: Path) -> None:
    sdist, file = tmp_path / "broken.tar.gz", tmp_path / "results.json"
    with tarfile.open(sdist, "w:gz") as archive:
        source = b"def unfinished(:\n"
        member = tarfile.TarInfo("cytoolz-0/cytoolz/itertoolz.pyx")
        member.size = len(source)
        archive.addfile(member, io.BytesIO(source))
    output = run(
        *("save-to-answer", "--edits=1", "--only=large", "--only=plain", "--against=pyximport"),
        *("--itertoolz", sdist, "--json", file),
        cwd=tmp_path,
        status=1,
    )
    assert "large: not measured: " in output
    large, plain = json.loads(file.read_text())["subjects"]
    assert "itertoolz.pyx" in large["reason"]
    assert next(row for row in plain["rows"] if row["name"] == "relib, instant")["seconds"] > 0


def test_builds_of_any_source_are_timed_and_it_is_not_changed(tmp_path: Path) -> None:
    """A C source of a package, too, with a header beside it."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "answer.h").write_text("#define ANSWER 42\n")
    text = """
        #include <Python.h>
        #include "answer.h"
        static PyModuleDef_Slot slots[] = {{0, NULL}};
        static struct PyModuleDef definition = {
            PyModuleDef_HEAD_INIT, "plain", NULL, 0, NULL, slots, NULL, NULL, NULL};
        PyMODINIT_FUNC PyInit_plain(void) { return PyModuleDef_Init(&definition); }
    """
    plain = package / "plain.c"
    plain.write_text(text)
    for source in (BENCHMARKS / "sources" / "small.pyx", plain):
        before = source.read_bytes()
        lines = run("builds", source, "1", cwd=tmp_path).splitlines()
        assert [line.split()[0] for line in lines[-5:]] == [
            *("build", "translate", "compile", "floor", "back"),
        ]
        assert source.read_bytes() == before
    assert {path.name for path in package.iterdir()} == {"__init__.py", "answer.h", "plain.c"}


def test_the_memory_of_the_process_that_translates_is_measured(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    run("worker-memory", "--builds=2", "--only=small", "--json", file, cwd=tmp_path)
    rows = json.loads(file.read_text())["subjects"]["small"]
    assert [row["builds"] for row in rows] == [1, 2]
    for row in rows:
        assert row["processes"] == 1
        assert 0 < row["resident"] <= row["most"]


def test_how_soon_a_save_is_told_of_is_measured(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    run("events", "--saves=1", "--json", file, cwd=tmp_path)
    sources = json.loads(file.read_text())["sources"]
    assert sources["inotify"]["threads"] == 0
    assert sources["watchdog"]["threads"] > 0
    for source in sources.values():
        assert len(source["seconds"]) == 3
        assert all(len(times) == 1 and times[0] > 0 for times in source["seconds"].values())


def test_every_benchmark_has_help(tmp_path: Path) -> None:
    for name in ("", "reloads", "save-to-answer", "builds", "worker-memory", "events"):
        said = run(*filter(None, [name]), "--help", cwd=tmp_path)
        assert said.startswith(f"usage: benchmarks {name}".rstrip())
