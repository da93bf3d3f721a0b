"""Cards are drafted from models, agree with them, and are found out where they do not."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from paradise_cli import library
from paradise_cli.build import build_model
from paradise_cli.cli import app
from paradise_cli.core import yaml
from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.proportions import NORMAL_95, Proportion
from paradise_cli.hub.cards import read_card
from paradise_cli.inference.find_model import card_of_run
from paradise_cli.inference.loading import load
from paradise_cli.models.weights import save_model
from paradise_cli.recipe.schema import parse_resolved
from paradise_cli.verification import draft, measure
from paradise_cli.verification.compare import accuracies, compare, means

from .tiny_model import info_for, save_images, save_tiny, tiny_recipe

WORDS = {
    "summary": "Digits.", "licence": "apache-2.0", "intended_use": "Tests.", "limits": "All.",
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two short trainings that differ in their seed."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        # With three latents nothing is drawn.
        small = ["model.backbone.hidden=[8]", "model.latent_dim=3", "train.epochs=1"]
        # Of an epoch of 1,293 images, which is 20 steps of 64, it takes two.
        settings = [*small, "train.min_steps=21", f"train.seed={seed}"]
        library.train("digits", overrides=settings, out=folder / f"s{seed}", device="cpu")
    return folder


@pytest.fixture
def carded(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A zoo of one model, `mine`, with the card that was drafted for it."""
    monkeypatch.setattr(draft, "measured_by", lambda: "0.1.0")
    monkeypatch.setattr(measure, "attack_with", attacked)
    monkeypatch.setattr("paradise_cli.hub.cards.resource_dir", lambda kind: tmp_path)
    monkeypatch.chdir(tmp_path)
    card = tmp_path / "mine.yaml"
    card.write_text(yaml.dump(WORDS))
    attack = ["--suites", "quick", "--eps", "0.1", "--n", "8"]
    done = CliRunner().invoke(app, ["zoo", "card", str(runs / "s0"), "--out", str(card), *attack])
    assert done.exit_code == 0, done.output
    (tmp_path / "mine.safetensors").write_bytes((runs / "s0" / "model.safetensors").read_bytes())
    return card


