"""The benchmark runs; what it measures is not judged here, as timing never decides a test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "run.py"

pytestmark = pytest.mark.skipif(not BENCHMARK.exists(), reason="benchmarks are in a checkout only")


def run(*options: str) -> str:
    environ = {**os.environ, "CFLAGS": "-O0 -g0"}
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), *options],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_benchmark_writes_what_it_measured(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    output = run("--quick", "--json", str(file))
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
    run("--quick", "--only", "growth", "--json", str(file))
    assert {"growth"} == json.loads(file.read_text()).keys() - {"machine", "quick"}
