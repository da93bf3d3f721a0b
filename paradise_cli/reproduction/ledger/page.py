"""The ledger as a page: which claims of the paper hold, and its tables beside ours."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from paradise_cli.core.storage import publish_text
from paradise_cli.core.units import counted, significant
from paradise_cli.reproduction.ledger.claims import Claim, Ledger, Number, Result, Scale
from paradise_cli.reproduction.ledger.plan import plan

NOT_RUN = "not run"
ORDER = ("reproduced", "differs", "refuted", "undecided", "void", NOT_RUN)
MEANING = {
    "reproduced": "the whole 95% interval lies beyond the bound that was set before",
    "differs": "it lies between what would support the claim and what would refute it",
    "refuted": "it lies beyond the bound that refutes the claim",
    "undecided": "it holds one of the two bounds, or the control may pass as well",
    "void": "the control passes the check too, or a second computation disagrees",
    NOT_RUN: "and why",
}
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:72em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse;margin:1em 0}td,th{border:1px solid #ccc;padding:.3em .6em;"
    "text-align:left;vertical-align:top}th{background:#f4f4f4}"
)


@dataclass(frozen=True)
class Table:
    """A heading, what stands below it, and rows of text."""

    title: str
    text: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def write_pages(ledger: Ledger, scale: Scale) -> list[Path]:
    """Publish `smoke.md` and `smoke.html`, or those of another scale, beside the claims; returns
    their paths.
    """
    written = []
    for name, text in pages(ledger, scale).items():
        with publish_text(ledger.folder / name) as file:
            file.write(text)
        written.append(ledger.folder / name)
    return written


def pages(ledger: Ledger, scale: Scale) -> dict[str, str]:
    """The text of each page of a ledger at a scale, by its name."""
    tables = [summary(ledger, scale), *_kinds(ledger, scale), *_cells(ledger, scale)]
    title = f"Which claims of the paper hold, at scale {scale}"
    return {f"{scale}.md": _markdown(title, tables), f"{scale}.html": _html(title, tables)}


def summary(ledger: Ledger, scale: Scale) -> Table:
    """How many claims there are of each verdict, and which."""
    found: dict[str, list[str]] = {name: [] for name in ORDER}
    for claim in ledger.claims.values():
        result = claim.newest(scale)
        found[NOT_RUN if result is None else result.verdict].append(claim.claim)
    rows = [
        [name, str(len(names)), ", ".join(names), MEANING[name]] for name, names in found.items()
    ]
    return Table("Summary", "", ["verdict", "claims", "which", "it means"], rows)


def status(claim: Claim, scale: Scale) -> str:
    """The newest verdict of a claim at a scale."""
    result = claim.newest(scale)
    return NOT_RUN if result is None else result.verdict


def shown(number: Number, write: Callable[[float], str] = significant) -> str:
    """A number with its interval."""
    low, high = number.interval
    if low == high:
        return write(number.value)
    return f"{write(number.value)} ({write(low)} to {write(high)})"


def _kinds(ledger: Ledger, scale: Scale) -> list[Table]:
    """A table for each kind of claim, and one of those that were not run."""
    missing = plan(ledger, [*ledger.claims.values()], scale).missing
    tables, waiting = [], []
    for kind in ("claim", "experiment", "baseline", "extension"):
        rows = []
        for claim in ledger.claims.values():
            result = claim.newest(scale)
            if claim.kind == kind and result is not None:
                rows.append(_row(claim, result))
        if rows:
            columns = ["", "the paper says", "ours", "must be", "refuted if", "control",
                       "second way", "verdict", "measured on"]  # fmt: skip
            tables.append(Table(f"{kind.capitalize()}s", "", columns, rows))
    # Named with the reason, so that nobody takes silence for support.
    for claim in ledger.claims.values():
        if claim.newest(scale) is None:
            command = f"`paradise reproduce {claim.claim} --scale {scale}` runs it or says why not"
            waiting.append([claim.claim, claim.says, missing.get(claim.claim, command)])
    if waiting:
        tables.append(Table("Not run", "", ["", "the paper says", "why"], waiting))
    return tables


def _row(claim: Claim, result: Result) -> list[str]:
    check = claim.check
    assert check is not None  # of every claim with a result
    says = f"{claim.says} ({claim.place})"
    what = f"{_named(check.quantity.name)} {_of(check.of, check.minus)}".strip()
    control = "" if result.control is None else shown(result.control)
    if claim.no_control:
        control = f"none: {claim.no_control}"
    second = "" if result.second is None else shown(result.second)
    verdict = result.verdict + (f": {result.note}" if result.note else "")
    return [
        claim.claim, says, f"{what}: {shown(result.found)}", check.supported, check.refuted,
        control, second, verdict, _origin(result),
    ]  # fmt: skip


def _origin(result: Result) -> str:
    """On what a number rests."""
    seeds = f"{counted(len(result.seeds), 'seed')}, " if result.seeds else ""
    commit, plus, changes = result.commit.partition("+")
    return f"{seeds}n = {result.found.n:,}, {commit[:7]}{plus}{changes}"


def _named(quantity: str) -> str:
    return quantity.replace("_", " ")


def _of(of: Sequence[str], minus: Sequence[str]) -> str:
    text = f"of {', '.join(of)}" if of else ""
    return f"{text} less that of {', '.join(minus)}" if minus else text


def _cells(ledger: Ledger, scale: Scale) -> list[Table]:
    """The tables of the paper, each number beside ours at this scale."""
    tables = []
    for claim in ledger.claims.values():
        if not claim.cells:
            continue
        result = claim.newest(scale)
        # A table that was given more cells since then is empty until it is measured again.
        fits = result is not None and len(result.cells) == len(claim.cells)
        ours = result.cells if result is not None and fits else [None] * len(claim.cells)
        # What the paper's tables hold are shares.
        shares = any(cell.paper is not None for cell in claim.cells)
        write = "{:.1%}".format if shares else significant
        rows = [
            [
                cell.row,
                cell.column,
                "" if cell.paper is None else f"{cell.paper:g}%",
                cell.why_not or "not run at this scale" if number is None else shown(number, write),
            ]
            for cell, number in zip(claim.cells, ours, strict=True)
        ]
        text = f"{claim.says} Other data and networks than the paper's: {_networks(claim)}."
        columns = ["row", "column", "paper", "ours"]
        tables.append(Table(f"{claim.place} ({claim.claim})", text, columns, rows))
    return tables


def _networks(claim: Claim) -> str:
    names = Counter(name for cell in claim.cells for name in cell.of)
    return ", ".join(names) or "none"


def _markdown(title: str, tables: Sequence[Table]) -> str:
    lines = [f"# {title}", ""]
    for table in tables:
        lines += [f"## {table.title}", "", *([table.text, ""] if table.text else [])]
        lines += [_line(table.columns), _line(["---"] * len(table.columns))]
        lines += [*map(_line, table.rows), ""]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    # A bar within a cell would end it.
    return "| " + " | ".join(each.replace("|", r"\|") for each in cells) + " |"


def _html(title: str, tables: Sequence[Table]) -> str:
    parts = [f"<!doctype html><meta charset=utf-8><title>{escape(title)}</title>"]
    parts.append(f"<style>{_STYLE}</style><h1>{escape(title)}</h1>")
    for table in tables:
        parts.append(f"<h2>{escape(table.title)}</h2><p>{escape(table.text)}</p><table>")
        for tag, row in [("th", table.columns), *(("td", row) for row in table.rows)]:
            cells = "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row)
            parts.append(f"<tr>{cells}</tr>")
        parts.append("</table>")
    return "\n".join(parts) + "\n"
