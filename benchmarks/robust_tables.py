"""The tables of robust training, made from the rows that `robust_training.py` keeps.

`robust_SET` has one line a method, the mean over its seeds; `robust_SET_weights` compares the four
weights that each training leaves; `robust_SET_local` says how smooth the loss is and how far
posteriors move; `robust_SET_against` has what adversarial matching gains over every other method.
`robust_short` has the best of all sets, for the README.
"""

import json
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from results import FOLDER

from paradise_cli.core.proportions import wilson

PREFIX = "robust_"
SUITES = ("standard", "paper")
WEIGHTS = ("last plain", "best plain", "last averaged", "best averaged")
DIGITS = 7  # of a commit, which tell it apart
SHORT, STANDARD, MOST = "short", "standard", 5
"""The table of the README, and its methods: standard training, and so many of the best."""
OURS = "pm_adversarial"
"""Whose gain over the others is shown."""

Row = Mapping[str, Any]


def robust_table(name: str) -> str:
    """The table of that name, `robust_SET` and what may follow; says so where nothing is there."""
    stem, _, kind = name.removeprefix(PREFIX).rpartition("_")
    wanted, kind = (stem, kind) if kind in KINDS else (name.removeprefix(PREFIX), "")
    if wanted == SHORT:
        return short_table()
    files = _read(wanted)
    if not files:
        command = f"python benchmarks/robust_training.py --set {wanted}"
        return f"\nNothing was measured yet; the command is `{command}`.\n"
    table, how = KINDS[kind]
    lines = table([file["rows"][0] for file in files])
    return "\n".join(["", *lines, "", how(wanted, files), ""])


def short_table() -> str:
    """Standard training beside what withstands most, on every set of which there are rows."""
    folders = sorted((FOLDER / "robust").glob("*"))
    # Searches have rows of another kind.
    sets = [_methods(folder.name) for folder in folders if folder.name != "search"]
    if not sets:
        return "\nNothing was measured yet.\n"
    heads = [f"{_data(found)}, natural | under attack" for found in sets]
    shown = [method for method in sets[0] if method != STANDARD][:MOST]
    shown += [method for method in sets[0] if method == STANDARD]
    lines = [_line(("training", *heads, "passes")), "|" + "---|" * (2 + 2 * len(sets))]
    for method in shown:
        cells = [f"`{method}`"]
        for found in sets:
            each = found.get(method, [])
            cells += [_mean(_share_of(each)), _mean(_values(each, SUITES[0]))]
        passes = _passes(sets[0].get(method, [])[:1]).replace(" ", "")
        lines.append(_line([*cells, passes]))
    how = "<sub>Suite `standard`, means over seeds; [more](docs/results.md#robust-training)</sub>"
    return "\n".join(["", *lines, "", how, ""])


def kept_rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a file that `robust_training.py` has written."""
    rows = json.loads(file.read_text("utf-8"))["rows"]
    # Before there was a choice they did not say.
    return [{"precision": "fp32"} | row for row in rows]


def _read(wanted: str) -> list[dict[str, Any]]:
    paths = sorted((FOLDER / "robust" / wanted).glob("*.json"))
    return [json.loads(path.read_text("utf-8")) | {"rows": kept_rows(path)} for path in paths]


def _methods(wanted: str) -> dict[str, list[Row]]:
    return by_method([file["rows"][0] for file in _read(wanted)])


def _data(found: Mapping[str, Sequence[Row]]) -> str:
    labels = [row["data"] for rows in found.values() for row in rows if "data" in row]
    return labels[0] if labels else "unknown data"


def by_method(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each method by seed; methods with the highest accuracy under `standard` first."""
    found: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row["method"], row["seed"])):
        found.setdefault(row["method"], []).append(row)

    def height(method: str) -> float:
        values = _values(found[method], "standard")
        return statistics.fmean(values) if values else -1.0

    return {method: found[method] for method in sorted(found, key=height, reverse=True)}


def _main(rows: Sequence[Row]) -> Iterator[str]:
    yield _line(
        ("method", "natural", *(f"`{suite}`" for suite in SUITES), "verdict", "alarms in training",
         "passes: forward + back", "epochs", "seeds")
    )  # fmt: skip
    yield "|" + "---|" * 9
    for method, each in by_method(rows).items():
        whole = [row for row in each if "failed" not in row]
        cells = [f"`{method}`", _natural(each), *(_robust(each, suite) for suite in SUITES)]
        cells += [_verdicts(each), _alarms(whole), _passes(each), _one(each, "epochs")]
        cells.append(_seeds(each))
        yield _line(cells)