def attacked(settings: Any, classifier: Any, images: Any, *more: Any, **others: Any) -> Any:
    """Attacks have tests of their own, and take their time: here every second image stands."""
    share = Proportion.of(len(images) // 2, len(images))
    return SimpleNamespace(robust_accuracy=share, verdict="not detected", rows=range(len(images)))


def values(card: Path) -> dict[str, Any]:
    return dict(yaml.parse(card.read_text(), "card").data)


def verified(*more: str) -> tuple[int, list[dict[str, Any]]]:
    result = CliRunner().invoke(app, ["zoo", "verify", "mine", "--json", *more])
    (found,) = json.loads(result.stdout)
    return result.exit_code, found["checks"]


def test_a_drafted_card_is_whole_and_agrees_with_its_model(carded: Path) -> None:
    found = read_card(values(carded), "mine")
    assert found.summary == WORDS["summary"] and found.trained_on == "digits"
    assert [metric.name for metric in found.metrics] == ["accuracy", "rate", "robust accuracy"]
    assert found.metrics[0].n == 360 and found.metrics[2].n == 8
    assert found.metrics[2].value == 0.5 and found.metrics[2].attack is not None
    assert found.metrics[2].attack.suite == "quick" and found.metrics[2].attack.eps == 0.1
    assert found.training is not None and found.training.epochs == 2
    assert found.training.forward == found.training.back == 1
    code, checks = verified("--attack")
    assert code == 0 and [check["holds"] for check in checks] == [True] * 3
    # The same model, images and seed: the same numbers, but for the card's rounding.
    for check in checks:
        assert check["found"]["value"] == pytest.approx(check["metric"]["value"], rel=1e-5)


def test_a_pull_verifies_if_it_is_asked_to(carded: Path) -> None:
    result = CliRunner().invoke(app, ["zoo", "pull", "mine", "--verify", "--json"])
    found = json.loads(result.stdout)
    assert result.exit_code == 0 and len(found["checks"]) == 3
    assert found["path"] == str(carded.with_suffix(".safetensors"))
    result = CliRunner().invoke(app, ["zoo", "pull", "mine", "--data", "digits=here"])
    assert result.exit_code == 2 and "add --verify" in result.stderr


def test_a_mistake_in_the_command_is_one(carded: Path) -> None:
    result = CliRunner().invoke(app, ["zoo", "verify", "mine", "--set", "data.nonsense=1"])
    assert result.exit_code == 2 and result.stderr.startswith("error: --set data.nonsense=1: ")


def test_robust_accuracies_are_measured_again_only_if_asked_for(carded: Path) -> None:
    code, checks = verified()
    assert code == 0 and [check["holds"] for check in checks] == [True, True, None]
    told = CliRunner().invoke(app, ["zoo", "verify", "mine"]).stderr
    assert "1 of 1 agree with their cards\n1 number under attack not measured again" in told


@pytest.mark.parametrize("command", ["verify mine", "diff mine mine", "card mine --out new.yaml"])
def test_ctrl_c_says_what_is_kept(
    carded: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def interrupted(*arguments: Any, **more: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("paradise_cli.verification.verify.load", interrupted)
    monkeypatch.setattr("paradise_cli.inference.loading.load", interrupted)
    result = CliRunner().invoke(app, ["zoo", *command.split()])
    assert result.exit_code == 130 and result.stderr.startswith("stopped: ")
    assert not Path("new.yaml").exists()


def test_a_card_as_json_is_the_card_that_was_written(
    carded: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def card(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["zoo", "card", *arguments])

    # A weights file of a run has its card where the run has it.
    found = json.loads(card(str(runs / "s0" / "model.safetensors"), "--json").stdout)
    assert found["path"] == str(runs / "s0" / "card.yaml")
    assert found["card"] == values(runs / "s0" / "card.yaml")
    assert found["to_be_written"] == [word for word in draft.WORDS if not found["card"][word]]
    for name in ("s0", "nowhere"):  # told before anybody looks for the model
        wrong = card(name, "--out", "card.txt")
        assert wrong.exit_code == 2 and "--out card.txt: end it in .yaml" in wrong.stderr


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"value": 0.01, "interval": [0.0, 0.02]}, "outside the card's interval"),
        ({"n": 100}, "other images than the card's"),
        ({"data": "cifar10, test"}, "other images than the card's"),
        ({"name": "distortion", "unit": "nats"}, "this model has no such number"),
    ],
)
def test_a_card_that_is_wrong_is_found_out(
    carded: Path, change: dict[str, Any], reason: str
) -> None:
    found = values(carded)
    found["metrics"][0] |= change
    carded.write_text(yaml.dump(found))
    code, checks = verified()
    assert code == 1 and checks[0]["holds"] is False and reason in checks[0]["reason"]


def test_a_model_that_cannot_be_verified_leaves_the_others(carded: Path) -> None:
    (carded.parent / "other.yaml").write_text(carded.read_text())
    (carded.parent / "other.safetensors").write_text("no weights")
    result = CliRunner().invoke(app, ["zoo", "verify", "--all"])
    assert result.exit_code == 1 and "other: cannot be verified" in result.stderr
    assert "mine" in result.stdout


def test_a_model_that_is_named_twice_is_measured_once(carded: Path) -> None:
    result = CliRunner().invoke(app, ["zoo", "verify", "mine", "mine", "--json"])
    (document,) = json.loads(result.stdout)
    assert document["name"] == "mine" and "1 of 1 agree" in result.stderr


def test_images_that_nobody_named_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["zoo", "verify", "cifar10-rn20"])
    assert done.exit_code == 1
    assert "measured on cifar10-jpeg75: say where that lies, --data cifar10-jpeg75=" in done.stderr
    # What needs no images is compared all the same.
    names = ["cifar10-rn20", "cifar10-rn20-paradise"]
    done = CliRunner().invoke(app, ["zoo", "diff", *names, "--json"])
    found = json.loads(done.stdout)
    assert done.exit_code == 0 and found["paired"] == [] and not found["same_weights"]
    assert found["recipe"] and "numbers are not compared: image_folder" in found["notes"][0]
    done = CliRunner().invoke(app, ["zoo", "diff", *names, "--data", "nowhere"])
    assert done.exit_code == 2
    (tmp_path / "cifar10-rn20").mkdir()
    done = CliRunner().invoke(app, ["predict", "a.png", "--model", "cifar10-rn20"])
    assert done.exit_code == 1 and "it hides the zoo's model of that name" in done.stderr
    done = CliRunner().invoke(app, ["zoo", "info", "cifar10-rn20@main"])
    assert done.exit_code == 2 and "models of the zoo have no revisions" in done.stderr


