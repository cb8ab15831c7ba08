"""Does what a document shows: writes its files and runs its Python, in the current directory."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, "")
namespace: dict[str, object] = {"__name__": "__main__"}
for step in json.load(sys.stdin):
    if step["file"]:
        path = Path(step["file"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(step["text"])
    else:
        # Empty lines before it, so that a traceback shows the document's own line.
        text = "\n" * (step["line"] - 1) + step["text"]
        exec(compile(text, step["in"], "exec"), namespace)
