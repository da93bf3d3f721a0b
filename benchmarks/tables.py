"""Put the measured numbers of `benchmarks/results/*.json` into README.md and the pages of docs/.

A page marks where a table stands, and the lines between the marks are replaced:

    <!-- table: name -->
    <!-- end -->

`python benchmarks/tables.py` writes, `--check` only says which pages differ (exit code 1).
"""

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from results import FOLDER, read
from robust_tables import PREFIX, robust_table

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
CLAIMS = "claims_"  # and a scale: a table of the ledger
BLOCK = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(name: str) -> str:
    """The table of one result file and how it was measured, or one that the code itself holds."""
    if name == "audit_rows":
        return audit_rows()
    if name.startswith(PREFIX):
        return robust_table(name)
    if name == "claims":
        return claims_short()
    if name.startswith(CLAIMS):
        return claims_table(name.removeprefix(CLAIMS))
    if not (FOLDER / f"{name}.json").exists():
        return "\nNothing was measured yet.\n"
    found = read(name)
    columns: dict[str, str] = found["columns"]
    lines = [_line(columns), "|" + "---|" * len(columns)]
    lines += [_line(_cell(form, row) for form in columns.values()) for row in found["rows"]]
    return "\n".join(["", *lines, "", _how(name, found), ""])


def audit_rows() -> str:
    """The tests of the audit with their limits."""
    from paradise_cli.attacks.audit.rows import ALL_ROWS

    kinds = {True: "decides", False: ""}
    lines = ["| test | passes where | a failure means | |", "|---|---|---|---|"]
    lines += [
        _line((f"{row.number}. {row.name}", row.threshold, row.means, kinds[row.decisive]))
        for row in ALL_ROWS
    ]
    return "\n".join(["", *lines, ""])


def claims_short() -> str:
    """How many of the paper's claims there are of each verdict, at each scale that was run."""
    from paradise_cli.reproduction.ledger.claims import SCALES, open_ledger
    from paradise_cli.reproduction.ledger.page import ORDER, summary

    ledger = open_ledger(ROOT / "claims")
    lines = [_line(["scale", *ORDER]), "|" + "---|" * (1 + len(ORDER))]
    for scale in SCALES:
        counts = {verdict: count for verdict, count, *_ in summary(ledger, scale).rows}
        if counts["not run"] != str(len(ledger.claims)):
            lines.append(_line([scale, *(counts[verdict] for verdict in ORDER)]))
    return "\n".join(["", *lines, ""])


def claims_table(scale: Any) -> str:
    """How many of the paper's claims there are of each verdict at a scale, and which."""
    from paradise_cli.reproduction.ledger.claims import open_ledger
    from paradise_cli.reproduction.ledger.page import summary

    found = summary(open_ledger(ROOT / "claims"), scale)
    lines = [_line(found.columns), "|" + "---|" * len(found.columns), *map(_line, found.rows)]
    command = f"`paradise reproduce all --scale {scale} --claims claims`"
    how = f"<sub>Command: {command}. Numbers, seeds and commits: `claims/{scale}.md`.</sub>"
    return "\n".join(["", *lines, "", how, ""])


def _line(cells: Any) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(form: str, row: Mapping[str, Any]) -> str:
    """Empty where the row lacks a field of it: not everything was measured."""
    try:
        return form.format(**row)
    except KeyError:
        return ""


def _how(name: str, found: Mapping[str, Any]) -> str:
    parts = [f"{found['what']}. Data: {found['data']}"]
    if found["n"] is not None:
        n = found["n"]
        parts.append(f"n = {n:,}" if isinstance(n, int) else f"n: {n}")
    if found["seed"] is not None:
        parts.append(f"seed {found['seed']}")
    if found["interval"]:
        parts.append(f"intervals: {found['interval']}")
    text = (
        f"{', '.join(parts)}. Command: `{found['command']}`."
        f" Commit {found['commit']}; {found['machine']}."
    )
    note = f" {found['note']}" if found.get("note") else ""
    return f"<sub>{text}{note} [Numbers](../benchmarks/results/{name}.json).</sub>"


def filled(page: str) -> str:
    """A page's text with every marked table as its file gives it."""
    return BLOCK.sub(lambda found: f"{found[1]}{table(found[2])}\n{found[3]}", page)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    stale = []
    for path in PAGES:
        before = path.read_text(encoding="utf-8")
        after = filled(before)
        if after == before:
            continue
        stale.append(path.name)
        if not check:
            path.write_text(after, encoding="utf-8")
    if stale:
        verb = "differ from benchmarks/results" if check else "written"
        print(f"{verb}: {', '.join(stale)}")
    return 1 if stale and check else 0


if __name__ == "__main__":
    sys.exit(main())
