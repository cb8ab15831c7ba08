"""The documentation is true: examples run, tables are complete, links lead somewhere."""

from __future__ import annotations

import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import click
import pytest
from conftest import HERE, Project
from documents import (
    DOCUMENTS,
    ROOT,
    blocks,
    settings_in,
    settings_table,
    steps,
    update_help,
    update_settings,
)

import relib
from relib import errors
from relib.cli.program import COMMANDS, program

NAMES = [str(document.relative_to(ROOT)) for document in DOCUMENTS]

DOCTESTS = """
    import doctest, importlib, pkgutil
    import relib
    failed = 0
    for found in pkgutil.walk_packages(relib.__path__, "relib."):
        name = found.name
        # The first are native; the second talk to the process that started them.
        if name.startswith("relib._") or name.endswith(("worker", "setup_runner", "trial")):
            continue
        if name == "relib.__main__":
            continue
        result = doctest.testmod(importlib.import_module(name))
        failed += result.failed
    say(failed)
"""


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_run(name: str, project: Project) -> None:
    ran = subprocess.run(
        [sys.executable, str(HERE / "support" / "run_document.py")],
        input=steps(ROOT / name),
        cwd=project.root,
        env=project.environ,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr


def test_the_examples_in_docstrings_run(project: Project) -> None:
    outcome = project.run(DOCTESTS)
    assert outcome.value == 0, outcome.output


@pytest.mark.parametrize("name", ["README.md", "docs/configuration.md"])
def test_the_table_of_settings_is_complete(name: str) -> None:
    if os.environ.get("UPDATE_SNAPSHOTS"):
        update_settings(ROOT / name)
    assert settings_in(ROOT / name) == settings_table()


def test_every_field_of_an_extension_is_documented() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    names = [field.name.replace("_", "-") for field in fields(relib.Extension)[1:]]
    assert [name for name in names if f"`{name}`" not in text] == []


def test_every_public_name_is_documented() -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    assert [name for name in relib.__all__ if not re.search(rf"\b{name}\b", text)] == []


# What parts of relib use of one another.
INTERNAL = {
    relib.Build: {"hold"},
    relib.Module: {"forget", "is_news", "load_next", "next_build", "seen", "show"},
    relib.Version: {
        *("alive", "forget_path", "held", "hold", "library", "outside", "revived"),
        "shared_types",
    },
}


@pytest.mark.parametrize(
    "kind", [relib.Module, relib.Report, relib.Pin, relib.Version, relib.Build, relib.Diagnostic]
)
def test_every_public_attribute_is_documented(kind: type) -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    names = {name for name in dir(kind) if not name.startswith("_")} - INTERNAL.get(kind, set())
    assert [name for name in sorted(names) if not re.search(rf"`\.{name}\b", text)] == []


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_is_documented_with_its_attributes(name: str) -> None:
    text = (ROOT / "docs" / "errors.md").read_text()
    section = re.search(rf"^## `{name}`\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    assert section is not None
    own = vars(getattr(errors, name)).get("__init__")
    attributes = [] if own is None else list(inspect.signature(own).parameters)[2:]
    assert [each for each in attributes if f"- `{each}`" not in section[1]] == []


def test_no_other_error_is_documented() -> None:
    documented = re.findall(
        r"^## `(\w+)`$", (ROOT / "docs" / "errors.md").read_text(), re.MULTILINE
    )
    assert sorted(documented) == sorted(errors.__all__)


@pytest.mark.parametrize("name", NAMES)
def test_commands_in_the_documents_are_right(name: str) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for block in blocks(ROOT / name):
        if block.language != "console":
            continue
        for line in block.text.splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True) if line[:2] == "$ " else []
            if words[:1] == ["relib"]:
                _parse(words[1:])
            elif words[:1] == ["make"]:
                assert words[1] in targets


def _parse(words: list[str]) -> None:
    with click.Context(program, info_name="relib") as context:
        name, command, rest = program.resolve_command(context, words)
        assert command is not None
        command.make_context(name, rest, parent=context, resilient_parsing="--help" in rest)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_the_help_of_each_command_is_in_the_documents(command: str) -> None:
    text = (HERE / "help" / f"{command or 'relib'}.txt").read_text()
    document = ROOT / "docs" / "cli.md"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        update_help(document, text)
    assert f"```text\n{text}```" in document.read_text()


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    document = ROOT / name
    prose = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", prose)
    assert [link for link in links if not Path(document.parent / link).exists()] == []


EXAMPLES = [("life/main.py", ["3", "0"], "generation 3"), ("clock/main.py", ["0.2"], "unloaded")]


@pytest.mark.parametrize(("script", "arguments", "said"), EXAMPLES)
def test_the_example_programs_run(
    script: str, arguments: list[str], said: str, project: Project
) -> None:
    shutil.copytree(
        ROOT / "examples", project.root / "examples", ignore=shutil.ignore_patterns(".relib")
    )
    ran = subprocess.run(
        [sys.executable, str(project.root / "examples" / script), *arguments],
        cwd=project.root,
        env=project.environ,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert said in ran.stdout
