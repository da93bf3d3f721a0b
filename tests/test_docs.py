"""What the pages of docs/ lean on is there: cited sections, links, and the files of numbers."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import ROOT, pages

RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
METHOD = ROOT / "docs" / "method.md"
ONE = r"\d(?:\.\d)?\b"
CITATION = re.compile(rf"method\.md\)? ({ONE}(?:(?:,| and| to|-) ?{ONE})*)")
"""The page and one section or several, once line ends and comment signs are blanks."""


def texts() -> list[Path]:
    """Every file that may cite a section."""
    folders = [ROOT / name for name in ("paradise_cli", "tests", "benchmarks", "recipes", "zoo")]
    found = [path for folder in folders for path in sorted(folder.rglob("*"))]
    kinds = (".py", ".md", ".yaml", ".json")
    return [path for path in found + pages() if path.suffix in kinds]


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


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 900


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """To a file of the checkout and, after a #, to one of its headings."""
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        there = page.parent / name if name else page
        assert there.is_file(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(there), f"{page.name}: {link}"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_each_test_of_the_audit_has_its_reason() -> None:
    from paradise_cli.attacks.audit.rows import ALL_ROWS

    section = METHOD.read_text(encoding="utf-8").split("### 5.5")[1].split("\n## ")[0]
    explained = re.findall(r"^\| (\d+) \|", section, re.MULTILINE)
    assert {str(row.number) for row in ALL_ROWS} <= {*explained}


def test_tables_are_those_of_the_measured_files() -> None:
    """`python benchmarks/tables.py` makes them so."""
    command = [sys.executable, str(ROOT / "benchmarks" / "tables.py"), "--check"]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_each_result_says_how_it_was_measured_and_is_shown(path: Path) -> None:
    found = json.loads(path.read_text(encoding="utf-8"))
    for key in ("what", "data", "command", "commit", "machine"):
        assert found[key], f"{path.name}: {key}"
    assert {"n", "interval", "seed"} <= found.keys()
    shown = [page.read_text(encoding="utf-8") for page in pages()]
    assert any(f"<!-- table: {path.stem} -->" in text for text in shown)