def _weights(rows: Sequence[Row]) -> Iterator[str]:
    yield _line(("method", *WEIGHTS, "highest, by seed"))
    yield "|" + "---|" * 6
    for method, each in by_method(rows).items():
        found = [row["validation"] for row in each if "validation" in row]
        if not found:
            continue
        columns = [[row[name]["robust"] for row in found if name in row] for name in WEIGHTS]
        highest = [
            max(filter(row.get, WEIGHTS), key=lambda name: row[name]["robust"]) for row in found
        ]
        yield _line([f"`{method}`", *map(mean_and_sd, columns), ", ".join(highest)])


def _local(rows: Sequence[Row]) -> Iterator[str]:
    yield _line(
        ("method", "loss along random lines, sd in nats", "linearity error, median",
         "posterior shift, random", "posterior shift, worst", "worst / random")
    )  # fmt: skip
    yield "|" + "---|" * 6
    for method, each in by_method(rows).items():
        found = [row["local"] for row in each if "local" in row]
        if not found:
            continue
        random, worst = _means(found, "random_shift"), _means(found, "worst_shift")
        # None where the loss of no image rises along its gradient.
        gaps = [row["linearity"] for row in found if row["linearity"] is not None]
        linearity = f"{statistics.fmean(gaps):.1%}" if gaps else ""
        cells = [_digits(_means(found, "wavering")), linearity, _digits(random)]
        yield _line([f"`{method}`", *cells, _digits(worst), f"{worst / random:.1f}"])


def _against(rows: Sequence[Row]) -> Iterator[str]:
    yield _line(
        (f"`{OURS}` less", "under `standard`, points ± standard error", "of each seed",
         "in standard errors")
    )  # fmt: skip
    yield "|" + "---|" * 4
    found = by_method(rows)
    ours = _standing(found.pop(OURS, []))
    for method, each in found.items():
        theirs = _standing(each)
        both = sorted(ours.keys() & theirs.keys())
        if not both:
            continue
        gains = [_gains(ours[seed], theirs[seed]) for seed in both]
        mean, error = paired(gains)
        cells = [f"`{method}`", f"{100 * mean:+.1f} ± {100 * error:.1f}"]
        cells.append(", ".join(f"{100 * statistics.fmean(gain):+.1f}" for gain in gains))
        yield _line([*cells, f"{mean / error:.1f}"])


def _standing(rows: Sequence[Row]) -> dict[int, str]:
    """Which images stand, by seed."""
    found = {row["seed"]: row.get("suites", {}).get(SUITES[0]) for row in rows}
    return {seed: each["standing"] for seed, each in found.items() if each is not None}


def _gains(ours: str, theirs: str) -> list[int]:
    """1 for each image that stands with us alone, -1 for each with them alone."""
    return [int(a) - int(b) for a, b in zip(ours, theirs, strict=True)]


def paired(gains: Sequence[Sequence[int]]) -> tuple[float, float]:
    """Mean over seeds and images, and its standard error, which has a part of either."""
    of_images = [statistics.fmean(each) for each in zip(*gains, strict=True)]
    variance = statistics.variance(of_images) / len(of_images)
    if len(gains) > 1:
        variance += statistics.variance(map(statistics.fmean, gains)) / len(gains)
    return statistics.fmean(of_images), math.sqrt(variance)


def _means(found: Sequence[Row], name: str) -> float:
    return statistics.fmean(row[name]["value"] for row in found)


def _digits(value: float) -> str:
    return f"{value:.3g}"


def _values(rows: Sequence[Row], suite: str) -> list[float]:
    found = [row.get("suites", {}).get(suite) for row in rows]
    return [each["robust"]["value"] for each in found if each is not None]


def _share_of(rows: Sequence[Row]) -> list[float]:
    return [row["natural"]["value"] for row in rows if "natural" in row]


def _natural(rows: Sequence[Row]) -> str:
    n = min((row["natural"]["n"] for row in rows if "natural" in row), default=0)
    return _interval(_share_of(rows), n)


def _robust(rows: Sequence[Row], suite: str) -> str:
    found = [row["suites"][suite] for row in rows if suite in row.get("suites", {})]
    return _interval(_values(rows, suite), min((each["n"] for each in found), default=0))


def _interval(values: Sequence[float], n: int) -> str:
    """Mean and sd over seeds, and the interval over images of one share as large as the mean."""
    if not values:
        return ""
    # Seeds share their images: as if they were n more, the interval would be too narrow.
    low, high = wilson(round(statistics.fmean(values) * n), n)
    return f"{mean_and_sd(values)} ({low:.1%} to {high:.1%})"


def _mean(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.1%}" if values else ""


def mean_and_sd(values: Sequence[float]) -> str:
    """Shares of several seeds as text; of one seed there is no sd."""
    if len(values) < 2:
        return _mean(values)
    return f"{_mean(values)} ± {100 * statistics.stdev(values):.1f}"


def _verdicts(rows: Sequence[Row]) -> str:
    found = [
        each["verdict"]
        for row in rows
        for suite, each in row.get("suites", {}).items()
        if suite in SUITES
    ]
    return _counted(found)


