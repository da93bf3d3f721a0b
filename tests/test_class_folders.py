"""Class folders: an empty one, a subset, other names; each counts as the class it names."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from paradise_cli.build import build_model
from paradise_cli.cli import app
from paradise_cli.core.errors import ParadiseError
from paradise_cli.data import DATASETS, info_of, match_classes, match_logits
from paradise_cli.inference.loading import LoadedModel, load
from paradise_cli.models.weights import save_model
from paradise_cli.recipe.schema import Recipe, parse_resolved
from paradise_cli.robustness.classifiers import NamedClassifier
from paradise_cli.robustness.examples import open_examples

COLOURS = ("bird", "cat", "dog")  # red, green, blue


def colours(images: Tensor) -> Tensor:
    """Mean red, green and blue are the logits of bird, cat and dog."""
    return 8 * images.mean((2, 3))


def pictures(folder: Path, colour: int, count: int = 3, size: int = 16) -> None:
    """Noisy pictures of one colour, 0 red, 1 green, 2 blue."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(colour)
    for number in range(count):
        pixels = random.integers(0, 60, (size, size, 3), dtype=np.uint8)
        pixels[..., colour] += 150
        Image.fromarray(pixels).save(folder / f"{number}.png")


@pytest.fixture
def animals(tmp_path: Path) -> Callable[..., Path]:
    """A folder whose sub-folders hold pictures of a colour, or nothing where it is None."""

    def make(**folders: int | None) -> Path:
        root = tmp_path / "animals"
        for name, colour in folders.items():
            if colour is None:
                (root / name).mkdir(parents=True)
            else:
                pictures(root / name, colour)
        return root

    return make


def own(function: Any = colours) -> NamedClassifier:
    return NamedClassifier(function, "own", "own")


def right(examples: Any, function: Callable[[Tensor], Tensor] = colours) -> float:
    """Share of the images that the classifier knows by their label."""
    answers = function(examples.images).argmax(1)
    return float((answers == examples.labels).double().mean())


@pytest.mark.parametrize("left", [None, "empty", "unreadable suffix"])
def test_an_empty_folder_keeps_its_number(animals: Callable[..., Path], left: str | None) -> None:
    root = animals(bird=0 if left is None else None, cat=1, dog=2)
    if left == "unreadable suffix":
        (root / "bird" / "0.heic").write_bytes(b"x")
    found = open_examples(own(), str(root))
    assert right(found) == 1
    assert found.classes == COLOURS
    assert set(found.labels.tolist()) == ({0, 1, 2} if left is None else {1, 2})
    said = "no readable image in 1 of the 3 class folders of animals" in " ".join(found.notes)
    assert said == (left is not None)
    assert "'bird' is logit 0, 'cat' is logit 1, 'dog' is logit 2" in found.notes[-1]


def test_fewer_folders_than_logits_are_refused(animals: Callable[..., Path]) -> None:
    root = animals(cat=1, dog=2)
    with pytest.raises(
        ParadiseError, match=r"gives 3 logits and animals has 2 class folders \('cat', 'dog'\)"
    ) as caught:
        open_examples(own(), str(root))
    for way in ("`classes`", "data.classes=", "may be empty"):
        assert way in str(caught.value)


class Named:
    """A classifier that carries the names of its classes."""

    classes = COLOURS

    def __call__(self, images: Tensor) -> Tensor:
        return colours(images)


def test_names_tell_the_logits_of_a_subset(animals: Callable[..., Path]) -> None:
    root = animals(cat=1, dog=2)
    carried = open_examples(own(Named()), str(root))
    given = open_examples(own(), str(root), overrides=["data.classes=[bird, cat, dog]"])
    for found in (carried, given):
        assert right(found) == 1
        assert found.classes == COLOURS
        assert "'cat' is logit 1, 'dog' is logit 2" in found.notes[-1]
    with pytest.raises(ParadiseError, match="3 logits, but 2 class names were given"):
        open_examples(own(), str(root), overrides=["data.classes=[cat, dog]"])
    with pytest.raises(ParadiseError, match="none of the class folders of animals"):
        open_examples(own(), str(root), overrides=["data.classes=[a, b, c]"])