def test_a_folder_is_for_models_of_its_label(carded: Path) -> None:
    result = CliRunner().invoke(app, ["zoo", "verify", "mine", "--data", "digit=nowhere"])
    assert result.exit_code == 2 and "did you mean 'digits'?; their labels: digits" in result.stderr
    (carded.parent / "other.yaml").write_text(
        carded.read_text().replace("data: digits", "data: cifar10")
    )
    (carded.parent / "other.safetensors").write_text("no weights")
    # A folder of the other's data is not opened for this one.
    result = CliRunner().invoke(app, ["zoo", "verify", "--all", "--json", "--data", "cifar10=no"])
    mine, other = json.loads(result.stdout)
    assert mine["checks"][0]["holds"] and "error" in other
    result = CliRunner().invoke(app, ["zoo", "verify", "mine", "--all"])
    assert result.exit_code == 2 and "--all means all models: leave it out" in result.stderr
    result = CliRunner().invoke(app, ["zoo", "verify", "mine", "--data", "nowhere"])
    assert result.exit_code == 2 and "--data nowhere: write LABEL=FOLDER" in result.stderr


def test_a_card_drafted_anew_keeps_what_is_still_true(carded: Path, runs: Path) -> None:
    def drafted(model: Path, *more: str) -> tuple[list[str], str]:
        words = ["zoo", "card", str(model), "--out", str(carded), *more]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.stderr
        found = read_card(values(carded), "mine").metrics
        return [metric.title for metric in found], done.stderr

    quick, fast = (f"robust accuracy under {suite}, linf 0.1" for suite in ("quick", "fast"))
    assert drafted(runs / "s0")[0][2:] == [quick]
    both = drafted(runs / "s0", "--suites", "fast", "--eps", "0.1", "--n", "8")[0][2:]
    assert both == [fast, quick]
    # Measured anew it stands once.
    again = drafted(runs / "s0", "--suites", "quick", "--eps", "0.1", "--n", "8")[0][2:]
    assert again == [quick, fast]
    titles, said = drafted(runs / "s1")
    assert titles[2:] == [] and "left out: 2 numbers under attack, of the other weights" in said


def test_a_card_replaces_nothing_but_a_card(runs: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_bytes((runs / "s0" / "recipe.yaml").read_bytes())
    before = recipe.read_bytes()
    for more, said in {
        ("--out", str(recipe)): "is no card, it has 'data': choose another --out",
        ("--eps", "0.1"): "--eps is for attacks: name them by --suites",
        ("--n", "8"): "--n is for attacks",
    }.items():
        done = CliRunner().invoke(app, ["zoo", "card", str(runs / "s0"), *more])
        assert done.exit_code == 2 and said in done.stderr
    assert recipe.read_bytes() == before
    # The card of a run is of its last weights.
    assert card_of_run(runs / "s0" / "model.safetensors") == runs / "s0" / "card.yaml"
    best = runs / "s0" / "checkpoints" / "best.safetensors"
    assert card_of_run(best) == best.with_suffix(".yaml")


def test_a_card_may_tell_of_other_images_than_the_model_learned_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draft, "measured_by", lambda: "0.1.0")
    monkeypatch.setattr("paradise_cli.hub.cards.resource_dir", lambda kind: tmp_path)
    model = save_tiny(tmp_path / "mine.safetensors")
    # Of the model's own kind, and one more image here than there.
    photos, others = (save_images(tmp_path / name, 12 + (name == "b")) for name in "ab")
    card = tmp_path / "mine.yaml"
    chosen = {"recipe": "mine", "default_for": ["any"], "default_to": ["encode"]}
    card.write_text(yaml.dump(WORDS | chosen))
    given = [f"data.root={photos}", "data.label=photos"]
    sets = [word for text in given for word in ("--set", text)]
    done = CliRunner().invoke(app, ["zoo", "card", str(model), "--out", str(card), *sets])
    assert done.exit_code == 0, done.output
    assert chosen.items() <= values(card).items()
    # Its own label is that of no images it was measured on.
    assert values(card)["trained_on"] == "image_folder"
    code, checks = verified("--data", f"photos={photos}")
    assert code == 0 and all(check["holds"] for check in checks)
    code, checks = verified("--data", f"photos={others}")
    # 5 of 13 lie in `cat` and 4 in `dog`; the others have no class.
    assert code == 1 and "n = 9: other images than the card's" in checks[0]["reason"]


