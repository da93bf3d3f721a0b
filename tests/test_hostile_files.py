"""Files from strangers do no harm: nothing runs, nothing big is claimed, one message says why."""

import copy
import json
import pickle
import random
import resource
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import paradise_cli
from paradise_cli.build import build_model
from paradise_cli.core import arrays, yaml
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.models.weights import read_model
from paradise_cli.recipe.schema import load_recipe
from paradise_cli.runs.initial_weights import start_from
from tests.campaign.mutate import metadata_of, places, signed
from tests.tiny_model import info_for, save_tiny, tiny_recipe

MUTANTS = 500
MIB = 2**20


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return save_tiny(tmp_path_factory.mktemp("hostile") / "good.safetensors").read_bytes()


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for hostile files, beside which nothing may appear, and little memory."""
    inside = tmp_path / "inside"
    inside.mkdir()
    monkeypatch.setenv("PARADISE_CACHE", str(inside / "cache"))
    monkeypatch.chdir(inside)
    # What a file promises must not be claimed: the limit turns it into another error than ours.
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 512 * MIB, hard))
    yield inside
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert list(tmp_path.iterdir()) == [inside]


def refused(path: Path) -> str:
    """The one message with which a file is refused: it names the file, on one line."""
    with pytest.raises(ParadiseError) as error:
        paradise_cli.load(path)
    message = str(error.value)
    assert str(path) in message and message.isprintable() and len(message) < 2000
    return message


def with_header(header: bytes, data: bytes = b"") -> bytes:
    """A safetensors file of this header, and of its right length."""
    return struct.pack("<Q", len(header)) + header + data


def one_tensor(**entry: Any) -> bytes:
    """A file of one tensor of 16 bytes, described in another way than it is."""
    told = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} | entry
    return with_header(json.dumps({"a": told}).encode(), bytes(16))


class Runs:
    """What a pickle may do to whoever opens it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("it-ran"),))


OVERLAP = {
    name: {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} for name in ("first", "second")
}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a readable safetensors file"),
        (pickle.dumps(Runs()), "pickled weights are never opened"),
        (b"PK\3\4" + bytes(100), "not a readable safetensors file"),
        (b"<!DOCTYPE html><html>Sign in to go on</html>", "not a readable safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not a readable safetensors file"),
        (struct.pack("<Q", 2 * 2**30) + b"{}", "not a readable safetensors file"),
        (struct.pack("<Q", 2**64 - 1) + b"{}", "not a readable safetensors file"),
        (with_header(json.dumps(OVERLAP).encode(), bytes(16)), "not a readable safetensors"),
        (one_tensor(shape=[2**40], data_offsets=[0, 2**42]), "not a readable safetensors file"),
        (one_tensor(shape=[2**63, 2**63]), "not a readable safetensors file"),
        (one_tensor(shape=[-4]), "not a readable safetensors file"),
        (one_tensor(dtype="OBJECT"), "not a readable safetensors file"),
        (with_header(b"[" * 10**5), "not a readable safetensors file"),
        (with_header(b'{"a": 1}'), "not a readable safetensors file"),
    ],
    ids=str.split(
        "empty pickle zip html pointer header-of-2-GB header-of-2^64 overlap tensor-of-4-TB"
        " product-overflows negative unknown-type brackets no-tensor"
    ),
)
def test_what_is_no_safetensors_file_is_refused(alone: Path, content: bytes, reason: str) -> None:
    path = alone / "model.safetensors"
    path.write_bytes(content)
    assert reason in refused(path)
    assert list(alone.iterdir()) == [path]


# Files with a right digest: whoever writes a hostile file can write that, too.