@pytest.mark.parametrize(
    "classes",
    [
        [*COLOURS],
        np.array(COLOURS),
        dict(enumerate(COLOURS)),
        {name: number for number, name in reversed([*enumerate(COLOURS)])},
    ],
    ids=["list", "array", "by number", "by name"],
)
def test_names_are_carried_in_any_usual_form(
    animals: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, classes: object
) -> None:
    monkeypatch.setattr(Named, "classes", classes)
    found = open_examples(own(Named()), str(animals(cat=1, dog=2)))
    assert found.classes == COLOURS and right(found) == 1


@pytest.mark.parametrize(
    "classes",
    [3, "bird", {}, {0: "bird", 2: "dog"}, {"0": ["n01", "bird"]}, {"0": {}}, np.eye(3)],
    ids=str,
)
def test_what_are_no_names_tells_no_logits(
    animals: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, classes: object
) -> None:
    monkeypatch.setattr(Named, "classes", classes)
    with pytest.raises(ParadiseError, match="gives 3 logits and animals has 2 class folders"):
        open_examples(own(Named()), str(animals(cat=1, dog=2)))


def test_an_unknown_folder_is_left_out_and_said(animals: Callable[..., Path]) -> None:
    found = open_examples(own(Named()), str(animals(cat=1, dog=2, parrot=0)))
    assert right(found) == 1
    assert len(found.labels) == 6
    notes = " ".join(found.notes)
    assert "left without a label: 'parrot'" in notes
    assert "left out: 3 images without a label (-1)" in notes


def test_more_folders_than_logits_are_refused(animals: Callable[..., Path]) -> None:
    root = animals(bird=0, cat=1, dog=2, emu=0)
    with pytest.raises(ParadiseError, match="gives 3 logits and animals has 4 class folders"):
        open_examples(own(), str(root))


@pytest.mark.parametrize(
    ("folders", "logits", "numbers"),
    [
        (["0", "1", "10", "2"], 11, [0, 1, 10, 2]),  # sorted as text, numbered as they say
        (["3", "7"], 10, [3, 7]),
        (["1", "10", "2", "3", "4", "5", "6", "7", "8", "9"], 10, [0, 9, 1, 2, 3, 4, 5, 6, 7, 8]),
        (["a", "b"], 2, [0, 1]),
        (["b", "a"], 2, [0, 1]),  # of a data set, in its own order
    ],
)
def test_folders_named_by_numbers_are_these(
    folders: list[str], logits: int, numbers: list[int]
) -> None:
    assert list(match_logits(folders, logits, None, label="x").numbers) == numbers


def test_200_of_1000_folders_as_in_imagenet_a() -> None:
    names = [f"n{number:08d}" for number in range(1000)]
    some = names[3::5]
    with pytest.raises(ParadiseError, match=r"1,000 logits and x has 200 class folders.*190 more"):
        match_logits(some, 1000, None, label="x")
    found = match_logits(some, 1000, names, label="x")
    assert list(found.numbers) == list(range(3, 1000, 5))


@pytest.mark.parametrize(
    ("given", "numbers", "said"),
    [
        (["bird", "cat", "dog"], [0, 1, 2], None),
        (["dog", "bird", "cat"], [2, 0, 1], None),
        (["Bird", "CAT", "d-o-g"], [0, 1, 2], None),
        (["cat", "dog"], [1, 2], "animals has 2 of the model's 3 classes ('cat', 'dog')"),
        (["cat", "dog", "parrot"], [1, 2, -1], "left without a label: 'parrot'"),
        (["owl", "cow", "pig"], [0, 1, 2], "'pig' of animals is class 2 of the model, 'dog'"),
        (["owl", "cow"], None, None),
        # What `.cls` of WebDataset holds are the numbers themselves.
        (["0", "2"], [0, 2], "'2' of animals is class 2 of the model, 'dog'"),
        (["1", "2", "3"], [0, 1, 2], "'1' of animals is class 0 of the model, 'bird'"),
        (["2", "7"], None, None),
    ],
)
def test_classes_are_matched_by_name_where_one_is_shared(
    given: Sequence[str], numbers: list[int] | None, said: str | None
) -> None:
    found = match_classes(given, COLOURS, label="animals")
    if numbers is None:
        assert found is None
        return
    assert found is not None and list(found.numbers) == numbers
    assert (found.note is None) == (said is None)
    assert said is None or said in (found.note or "")
    labels = torch.tensor([0, len(given) - 1, -1])
    assert found.relabelled(labels).tolist() == [numbers[0], numbers[-1], -1]


