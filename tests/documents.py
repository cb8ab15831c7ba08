"""The documentation as its tests see it: blocks of code, and what is in them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from relib.config import SETTINGS

ROOT = Path(__file__).parents[1]

DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])

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


def settings_table() -> str:
    """The table of all settings, as it stands in the documents."""
    rows = ["| Setting | Environment | Default | What it is |", "| --- | --- | --- | --- |"]
    rows += [
        f"| `{setting.key}` | `{setting.variable}` | {setting.default_text} "
        f"| {setting.description} |"
        for setting in SETTINGS
    ]
    return "\n".join(rows)