def test_each_of_several_tasks_is_verified_by_its_own_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draft, "measured_by", lambda: "0.1.0")
    monkeypatch.setattr("paradise_cli.hub.cards.resource_dir", lambda kind: tmp_path)
    label, pixels = tiny_recipe().resolved()["objective"]["tasks"]
    tasks = [label | {"name": name} for name in ("one", "two")]
    tasks += [pixels | {"name": name} for name in ("first", "second")]
    model = save_tasks(tmp_path / "mine.safetensors", *tasks)
    photos = save_images(tmp_path / "photos", 12)
    card = tmp_path / "mine.yaml"
    card.write_text(yaml.dump(WORDS))
    given = ["--set", f"data.root={photos}"]
    done = CliRunner().invoke(app, ["zoo", "card", str(model), "--out", str(card), *given])
    assert done.exit_code == 0, done.output
    whole = values(card)
    titles = [metric.title for metric in read_card(whole, "mine").metrics]
    kinds = ["accuracy (one)", "accuracy (two)", "distortion (first)", "distortion (second)"]
    assert titles == [*kinds, "rate"]
    code, checks = verified(*given)
    assert code == 0 and [check["holds"] for check in checks] == [True] * 5
    found = [check["found"]["value"] for check in checks]
    assert found == pytest.approx([metric["value"] for metric in whole["metrics"]], rel=1e-5)
    assert found[2] != pytest.approx(found[3], rel=1e-3)
    # Whose it is cannot be guessed, and none of another task is taken for it.
    first, *rest = whole["metrics"]
    for changed, said in (
        ({key: first[key] for key in first if key != "task"}, "of which task this is: one, two"),
        (first | {"task": "three"}, "this model has no such number"),
    ):
        card.write_text(yaml.dump(whole | {"metrics": [changed, *rest]}))
        code, checks = verified(*given)
        assert code == 1 and said in checks[0]["reason"] and checks[1]["holds"]
    with pytest.raises(ParadiseError, match="a rate is that of all tasks together"):
        read_card(whole | {"metrics": [*rest[:-1], rest[-1] | {"task": "one"}]}, "mine")


def test_a_card_may_name_the_one_task(carded: Path) -> None:
    """Of its own accord it does not: cards of before are what they were."""
    whole = values(carded)
    assert not any("task" in metric for metric in whole["metrics"])
    for task, holds in (("cross_entropy", True), ("other", False)):
        named = [m if m["name"] == "rate" else m | {"task": task} for m in whole["metrics"]]
        carded.write_text(yaml.dump(whole | {"metrics": named}))
        assert [check["holds"] for check in verified("--attack")[1]] == [holds, True, holds]


def test_a_card_without_words_is_none(carded: Path) -> None:
    with pytest.raises(ParadiseError, match="limits: should not be empty"):
        read_card(values(carded) | {"limits": ""}, "mine")


def test_changed_code_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draft, "commit", lambda: "0" * 40 + "+changes")
    with pytest.raises(ParadiseError, match="commit first"):
        draft.measured_by()


