"""README.md and docs/*.md as tests read them: their fenced blocks, in order."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
FENCE = re.compile(
    r"(?:<!-- not run: (?P<reason>[^\n]+?) -->\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
SETTING = re.compile(r"[A-Z_]+=")
"""A variable set for one command, which stands before it."""
FILE_NAME = re.compile(r"# (\S+\.(?:py|yaml))\n")


@dataclass(frozen=True)
class Block:
    """A fenced block: where it starts, its language, and why it is not run, if it is not."""

    page: str
    line: int
    kind: str
    text: str
    reason: str | None

    @property
    def file_name(self) -> str | None:
        """The file that a block shows the text of, if its first line names one."""
        found = FILE_NAME.match(self.text)
        return found[1] if found else None

    @property
    def commands(self) -> list[list[str]]:
        """The words of each `paradise` command, without the `paradise`."""
        lines = self.text.replace("\\\n", " ").splitlines()
        parts = [part for line in lines for part in _split(line)]
        return [words[1:] for words in parts if words[:1] == ["paradise"]]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """README first, then the pages of docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path) -> Iterator[Block]:
    """Every fenced block of a page."""
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        line = text.count("\n", 0, found.start("text"))
        yield Block(page.name, line, found["kind"], found["text"], found["reason"])


def _split(line: str) -> list[list[str]]:
    """The commands of a shell line, divided at `&&`."""
    commands: list[list[str]] = [[]]
    for word in shlex.split(line, comments=True):
        if word == "&&":
            commands.append([])
        elif not commands[-1] and SETTING.match(word):
            continue
        else:
            commands[-1].append(word)
    return commands