def _alarms(rows: Sequence[Row]) -> str:
    """Each kind that was raised: in how many of the trainings that were watched, and when."""
    watched = [row["alarms"] for row in rows if row.get("alarms") is not None]
    if not watched:
        return "not watched"
    kinds = sorted({each["kind"] for raised in watched for each in raised})
    return "; ".join(_alarm(kind, watched) for kind in kinds) or "none"


def _alarm(kind: str, watched: Sequence[Sequence[Row]]) -> str:
    epochs = [[each["epoch"] for each in raised if each["kind"] == kind] for raised in watched]
    hit = sum(map(bool, epochs))
    when = ", ".join(str(epoch) for some in epochs for epoch in some)
    return f"{kind.replace('_', ' ')}: {hit} of {len(watched)}, epoch {when}"


def _passes(rows: Sequence[Row]) -> str:
    found = [row["passes"] for row in rows if "passes" in row]
    return _counted([f"{each['forward']:.3g} + {each['back']:.3g}" for each in found])


def _one(rows: Sequence[Row], name: str) -> str:
    return _counted([str(row[name]) for row in rows if name in row])


def _seeds(rows: Sequence[Row]) -> str:
    failed = [f"seed {row['seed']} failed: {row['failed']}" for row in rows if "failed" in row]
    return "; ".join([", ".join(str(row["seed"]) for row in rows), *failed]).replace("\n", " ")


def _counted(found: Sequence[str]) -> str:
    """Each different one; where there are several, how often each."""
    kinds = list(dict.fromkeys(found))
    if len(kinds) < 2:
        return "".join(kinds)
    return ", ".join(f"{kind} ({found.count(kind)})" for kind in kinds)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _how(wanted: str, files: Sequence[Mapping[str, Any]]) -> str:
    """How the rows were measured: what they have in common, and what differs."""
    rows = [file["rows"][0] for file in files]
    eps = _counted([f"{row['eps']:.4g}" for row in rows if "eps" in row])
    commits = dict.fromkeys(file["commit"][:DIGITS] for file in files)
    machines = dict.fromkeys(file["machine"] for file in files)
    data = dict.fromkeys(row["data"] for row in rows if "data" in row)
    precisions = _counted([row["precision"] for row in rows])
    ns = sorted({each["n"] for row in rows for each in row.get("suites", {}).values()})
    return (
        f"<sub>Robust training, L-infinity {eps}: mean ± sd over seeds, of the averaged weights"
        " that validation under attack chose, or the last where these withstand no more than one"
        " answer to all would, within 95%. In brackets: Wilson 95% at the mean, over images, not"
        " trainings. Natural accuracy is of all test images. Passes of the"
        " backbone for each image of a step, counted by hooks."
        f" Data: {', '.join(data)}, test, n = {', '.join(f'{n:,}' for n in ns)}."
        f" Command: `python benchmarks/robust_training.py --set {wanted} --seeds N`."
        f" Commit {', '.join(commits)}; {'; '.join(machines)}; {precisions}."
        f" Numbers: `benchmarks/results/robust/{wanted}/`.</sub>"
    )


def _how_weights(wanted: str, files: Sequence[Mapping[str, Any]]) -> str:
    return (
        "<sub>Accuracy under the short attack of `train.validate` on held-out training images,"
        " mean ± sd over seeds: what the best weights were chosen by, so that best is never below"
        " last. The same trainings and files as above.</sub>"
    )


def _how_local(wanted: str, files: Sequence[Mapping[str, Any]]) -> str:
    return (
        "<sub>Means over seeds and the attacked images, of which each row's file has the intervals."
        " Loss: cross-entropy on 17 points from x - eps r to x + eps r, r of random signs and"
        " orthogonal to the gradient's signs g. Linearity error: largest distance of the loss from"
        " its tangent between x - eps g and x + eps g, as a share of its change at x + eps g (paper"
        " Fig. 5, method.md 6). Shift: L1 distance of p(z|x') from p(z|x) in deviations of mu over"
        " images, x' a random corner of the ball or what 10 steps on that distance find.</sub>"
    )


def _how_against(wanted: str, files: Sequence[Mapping[str, Any]]) -> str:
    return (
        "<sub>Images that stand with the one and not with the other, the same images for all. The"
        " error has a part of the images and a part of the seeds, which are as many as are listed."
        " Where a verdict is not `not detected` the other's accuracy is itself too high.</sub>"
    )


Lines = Callable[[Sequence[Row]], Iterator[str]]
How = Callable[[str, Sequence[Mapping[str, Any]]], str]
KINDS: dict[str, tuple[Lines, How]] = {
    "": (_main, _how),
    "weights": (_weights, _how_weights),
    "local": (_local, _how_local),
    "against": (_against, _how_against),
}
