"""That the points of a sweep stand on the same data, whenever each of them was trained."""

import json
from collections.abc import Sequence
from typing import Any

from paradise_cli.build import build_data
from paradise_cli.core.errors import UsageError
from paradise_cli.sweep.plan import SweepPoint
from paradise_cli.training.checkpoint import Checkpoints
from paradise_cli.training.data_identity import differences, identity
from paradise_cli.training.run_folder import RunFolder


def refuse_other_data(points: Sequence[tuple[SweepPoint, RunFolder]]) -> None:
    """Raise UsageError where a point was trained on other data than are there now.

    A training that goes on says so itself; of one that is done nobody would ask again.
    """
    there: dict[str, dict[str, Any]] = {}
    for point, run in points:
        before = Checkpoints(run.checkpoints, {}).data()
        if before is None:
            continue
        # Points differ in their data only where a field of those is swept.
        section = json.dumps(point.recipe.resolved()["data"], sort_keys=True)
        if section not in there:
            there[section] = identity(build_data(point.recipe))
        if changes := differences(before, there[section]):
            raise UsageError(
                f"{run.path} was trained on other data:\n" + "\n".join(changes) + "\n"
                "bring the data back, or choose another --out"
            )
