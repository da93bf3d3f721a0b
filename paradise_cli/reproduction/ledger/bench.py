"""Where quantities of networks are measured: each once, and kept on disk."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import torch

import paradise_cli
from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.storage import file_digest, read_object, write_json
from paradise_cli.reproduction.ledger.claims import Number, Quantity
from paradise_cli.reproduction.ledger.plan import run_name
from paradise_cli.reproduction.ledger.verdicts import difference, over_seeds
from paradise_cli.reproduction.quantities import QUANTITIES, Measured, Network


@cache
def _code() -> str:
    """The sha256 of this package's code: a commit does not tell installed or changed ones apart."""
    folder = Path(paradise_cli.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        digest.update(f"{file.relative_to(folder)} {file_digest(file)}\n".encode())
    return digest.hexdigest()


class Bench:
    """The trained networks of one scale in `runs`, and the folder `kept` of what was measured.

    `absent` says why trainings, by network and seed, are not there; `settings` are those of attacks
    on a `Network`.
    """

    def __init__(
        self,
        runs: Path,
        kept: Path,
        absent: Mapping[tuple[str, int], str],
        settings: dict[str, Any],
    ) -> None:
        self._runs, self._kept, self._absent, self._settings = runs, kept, absent, settings
        self._network = cache(self._opened)

    def number(
        self, quantity: Quantity, of: Sequence[str], minus: Sequence[str], seeds: int
    ) -> Number:
        """The quantity of some networks less that of others, over seeds.

        Raises ParadiseError for a network that is not there, for no finite number, and as the
        quantity does.
        """
        # Of known sources there is nothing to train, and no seed.
        if not of:
            return over_seeds([self._measured(quantity, (), 0)])
        return over_seeds(
            [
                difference(
                    self._measured(quantity, of, seed),
                    self._measured(quantity, minus, seed) if minus else None,
                )
                for seed in range(seeds)
            ]
        )

    def _measured(self, quantity: Quantity, names: Sequence[str], seed: int) -> Measured:
        networks = [self._network(name, seed) for name in names]
        asked = {
            "quantity": quantity.model_dump(mode="json"),
            "weights": [each.loaded.digest for each in networks],
            "settings": self._settings,
            # Another version may measure it in another way.
            "code": _code(),
            "torch": torch.__version__,
        }
        text = json.dumps(asked, sort_keys=True)
        file = self._kept / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
        found = read_object(file) or {}
        if found.get("asked") != asked:
            measured = _finite(quantity, networks)
            write_json(file, {"asked": asked, "found": asdict(measured)})
            return measured
        return Measured(**found["found"])

    def _opened(self, name: str, seed: int) -> Network:
        if why := self._absent.get((name, seed)):
            raise ParadiseError(f"{name} (seed {seed}) was not trained: {why}")
        path = self._runs / "points" / run_name(name, seed)
        return Network(f"{name} (seed {seed})", path, **self._settings)


def _finite(quantity: Quantity, networks: Sequence[Network]) -> Measured:
    """The quantity of the networks; raises ParadiseError where that is no number."""
    of = " of " + ", ".join(each.name for each in networks) if networks else ""
    try:
        found = QUANTITIES[quantity.name](**quantity.hyper)(networks)
    # Of what a quantity divides by nothing, it may not say so itself.
    except ArithmeticError as error:
        raise ParadiseError(f"{quantity.name}{of} is no number: {error}") from error
    if not all(map(math.isfinite, (found.value, found.low, found.high))):
        numbers = f"{found.value} ({found.low} to {found.high})"
        raise ParadiseError(f"{quantity.name}{of} is no finite number: {numbers}")
    return found
