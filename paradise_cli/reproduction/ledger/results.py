"""Results written into claim files, below what people wrote; none is ever taken away."""

from pathlib import Path
from typing import Any

from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.locks import waited_for
from paradise_cli.core.storage import publish_text
from paradise_cli.core.yaml import dump
from paradise_cli.reproduction.ledger.claims import NETWORKS, RESULTS, Claim, Result, read_claim


def keep(path: Path, claim: Claim, result: Result) -> bool:
    """Add a result to the file of a claim, unless the newest at its scale is the same.

    `claim` is what was judged, as it was read. Returns whether the result was added. Raises
    ParadiseError where by now the file asks something else, or other keys stand below its results.
    """
    # Others may add to the same ledger, from an --out of their own: what they found stays.
    with waited_for(path.with_name(NETWORKS)):
        now = read_claim(path)
        if _asked(now) != _asked(claim):
            raise ParadiseError(
                f"{path} was changed while it was measured, so that the result is of another"
                " question: reproduce it again"
            )
        if now.newest(result.scale) == result:
            return False
        # As text, so that comments and the order of keys stay as people wrote them.
        above = path.read_text(encoding="utf-8").partition(f"\n{RESULTS}:")[0].rstrip()
        every = [
            each.model_dump(mode="json", exclude_defaults=True) for each in [*now.results, result]
        ]
        with publish_text(path) as file:
            file.write(f"{above}\n\n{dump({RESULTS: every})}")
    return True


def _asked(claim: Claim) -> dict[str, Any]:
    """What a verdict and the numbers of a result are of."""
    return claim.model_dump(include={"claim", "check", "control", "second", "cells", "seeds"})
