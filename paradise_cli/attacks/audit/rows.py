"""All rows of the audit (method.md 5.5): each is declared where it is written, by kind."""

from paradise_cli.attacks.audit import (  # noqa: F401  (importing these declares the rows)
    rows_gradients,
    rows_model,
    rows_strength,
)
from paradise_cli.attacks.audit.declare import Row, declared_rows

ALL_ROWS: tuple[Row, ...] = declared_rows()
"""In the order of their numbers, which is the order in which they are made."""
