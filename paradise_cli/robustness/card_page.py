"""A card as one HTML page that needs nothing else, and as Markdown beside its pictures."""

import base64
import re
from collections.abc import Iterator
from html import escape

from paradise_cli.robustness.card_contents import Card, Items, Part, Picture, Table

WORD = 24
"""Letters of the longest thing that is taken for a word."""

# The policy makes a browser refuse whatever is not in the page.
_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" 
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
"""
_STYLE = """<style>
:root { color-scheme: light dark; --ink: #202124; --soft: #5f6368; --line: #dadce0; --page: #fff;
  --good: #2f5f9e; --doubt: #9a6700; --bad: #b3261e; --mark: #fdf1e0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --soft: #a9adb3; --line: #43464a;
  --page: #17181a; --good: #8fb4dc; --doubt: #e8b45a; --bad: #f2867e; --mark: #3a2f1c; } }
body { margin: 0 auto; padding: 1rem; max-width: 58rem; font: 1rem/1.5 system-ui, sans-serif;
  color: var(--ink); background: var(--page); overflow-wrap: break-word; hyphens: none; }
h1 { font-size: 1.5rem; line-height: 1.25; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
p, ul, figcaption { max-width: 42rem; }
.verdict { padding: .6rem 1rem; border-left: .4rem solid var(--doubt); background: var(--mark);
  font-size: 1.1rem; }
.verdict.not-detected { border-color: var(--good); }
.verdict.obfuscated { border-color: var(--bad); }
.verdict strong, .verdict span { display: block; }
.headline { font-size: 1.4rem; }
figure { margin: 1.5rem 0; break-inside: avoid; }
img { display: block; width: 100%; max-width: 34rem; height: auto; background: #fff;
  border-radius: .3rem; }
figcaption { color: var(--soft); font-size: .9rem; margin-top: .4rem; }
/* Words stay whole; a table that is too wide for its words is scrolled. */
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem;
  font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .35rem .8rem .35rem 0;
  border-bottom: 1px solid var(--line); overflow-wrap: normal; word-break: normal; }
td.long { overflow-wrap: anywhere; }
th { color: var(--soft); } tr { break-inside: avoid; } tr.marked { background: var(--mark); }
tr.marked td { font-weight: 600; } td:first-child, th:first-child { padding-left: .4rem; }
@media screen and (max-width: 40rem) {
  thead { position: absolute; left: -200vw; }
  tr, td { display: block; } tr { padding: .5rem 0; border-bottom: 1px solid var(--line); }
  td { border: 0; padding: .1rem .4rem; overflow-wrap: break-word; }
  td::before { content: attr(data-label) ": "; color: var(--soft); font-weight: 400; }
}
@media print { :root { --ink: #000; --soft: #444; --line: #bbb; --page: #fff; --mark: #f4f0e8; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  h2 { break-after: avoid; } img { max-width: 13cm; } }
</style>
"""


def html(card: Card) -> str:
    """The page; its pictures are read and put into it."""
    # The colour at the side tells verdicts apart at a glance, and the words do without it.
    kind = escape(card.kind.replace(" ", "-"))
    # The robust accuracy first, and never without the verdict beside it.
    verdict = "".join(f"<span>{escape(line)}</span>" for line in _verdict(card)[1:])
    lines = [
        f"{_HEAD}<title>{escape(card.title)}</title>\n{_STYLE}</head>\n<body>\n<main>",
        f"<h1>{escape(card.title)}</h1>",
        f'<p class="verdict {kind}"><strong class="headline">{escape(card.headline)}</strong>',
        f"<strong>{escape(_verdict(card)[0])}</strong>{verdict}</p>",
        *map(_html, card.first),
    ]
    for title, parts in card.sections:
        lines += [f"<h2>{escape(title)}</h2>", *map(_html, parts)]
    return "\n".join([*lines, "</main>", "</body>", "</html>", ""])


def _html(part: Part) -> str:
    match part:
        case str():
            return f"<p>{escape(part)}</p>"
        case Items():
            return "\n".join(
                ["<ul>", *(f"<li>{escape(point)}</li>" for point in part.points), "</ul>"]
            )
        case Picture():
            # Within the page, so that it can be sent as one file.
            data = base64.b64encode(part.path.read_bytes()).decode()
            return (
                f'<figure><img alt="{escape(part.name)}" src="data:image/png;base64,{data}">'
                f"<figcaption>{escape(part.caption)}</figcaption></figure>"
            )
        case Table():
            return "\n".join(_html_table(part))


def _html_table(table: Table) -> Iterator[str]:
    # On a phone each row becomes a block, and each cell names its column by itself.
    head = [escape(cell) for cell in table.head]
    yield '<div class="wide"><table>'
    names = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    yield f"<thead><tr>{names}</tr></thead>"
    yield "<tbody>"
    for number, row in enumerate(table.rows):
        # Cells beyond the marks are unmarked: most tables mark nothing.
        marked = ' class="marked"' if number < len(table.marked) and table.marked[number] else ""
        cells = (
            f'<td{_broken_up(cell)} data-label="{name}">{escape(cell)}</td>'
            for name, cell in zip(head, row, strict=True)
        )
        yield f"<tr{marked}>{''.join(cells)}</tr>"
    yield "</tbody>"
    yield "</table></div>"


def _broken_up(cell: str) -> str:
    """Words stay whole but for what is no word, such as a digest or a path."""
    # Broken anywhere, they cannot push a table out of the page.
    return ' class="long"' if max(map(len, cell.split()), default=0) > WORD else ""


def _verdict(card: Card) -> tuple[str, str]:
    """The verdict with what it says of gradient masking, and what it means."""
    found = f"Verdict: {card.kind}" + (f"; {card.masking}" if card.masking else "")
    return found, card.meaning


def markdown(card: Card) -> str:
    """The same for whoever reads Markdown; pictures are named as files beside it."""
    found, meaning = _verdict(card)
    parts = [
        f"# {_plain(card.title)}",
        f"> **{_plain(card.headline)}**",
        f"> **{_plain(found)}.** {_plain(meaning)}",
    ]
    parts += map(_markdown, card.first)
    for title, inside in card.sections:
        parts += [f"## {_plain(title)}", *map(_markdown, inside)]
    return "\n\n".join(parts) + "\n"


def _markdown(part: Part) -> str:
    match part:
        case str():
            return _plain(part)
        case Items():
            return "\n".join(f"- {_plain(point)}" for point in part.points)
        case Picture():
            return f"![{_plain(part.name)}]({part.path.name})\n\n{_plain(part.caption)}"
        case Table():
            # Cells were joined into one line by `_plain`, as Markdown tables need it.
            rows = [
                part.head,
                ("---",) * len(part.head),
                *(tuple(map(_plain, row)) for row in part.rows),
            ]
            return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _plain(text: str) -> str:
    """Text as itself: whatever Markdown would read otherwise has a backslash, and lines are
    joined.
    """
    # Names of models and classes are the user's: none of their signs may become markup.
    return re.sub(r"([\\`*_{}\[\]<>#|~$&])", r"\\\1", " ".join(text.split()))
