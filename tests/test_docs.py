"""What the pages of docs/ say of the code: the sections that are cited are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
METHOD = ROOT / "docs" / "method.md"
ONE = r"\d(?:\.\d)?\b"
CITATION = re.compile(rf"method\.md\)? ({ONE}(?:(?:,| and| to|-) ?{ONE})*)")
"""The page and one section or several, once line ends and comment signs are blanks."""


def texts() -> list[Path]:
    """Every file that may cite a section."""
    folders = [ROOT / name for name in ("paradise_cli", "tests", "benchmarks", "recipes", "zoo")]
    found = [path for folder in folders for path in sorted(folder.rglob("*"))]
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [path for path in found + pages if path.suffix in (".py", ".md", ".yaml", ".json")]


def cited(text: str) -> set[str]:
    """The sections of method.md that a text cites, ends of ranges included."""
    joined = re.sub(r"\s+(?:#\s+)?", " ", text)
    return {section for found in CITATION.findall(joined) for section in re.findall(ONE, found)}


def headings(page: Path) -> set[str]:
    """The numbers of a page's sections."""
    return set(re.findall(rf"^#{{2,3}} ({ONE})", page.read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        ("(method.md 2.4).", {"2.4"}),
        ("(method.md 1.1, 1.2).", {"1.1", "1.2"}),
        ("method.md 4.1 and\n    4.2).", {"4.1", "4.2"}),
        ("(method.md 2.2-2.7)", {"2.2", "2.7"}),
        ("x = 1  # inside (method.md\n    # 6)", {"6"}),
        ("method.md 5.5, row\n12)", {"5.5"}),
        ("method.md asks for 10,000", set()),
    ],
)
def test_citations_are_found_however_they_are_wrapped(text: str, sections: set[str]) -> None:
    assert cited(text) == sections


def test_each_cited_section_of_the_method_exists() -> None:
    there = headings(METHOD)
    missing = {
        str(path.relative_to(ROOT)): sorted(cited(path.read_text(encoding="utf-8")) - there)
        for path in texts()
        if path != Path(__file__)
    }
    assert {path: sections for path, sections in missing.items() if sections} == {}


def test_citations_are_not_overlooked() -> None:
    """Each mention of the page in the package names a section, or the test above is blind."""
    named = [cited(path.read_text(encoding="utf-8")) for path in texts() if path.suffix == ".py"]
    assert sum(map(len, named)) >= 40
