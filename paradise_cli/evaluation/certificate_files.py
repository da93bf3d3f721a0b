"""What `paradise certify` leaves: a document, a table with a row for each image, and a picture."""

from pathlib import Path
from typing import Any

from paradise_cli.core.storage import write_json
from paradise_cli.evaluation.certificates import Certification
from paradise_cli.evaluation.cost_table import Column, Table, write_table
from paradise_cli.figures.beside import Say, drawing

NAME = "certificate"
"""Of the three files, whose endings differ."""


def save_certification(
    found: Certification, folder: Path, document: dict[str, Any], say: Say | None = None
) -> None:
    """Write certificate.json, which is the document, certificate.csv and certificate.png.

    `say` is told of a picture that cannot be drawn; without it that is an error.
    """
    write_table(_table(found), folder / f"{NAME}.csv")
    write_json(folder / f"{NAME}.json", document)
    picture = folder / f"{NAME}.png"
    with drawing(picture, say):
        from paradise_cli.evaluation.certificate_picture import draw_curve

        draw_curve(found, picture)


def _table(found: Certification) -> Table:
    """A row for each image; an abstention has no prediction, and is no class of its own."""
    rows = found.images
    return {
        "id": Column("string", [row.id for row in rows]),
        "label": Column("double", [row.label for row in rows]),
        "predicted": Column("double", [None if row.abstains else row.guess for row in rows]),
        "guess": Column("double", [row.guess for row in rows]),
        "votes": Column("double", [row.votes for row in rows]),
        "samples": Column("double", [found.settings.samples] * len(rows)),
        "p_lower": Column("double", [row.p_lower for row in rows]),
        "radius": Column("double", [row.radius for row in rows]),
        "correct": Column("bool", [row.correct for row in rows]),
    }