@pytest.mark.parametrize(
    ("given", "wanted", "numbers"),
    [
        (["cat", "Cat"], ["Cat", "cat"], [1, 0]),
        (["cat", "CAT", "dog"], ["Cat", "dog"], [-1, -1, 1]),
        # ImageNet has two cranes, a bird and a machine: the name says neither.
        (["crane", "dog"], ["crane", "dog", "crane"], [-1, 1]),
        (["crane", "x"], ["crane", "crane"], [-1, -1]),
        # An accent in its letter, and behind it, as Macs name folders.
        (["cafe\u0301", "x"], ["x", "caf\u00e9"], [1, 0]),
        (["cafe\u0301", "caf\u00e9"], ["caf\u00e9", "cafe\u0301"], [1, 0]),
        # Two words of Hindi, yesterday and total, that differ in a vowel sign.
        (["\u0915\u0932", "x"], ["\u0915\u0941\u0932", "x"], [-1, 1]),
    ],
)
def test_names_that_are_nearly_the_same_are_not_confused(
    given: list[str], wanted: list[str], numbers: list[int]
) -> None:
    found = match_classes(given, wanted, label="x")
    assert found is not None and list(found.numbers) == numbers
    doubtful = "not the name of one class alone" in (found.note or "")
    assert doubtful == any("crane" == name or "CAT" == name for name in given)


def test_a_link_to_a_class_takes_no_image_from_it(animals: Callable[..., Path]) -> None:
    root = animals(bird=0, cat=1, dog=2)
    # Before the class itself in any order, and of another class by its place.
    (root / "bird" / "0-cats").symlink_to(root / "cat")
    (root / "a-cat").symlink_to("cat")
    found = open_examples(own(), str(root))
    assert right(found) == 1
    assert len(found.labels) == 9


def test_a_class_whose_images_another_holds_keeps_its_number(
    animals: Callable[..., Path], tmp_path: Path
) -> None:
    apart = animals(cat=1, dog=2).rename(tmp_path / "apart")
    root = animals(bird=0)
    for name in ("cat", "dog", "kitten"):
        (root / name).symlink_to(apart / ("dog" if name == "dog" else "cat"))
    data = DATASETS["image_folder"](root)
    assert data.info.targets[0].classes == ("bird", "cat", "dog", "kitten")
    assert "1 of the 4 class folders of animals" in " ".join(data.notes)
    assert "'kitten' (3)" in " ".join(data.notes)
    assert data.train.labels[:, 0].tolist() == [0] * 3 + [1] * 3 + [2] * 3


def recipe() -> Recipe:
    return parse_resolved(
        {
            "name": "colours",
            "data": {"name": "image_folder", "size": 16, "classes": list(COLOURS), "label": "zoo"},
            "model": {"backbone": {"name": "mlp", "hidden": [8]}, "latent_dim": 3,
                      "stochastic": False},
            "objective": {"tasks": [{"distortion": {"name": "cross_entropy"},
                                     "head": {"name": "linear"}}], "alpha": 0},
            "optim": {"name": "adam", "lr": 0.01},
            "train": {"epochs": 1, "batch_size": 4},
        },
        "a test",
    )  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """Our own model of bird, cat and dog, which knows each by its colour."""
    made = recipe()
    info = info_of("image_folder", None, **made.data.hyper)
    network = build_model(made, info)
    with torch.no_grad():
        for value in network.parameters():
            value.zero_()
        first = next(m for m in network.backbone.modules() if isinstance(m, torch.nn.Linear))
        for colour in range(3):
            first.weight[colour, colour * 256 : (colour + 1) * 256] = 1 / 256
            network.mu.weight[colour, colour] = 8
            network.heads["cross_entropy"].layer.weight[colour, colour] = 8
    path = tmp_path_factory.mktemp("model") / "colours.safetensors"
    metadata = {"recipe": made.resolved(), "data": info.to_json(), "provenance": {}}
    save_model(path, network, metadata)
    return load(path)


def judged(model: LoadedModel, *arguments: object) -> Any:
    given = ["evaluate", model.source, *arguments, "--device", "cpu"]
    return CliRunner().invoke(app, list(map(str, given)))


def accuracy(model: LoadedModel, *arguments: object) -> float:
    done = judged(model, *arguments, "--json")
    assert done.exit_code == 0, done.output
    value: float = json.loads(done.stdout)["classification"][0]["top1"]["value"]
    return value