def test_a_difference_of_accuracies_is_that_of_exact_mcnemar() -> None:
    """Three images that only the first has right, of ten: p = 2 / 2^3. With d > 0 the upper end,
    the likeliest share of such images is q = (sqrt(B^2 + 24 d (1 - d) n) - B) / 4n with
    B = (2n + 3) d - 3, and (n d + 3)^2 = z^2 n (2 q + d (1 - d)).
    """
    first = torch.tensor([True] * 8 + [False] * 2)
    second = first.clone()
    second[:3] = False
    found = accuracies(first, second)
    assert found.difference == pytest.approx(-0.3) and found.p == pytest.approx(0.25)
    low, high = found.interval
    n, b = 10, (2 * 10 + 3) * high - 3
    q = (math.sqrt(b * b + 24 * high * (1 - high) * n) - b) / (4 * n)
    assert (n * high + 3) ** 2 == pytest.approx(NORMAL_95**2 * n * (2 * q + high * (1 - high)))
    back = accuracies(second, first)
    assert back.interval == pytest.approx((-high, -low)) and back.only == (0, 3)


def test_models_that_agree_on_all_images_may_still_differ() -> None:
    right = torch.ones(100, dtype=torch.bool)
    found = accuracies(right, right)
    # Without a differing image q = 0, and n^2 d^2 = z^2 n d (1 - d).
    most = NORMAL_95**2 / (100 + NORMAL_95**2)
    assert found.difference == 0 and found.p == 1
    assert found.interval == pytest.approx((-most, most))


def test_means_are_compared_image_by_image() -> None:
    first = torch.tensor([1.0, 50.0, 7.0], dtype=torch.float64)
    found = means("distortion", "nats", first, first + 2)
    assert found.difference == pytest.approx(2) and found.interval == pytest.approx((2, 2))


def test_a_model_does_not_differ_from_itself_but_from_another(runs: Path) -> None:
    found = {}
    for other in ("s0", "s1"):
        names = [str(runs / "s0"), str(runs / other)]
        result = CliRunner().invoke(app, ["zoo", "diff", *names, "--json"])
        assert result.exit_code == 0, result.output
        found[other] = json.loads(result.stdout)
    assert found["s0"]["recipe"] == [] and found["s0"]["same_weights"]
    assert [pair["difference"] for pair in found["s0"]["paired"]] == [0, 0]
    assert found["s1"]["recipe"] == [["train.seed", 0, 1]] and not found["s1"]["same_weights"]


def save_tasks(path: Path, *tasks: dict[str, Any]) -> Path:
    """A small model of these tasks, with freshly drawn weights."""
    stored = tiny_recipe().resolved()
    stored["objective"]["tasks"] = list(tasks)
    recipe = parse_resolved(stored, "a test")
    info = info_for(recipe)
    metadata = {"recipe": recipe.resolved(), "data": info.to_json(), "provenance": {"step": 0}}
    save_model(path, build_model(recipe, info), metadata)
    return path


def test_numbers_of_different_units_have_no_difference(tmp_path: Path) -> None:
    """Squared errors and nats of one and the same task; of accuracies there are none."""
    (task,) = tiny_recipe(classifier=False).resolved()["objective"]["tasks"]
    models = []
    for name in ("squared_error", "bernoulli", "squared_error"):
        path = tmp_path / f"{len(models)}.safetensors"
        models.append(load(save_tasks(path, task | {"distortion": {"name": name}})))
    images = str(save_images(tmp_path / "images", 6))
    found = compare(models[0], models[1], images)
    assert found.paired == ()
    assert any("squared error of pixels and nats of pixels" in text for text in found.notes)
    (pair,) = compare(models[0], models[2], images).paired
    assert (pair.name, pair.unit, pair.n) == ("distortion (picture)", "squared error", 6)


def test_of_unlabelled_images_recipe_and_weights_alone_are_compared(
    runs: Path, tmp_path: Path
) -> None:
    for number in range(4):
        Image.new("L", (8, 8), number * 60).save(tmp_path / f"{number}.png")
    names = [str(runs / "s0"), str(runs / "s1"), "--data", str(tmp_path)]
    result = CliRunner().invoke(app, ["zoo", "diff", *names, "--json"])
    found = json.loads(result.stdout)
    assert result.exit_code == 0 and found["paired"] == [] and not found["same_weights"]
    assert any("no image has a label" in note for note in found["notes"])
