"""Changes of files and values that nobody makes on purpose."""

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from paradise_cli.core.storage import DIGEST, METADATA_KEY, content_digest

STRANGE: list[Any] = [
    None, True, -1, 0, 1, 3, 10**6, 10**9, 2**63, 10**30, -1.5, 1e-300, 1e300, "", "x" * 10_000,
    "\n\x1b[2J", "nan", "digits", [], {}, [[]], {"name": "mlp"}, {"": 0}, [10**9], ["a"] * 1000,
]  # fmt: skip
TEXTS = [
    "", "nan", "inf", "-1", "0", "1e999", "9" * 400, "0x10", "~nobody/x", "\x1b[31m", "[[[",
    "{a: 1}", "!!python/object/apply:os.getcwd []", "&a [*a]", "a" * 5000, "../x",
]  # fmt: skip


def flipped(data: bytes, draw: random.Random) -> bytes:
    """One to four bits changed."""
    changed = bytearray(data or b"x")
    for _ in range(draw.randint(1, 4)):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def cut(data: bytes, draw: random.Random) -> bytes:
    """Ended early, or at once."""
    return data[: draw.choice([0, draw.randrange(len(data) + 1)])]


def spliced(data: bytes, draw: random.Random) -> bytes:
    """A part of it, or something strange, put elsewhere."""
    start = draw.randrange(len(data) + 1)
    part = draw.choice([data[start : start + draw.randrange(200)], *map(str.encode, TEXTS)])
    place = draw.randrange(len(data) + 1)
    return data[:place] + part + data[place + draw.choice([0, len(part)]) :]


BYTES: list[Callable[[bytes, random.Random], bytes]] = [flipped, cut, spliced]


def rewrite(path: Path, draw: random.Random) -> None:
    """A file with other bytes or, where it holds JSON, with another value half the time."""
    data = path.read_bytes()
    if draw.random() < 0.5:
        changed = _other_values(path.suffix, data, draw)
        if changed is not None:
            path.write_bytes(changed)
            return
    path.write_bytes(draw.choice(BYTES)(data, draw))


def _other_values(suffix: str, data: bytes, draw: random.Random) -> bytes | None:
    """None where there are no values, as in a file that was damaged before."""
    try:
        if suffix == ".json":
            return json.dumps(changed_value(json.loads(data), draw)).encode()
        if suffix == ".jsonl" and data.strip():
            lines = data.splitlines()
            chosen = draw.randrange(len(lines))
            lines[chosen] = json.dumps(changed_value(json.loads(lines[chosen]), draw)).encode()
            return b"\n".join(lines) + b"\n"
        return resigned(data, draw) if suffix == ".safetensors" else None
    except ValueError:
        return None


def changed_value(value: Any, draw: random.Random) -> Any:
    """A copy with one value replaced, left out or added."""
    value = copy.deepcopy(value)
    found = list(places(value))
    if not found or draw.random() < 0.05:
        return draw.choice(STRANGE)
    container, key = draw.choice(found)
    if isinstance(container, dict) and draw.random() < 0.2:
        del container[key]
    else:
        container[key] = copy.deepcopy(draw.choice(STRANGE))
    return value


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of JSON values, and a key or index in it."""
    if not isinstance(value, dict | list):
        return
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in list(inside):
        yield value, key
        yield from places(each)


def resigned(data: bytes, draw: random.Random) -> bytes | None:
    """A safetensors file of ours whose metadata say something else, with a digest that is right."""
    # Nothing that a file asks for is imported here: it may do so where the user made the file.
    metadata = changed_value(metadata_of(data), draw)
    if not isinstance(metadata, dict) or "imports" in json.dumps(metadata):
        return None
    return signed(data, metadata)


def metadata_of(data: bytes) -> dict[str, Any]:
    """What a safetensors file of ours says beside its tensors and their digest."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    found: dict[str, Any] = json.loads(header["__metadata__"][METADATA_KEY])
    del found[DIGEST]
    return found


def signed(data: bytes, metadata: dict[str, Any], **tensors: Tensor) -> bytes:
    """The file with other metadata and tensors, and the digest of those."""
    kept = load(data) | tensors
    text = json.dumps(metadata | {DIGEST: content_digest(kept, metadata)}, sort_keys=True)
    return save(kept, {METADATA_KEY: text})