def test_a_subset_is_evaluated_by_name(model: LoadedModel, animals: Callable[..., Path]) -> None:
    root = animals(cat=1, dog=2)
    done = judged(model, "--data", root)
    assert done.exit_code == 0, done.output
    assert "classes are matched by name: animals has 2 of the model's 3 classes" in done.stderr
    assert "all of animals: 6 images" in done.stdout
    assert accuracy(model, "--data", root) == 1


def test_an_unknown_class_is_unlabelled(model: LoadedModel, animals: Callable[..., Path]) -> None:
    root = animals(cat=1, dog=2, parrot=0)
    done = judged(model, "--data", "image_folder", "--set", f"data.root={root}", "--split", "train")
    assert done.exit_code == 0, done.output
    assert "left without a label: 'parrot'" in done.stderr
    assert "all of animals: 9 images, 3 unlabelled" in done.stdout
    assert accuracy(model, "--data", root) == 1


def test_numbers_decide_where_no_name_is_shared(
    model: LoadedModel, animals: Callable[..., Path]
) -> None:
    root = animals(x=0, y=1, z=2)
    assert (
        "matched by number: 'x' of animals is class 0 of the model, 'bird'"
        in judged(model, "--data", root).stderr
    )
    assert accuracy(model, "--data", root) == 1
    (root / "z" / "0.png").unlink()
    pictures(root / "w", 0)
    done = judged(model, "--data", root)
    assert done.exit_code == 1
    assert "animals has 4 classes of 'class', the model tells 3 apart" in done.stderr


def test_our_model_is_attacked_by_name(model: LoadedModel, animals: Callable[..., Path]) -> None:
    classifier = model.model.classifier()
    target = NamedClassifier(classifier, "m", "m", model, "cross_entropy")
    for folders in ({"cat": 1, "dog": 2}, {"bird": None, "cat": 1, "dog": 2}):
        found = open_examples(target, str(animals(**folders)))
        assert right(found, classifier) == 1
        assert found.label == "all of animals" and found.classes == COLOURS


def test_a_folder_is_numbered_as_in_training(tmp_path: Path) -> None:
    """Also where an empty class folder is one of train/, and the test part has fewer."""
    for place, colour in (("train/cat", 1), ("train/dog", 2), ("test/dog", 2)):
        pictures(tmp_path / place, colour)
    for place in ("train/bird", "val/cat", "__MACOSX", "train/.thumbs", "train/__MACOSX"):
        (tmp_path / place).mkdir(parents=True)
    pictures(tmp_path / "val" / "cat", 1)
    bundle = DATASETS["image_folder"](tmp_path, size=8)
    assert bundle.info.targets[0].classes == COLOURS
    assert bundle.train.labels[:, 0].tolist() == [1] * 3 + [2] * 3
    assert bundle.test is not None and bundle.test.labels[:, 0].tolist() == [2] * 3
    assert "'bird' (0)" in bundle.notes[0]


def test_empty_folders_alone_are_no_classes(tmp_path: Path) -> None:
    pictures(tmp_path, 0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    bundle = DATASETS["image_folder"](tmp_path, size=8)
    assert bundle.info.targets == () and bundle.notes == ()


def test_a_classifier_that_cannot_be_asked_is_left_to_the_attack(
    animals: Callable[..., Path],
) -> None:
    def broken(images: Tensor) -> Tensor:
        raise RuntimeError("no weights")

    training = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.BatchNorm1d(768), torch.nn.Linear(768, 9)
    )
    before = training[1].running_mean.clone()
    root = animals(cat=1, dog=2)
    for function in (broken, training, lambda images: "nothing"):
        assert open_examples(own(function), str(root)).classes == ("cat", "dog")
    assert torch.equal(training[1].running_mean, before)


def test_a_data_set_keeps_its_own_numbers() -> None:
    eleven = own(lambda images: torch.zeros(len(images), 11))
    found = open_examples(eleven, "digits", n=5)
    assert found.notes == ("the classifier gives 11 logits, digits has 10 classes",)
    assert int(found.labels.max()) <= 9


def test_a_class_of_any_name_stays_on_the_line_of_its_note() -> None:
    endless = "cat\nerror: a fault\x1b[2J" + "x" * 10_000
    found = match_classes(["a"], [endless], label="animals")
    assert found is not None and found.note is not None
    assert found.note.isprintable() and len(found.note) < 500
