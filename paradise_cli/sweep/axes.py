"""Which values a field takes in a sweep, as they are written on a command line."""

import re
from collections import Counter
from dataclasses import dataclass

from paradise_cli.core.errors import UsageError
from paradise_cli.core.ranges import parse_range

ALPHA = "objective.alpha"

_RANGE = re.compile(r"[^,:\[\]{}]+:[^,:\[\]{}]+:\d+")


@dataclass(frozen=True)
class Axis:
    """A field of the recipe, and the values it takes as written in YAML."""

    key: str
    values: tuple[str, ...]


def parse_axis(text: str, option: str = "--grid") -> Axis:
    """A field from `key=v1,v2`, or `key=first:last:count` for numbers in equal ratios.

    Raises UsageError for anything else, and for a value that comes twice.
    """
    key, equals, raw = (part.strip() for part in text.partition("="))
    if not (equals and key and raw):
        raise UsageError(
            f"{option} '{text}': write key=value,value as in objective.rate.q=batch,fitted, or"
            " key=first:last:count as in optim.lr=1e-4:1e-2:5"
        )
    # Neither commas nor brackets, which values in YAML may hold: `{at: 1, factor: 2}` is no range.
    if _RANGE.fullmatch(raw):
        values = [f"{number:.6g}" for number in parse_range(raw, option)]
    else:
        values = _split(raw)
    times = Counter(values)
    if repeated := sorted(value for value, count in times.items() if count > 1):
        raise UsageError(f"{option} '{text}': {', '.join(repeated)} comes twice")
    if "" in values:
        raise UsageError(f"{option} '{text}': a value is missing between commas")
    return Axis(key, tuple(values))


def alpha_axis(text: str) -> Axis:
    """Values of alpha from `0.1,1,10` or `first:last:count`.

    Raises UsageError for other than numbers > 0.
    """
    # Six digits are in the names of folders: neighbours that agree in them are one run.
    values = [f"{alpha:.6g}" for alpha in parse_range(text, "--alpha")]
    return Axis(ALPHA, tuple(dict.fromkeys(values)))


def _split(text: str) -> list[str]:
    """The parts between commas that no bracket holds."""
    parts = [""]
    depth = 0  # of brackets: a value may be a list or a mapping, with commas of its own
    for character in text:
        depth += (character in "[{") - (character in "]}")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]
