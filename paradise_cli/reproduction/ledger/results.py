"""Results written into claim files, below what people wrote; none is ever taken away."""

from pathlib import Path

from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.storage import publish_text
from paradise_cli.core.yaml import dump, parse
from paradise_cli.reproduction.ledger.claims import (
    RESULTS,
    RESULTS_LAST,
    Claim,
    Result,
    ends_in_results,
)


def keep(path: Path, claim: Claim, result: Result) -> bool:
    """Add a result to the file of a claim, unless the newest at its scale is the same.

    Returns whether it was added. Raises ParadiseError where by now other keys stand below them.
    """
    if claim.newest(result.scale) == result:
        return False
    # As text, so that comments and the order of keys stay as people wrote them.
    text = path.read_text(encoding="utf-8")
    if not ends_in_results(parse(text, str(path)).data):
        raise ParadiseError(RESULTS_LAST.format(path))
    above = text.partition(f"\n{RESULTS}:")[0].rstrip()
    every = [each.model_dump(mode="json", exclude_defaults=True) for each in claim.results]
    new = result.model_dump(mode="json", exclude_defaults=True)
    with publish_text(path) as file:
        file.write(f"{above}\n\n{dump({RESULTS: [*every, new]})}")
    return True
