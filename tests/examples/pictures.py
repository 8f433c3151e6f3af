"""The pictures of the examples' READMEs, which their tests make: HOLDALL_PICTURES=1 make slow."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

from rich.console import Console, RenderableType
from rich.text import Text

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FONT = re.compile(r"@font-face \{.*?\}", re.DOTALL)


def wanted() -> bool:
    """Whether pictures are to be made anew."""
    return bool(os.environ.get("HOLDALL_PICTURES"))


def terminal(path: str, command: str, *shown: RenderableType, width: int = 100) -> None:
    """Draw a terminal in which a command has shown this, without fonts from elsewhere."""
    if wanted():
        console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
        console.print(Text(f"$ {command}", style="bold"))
        for each in shown:
            console.print(each)
        drawing = console.export_svg(title="", unique_id=path.replace("/", "-").replace(".", "-"))
        (EXAMPLES / path).write_text(FONT.sub("", drawing), encoding="utf-8")
