"""The documentation as its tests see it: blocks of code, and what is in them.

With UPDATE_SNAPSHOTS=1 in its environment a test run brings up to date what is made from the
program: the texts in tests/help/, and the help texts and settings tables in the documents.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from relib.config import SETTINGS

ROOT = Path(__file__).parents[1]

DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])

_SETTINGS = re.compile(r"(?<=<!-- settings -->\n).*?(?=\n<!-- /settings -->)", re.DOTALL)
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE_NAME = re.compile(r"^(?:#|//) ([\w/.]+\.\w+)$")


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    language: str
    text: str
    line: int
    """Where its text begins in the document, counted from 1."""

    @property
    def file_name(self) -> str | None:
        """The file that it shows, if its first line is a comment with a file's name."""
        found = _FILE_NAME.match(self.text.partition("\n")[0])
        return found[1] if found and self.language != "python" else None


def blocks(document: Path) -> list[Block]:
    text = document.read_text()
    return [
        Block(found[1], found[2], text[: found.start(2)].count("\n") + 1)
        for found in _FENCE.finditer(text)
    ]


def steps(document: Path) -> str:
    """What support/run_document.py is to do: write the files that are shown, run the Python."""
    return json.dumps(
        [
            {"file": block.file_name, "text": block.text, "line": block.line, "in": document.name}
            for block in blocks(document)
            if block.language == "python" or block.file_name
        ]
    )


def settings_in(document: Path) -> str | None:
    """The table of settings that a document has."""
    found = _SETTINGS.search(document.read_text())
    return found and found[0]


def update_settings(document: Path) -> None:
    text = document.read_text()
    document.write_text(_SETTINGS.sub(lambda _: settings_table(), text))


def update_help(document: Path, help_text: str) -> None:
    """Put a command's help in the place of the block that begins with the same command's usage."""
    usage = help_text.partition("[")[0]
    block = re.compile(
        rf"(?<=^```text\n){re.escape(usage)}\[.*?(?=^```$)", re.MULTILINE | re.DOTALL
    )
    document.write_text(block.sub(lambda _: help_text, document.read_text()))


def settings_table() -> str:
    """The table of all settings, as it stands in the documents."""
    rows = ["| Setting | Environment | Default | What it is |", "| --- | --- | --- | --- |"]
    rows += [
        f"| `{setting.key}` | `{setting.variable}` | {setting.default_text} "
        f"| {setting.description} |"
        for setting in SETTINGS
    ]
    return "\n".join(rows)