def put(place: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change of the metadata at a.b.0.c."""
    *way, last = [int(part) if part.isdecimal() else part for part in place.split(".")]

    def change(metadata: Any) -> None:
        for part in way:
            metadata = metadata[part]
        metadata[last] = value

    return change


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


BACKBONE = "recipe.model.backbone"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (put("recipe.model.latent_dim", 2**16), "weights of another model"),
        (put("recipe.model.latent_dim", 10**30), "latent_dim: should be at most 65536"),
        (put("recipe.model.latent_dim", -3), "latent_dim: should be at least 1"),
        (put("recipe.model.latent_dim", 1e400), "latent_dim: "),
        (put(f"{BACKBONE}.hidden", [10**9]), "weights of another model"),
        (put(f"{BACKBONE}.hidden", [8] * 10**5), "network has more than"),
        (put(f"{BACKBONE}.hidden", [2**62]), "network cannot be built"),
        (put(BACKBONE, {"name": "preact_resnet", "depth": 6 * 10**6 + 2}), "has more than"),
        (put(BACKBONE, {"name": "wide_resnet", "depth": 10**100, "width": 1}), "has more than"),
        (put(BACKBONE, {"name": "wide_resnet", "depth": 16, "width": 10**9}), "cannot be built"),
        (put("recipe.objective.tasks.1.head.hidden", [10**9]), "weights of another model"),
        (put("recipe.objective.tasks", [{}] * 10**5), "objective.tasks: has too many entries"),
        (put("recipe.views", [{"name": "image"}] * 10**4), "views: has too many entries"),
        (put("recipe.model.mean", ["x"] * 10**4), "model.mean.0: "),
        (put("recipe", {str(n): n for n in range(10**4)}), "unknown key"),
        (put("recipe", nested(30)), "says nothing of its recipe"),
        (put("recipe.name", nested(900)), "nested too deeply"),
        (put("recipe.name", "x" * 5 * MIB), "characters of metadata"),
        (put("recipe.name", "\x1b[2J\n"), "name: should start with a letter or digit"),
        (put("recipe.name", "\ud800"), "does not fit this version"),
        (put("recipe.\x1b[2J\nkey", 1), "unknown key"),
        (put("data.shape", [10**9, 12, 12]), "not a description of data"),
        (put("data.preprocessing.resize", 10**9), "not a description of data"),
        (put("data.targets.0.classes", ["x"] * 10**5), "weights of another model"),
        (put("provenance", "yesterday"), "says nothing of its provenance"),
        (put("provenance", {"weights": "best", "step": "x"}), "its provenance names no step"),
    ],
)  # fmt: skip
def test_what_the_metadata_promise_is_not_believed(
    alone: Path, good: bytes, change: Callable[[dict[str, Any]], None], reason: str
) -> None:
    metadata = metadata_of(good)
    change(metadata)
    path = alone / "model.safetensors"
    path.write_bytes(signed(good, metadata))
    assert reason in refused(path)


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({"mu.weight": torch.zeros(3, 9)}, "mu.weight [3, 9] instead of [3, 8]"),
        ({"mu.weight": torch.zeros(3, 8, dtype=torch.int64)}, "torch.int64 instead of"),
        ({"../../../outside": torch.zeros(1)}, "1 unexpected (../../../outside)"),
        ({"\x1b[2J\n": torch.zeros(1)}, r"1 unexpected (\x1b[2J\n)"),
        ({str(n): torch.zeros(1) for n in range(2000)}, "2000 unexpected"),
    ],
)
def test_tensors_that_are_not_the_recipe_s_are_refused(
    alone: Path, good: bytes, tensors: dict[str, torch.Tensor], reason: str
) -> None:
    path = alone / "model.safetensors"
    path.write_bytes(signed(good, metadata_of(good), **tensors))
    assert reason in refused(path)


def test_what_was_pulled_imports_nothing_by_whatever_name_it_is_called(
    alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (alone / "brought_along.py").write_text("open('it-ran', 'w').close()\n")
    monkeypatch.syspath_prepend(str(alone))
    folder = alone / "cache" / "hub" / "models--org--model"
    blob = save_tiny(folder / "blobs" / "0123", imports=["brought_along"])
    link = folder / "snapshots" / ("0" * 40) / "model.safetensors"
    link.parent.mkdir(parents=True)
    link.symlink_to("../../blobs/0123")
    (alone / "mine.safetensors").symlink_to(link)
    recipe = tiny_recipe()
    model = build_model(recipe, info_for(recipe))
    wanting = r"org/model wants to import .*brought_along"
    for name in (link, blob, link.parent, Path("mine.safetensors"), link.relative_to(alone)):
        with pytest.raises(ParadiseError, match=wanting):
            paradise_cli.load(name)
        with pytest.raises(ParadiseError, match=wanting):
            start_from(model, recipe, info_for(recipe), str(name))
    assert not Path("it-ran").exists()


# Recipes and cards are YAML


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &a [x]\nb: &b [*a, *a]", "2:8: aliases are not allowed; write the value out"),
        ("a: &a [*a]", "1:8: aliases are not allowed; write the value out"),
        ("a: " + "[" * 50_000, "1:1: is nested too deeply"),
        ("- " * 50_000, "1:1: is nested too deeply"),
        ("a: " + "x" * 10**6, "larger than any recipe"),
        ("a: " + "x" * 250_000, "1:1: has 250,003 characters; at most 200,000 are allowed"),
        ("a: [" + "1," * 1000 + "]", "more than 100 keys and values"),
        ("a: 0x" + "f" * 10**5, "is too large a number"),
        ("a: " + "9" * 10**5, "is not of type int"),
        ("a: !!python/object/apply:os.getcwd []", "apply:os.getcwd' is not allowed"),
        ("a: !" + "x" * 10**5 + " b", "is not allowed"),
        ("<<: {a: 1}", "unknown key"),
    ],
)  # fmt: skip
def test_yaml_bombs_are_refused(
    alone: Path, monkeypatch: pytest.MonkeyPatch, text: str, reason: str
) -> None:
    if "keys and values" in reason:
        monkeypatch.setattr(yaml, "MOST_VALUES", 100)
    (alone / "recipe.yaml").write_text(text)
    with pytest.raises(UsageError) as error:
        load_recipe("recipe.yaml")
    lines = str(error.value).splitlines()
    assert reason in lines[0] and all(line.startswith("recipe.yaml") for line in lines)
    assert max(map(len, lines)) < 500


# Anything at all


def flip(data: bytearray, draw: random.Random) -> None:
    """Flip a bit, most often in the header, which is what is parsed."""
    header = 8 + int.from_bytes(data[:8], "little")
    end = header if draw.random() < 0.7 else len(data)
    data[draw.randrange(end)] ^= 1 << draw.randrange(8)


def cut(data: bytearray, draw: random.Random) -> None:
    del data[draw.randrange(len(data)) :]


def splice(data: bytearray, draw: random.Random) -> None:
    """Put a part of the file, or a digit too many, elsewhere."""
    start = draw.randrange(len(data))
    part = draw.choice([bytes(data[start : start + draw.randrange(1, 200)]), b"9", b'"', b"{["])
    place = draw.randrange(8 + int.from_bytes(data[:8], "little"))
    data[place : place + draw.choice([0, len(part)])] = part


def rewrite_header(data: bytearray, draw: random.Random) -> None:
    """Say something else of a tensor, in a header of the right length."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    entry = header[draw.choice(sorted({*header} - {"__metadata__"}))]
    key = draw.choice(["dtype", "shape", "data_offsets"])
    entry[key] = draw.choice(
        [*STRANGE, "F64", "I8", "BOOL", "F8_E4M3", "F4", [0, 0], [2**40, 2**41]]
    )
    data[: 8 + length] = with_header(json.dumps(header).encode())


STRANGE: list[Any] = [
    None, True, -1, 0, 10**6, 10**9, 10**30, -1.5, 1e300, "", "x" * 10_000, "\n\x1b[2J", "mlp",
    [], {}, [[]], {"name": "wide_resnet"}, {"": 0}, [10**9], ["a"] * 1000, nested(35), nested(200),
]  # fmt: skip


def rewrite_metadata(data: bytearray, draw: random.Random) -> None:
    """Change one value of recipe, data or provenance, or add a key; the digest is right again."""
    metadata = metadata_of(bytes(data))
    container, key = draw.choice(list(places(metadata)))
    value = copy.deepcopy(draw.choice(STRANGE))
    if isinstance(container, dict) and draw.random() < 0.2:
        key = draw.choice(["imports", "name", "depth", "width", "x\n", "shape"])
    # Nothing that a file asks for is imported here: it may do so where the user made the file.
    if key != "imports":
        container[key] = value
    data[:] = signed(bytes(data), metadata)


@pytest.mark.parametrize(
    ("mutate", "share"),
    [(flip, 0.2), (cut, 0.1), (splice, 0.2), (rewrite_header, 0.1), (rewrite_metadata, 0.4)],
)
def test_a_mutated_file_loads_as_it_is_or_is_refused(
    alone: Path, good: bytes, mutate: Callable[[bytearray, random.Random], None], share: float
) -> None:
    path = alone / "model.safetensors"
    images = torch.rand(2, 1, 12, 12)
    for seed in range(round(share * MUTANTS)):
        data = bytearray(good)
        mutate(data, random.Random(f"{mutate.__name__} {seed}"))
        path.write_bytes(data)
        try:
            loaded = paradise_cli.load(path)
        except ParadiseError as error:
            message = str(error)
            assert str(path) in message and message.isprintable() and len(message) < 2000, seed
            continue
        tensors, _ = read_model(path)
        state = loaded.model.state_dict()
        assert state.keys() == tensors.keys(), seed
        assert all(torch.equal(state[name], tensors[name].to(state[name])) for name in state), seed
        assert loaded.model.encode(images).mu.shape == (2, loaded.model.latent_dim), seed
        assert loaded.label and repr(loaded), seed


def test_an_archive_that_unpacks_to_far_more_than_it_is_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "LARGEST_UNPACKED", 10**5)
    small, alike, mixed = np.zeros(10**4), np.zeros(10**5), np.random.default_rng(0).random(10**5)
    kept = {"few": small, "plain": alike, "mixed": mixed}
    for name, values in kept.items():
        save = np.savez if name == "plain" else np.savez_compressed
        save(tmp_path / f"{name}.npz", mu=values)
        found, _ = arrays.read_archive(tmp_path / f"{name}.npz", ["mu"])
        assert np.array_equal(found["mu"], values)
    np.savez_compressed(tmp_path / "bomb.npz", mu=alike, few=small)
    with pytest.raises(ParadiseError, match="bytes that unpack to 800,128, nearly all of them"):
        arrays.read_archive(tmp_path / "bomb.npz", ["mu"])
    # What is not asked for is not unpacked either.
    assert arrays.read_archive(tmp_path / "bomb.npz", ["few"])[0].keys() == {"few"}
