"""Results written into claim files, below what people wrote; none is ever taken away."""

from pathlib import Path

from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.storage import publish_text
from paradise_cli.core.yaml import dump, parse
from paradise_cli.reproduction.ledger.claims import Claim, Result

KEY = "results"


def keep(path: Path, claim: Claim, result: Result) -> bool:
    """Add a result to the file of a claim, unless the newest at its scale is the same.

    Returns whether it was added. Raises ParadiseError where the results are not the last key of
    the file, below which they are written.
    """
    if claim.newest(result.scale) == result:
        return False
    # As text, so that comments and the order of keys stay as people wrote them.
    text = path.read_text(encoding="utf-8")
    written = parse(text, str(path)).data
    if KEY in written and [*written][-1] != KEY:
        raise ParadiseError(f"{path}: '{KEY}' has to be its last key: move it to the end")
    above = text.partition(f"\n{KEY}:")[0].rstrip()
    every = [each.model_dump(mode="json", exclude_defaults=True) for each in claim.results]
    new = result.model_dump(mode="json", exclude_defaults=True)
    with publish_text(path) as file:
        file.write(f"{above}\n\n{dump({KEY: [*every, new]})}")
    return True
