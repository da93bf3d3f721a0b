"""What is pushed is what the card and the weights say, in one commit; what cannot be is refused."""

import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import yaml
from huggingface_hub import ModelCard, ModelCardData, parse_eval_result_entries
from typer.testing import CliRunner

import paradise_cli
from paradise_cli.cli import app
from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.storage import file_digest, load_metadata, load_tensors
from paradise_cli.core.yaml import dump
from paradise_cli.hub import ask, client, page
from paradise_cli.hub.cards import Card, card, card_file, packaged_file, zoo_names
from paradise_cli.hub.pull import card_of, pull
from paradise_cli.inference.pushing import prepare_push
from tests.fake_hub import FakeHub, running
from tests.tiny_model import save_tiny


def write_card(run: Path, **changes: Any) -> Card:
    """A card of a run's weights, with two kinds of data and text that YAML and Markdown mark."""
    weights = run / "model.safetensors"
    whole = card("cifar10-rn20").model_dump(mode="json", exclude_none=True)
    other = whole["metrics"][0] | {"data": "photos | mine", "value": 1e-05, "interval": [0, 1]}
    whole |= {
        "trained_on": load_metadata(weights)["data"]["label"],
        "summary": "on: a test\n---\n# no heading",
        "packaged": {"sha256": file_digest(weights), "bytes": weights.stat().st_size},
        "metrics": [*whole["metrics"], other],
    }
    path = run / "card.yaml"
    path.write_text(dump(whole | changes), encoding="utf-8")
    return card_file(path)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """As `paradise train` leaves it, with a card."""
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    save_tiny(folder / "model.safetensors")
    (folder / "recipe.yaml").write_text("name: tiny\n")
    write_card(folder)
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setenv("PARADISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))  # nobody's token
    monkeypatch.setenv("HF_TOKEN", "of the environment")
    monkeypatch.chdir(tmp_path)
    with running() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def zoo(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["zoo", *arguments])


def test_what_is_pushed_is_pulled_again_bit_by_bit(hub: FakeHub, run: Path) -> None:
    planned = zoo("push", "runs/mine", "org/model", "--dry-run", "--json")
    assert hub.asked == [] and planned.exit_code == 0
    result = zoo("push", "runs/mine", "org/model")
    assert result.exit_code == 0 and hub.commits == 1
    assert result.stdout == f"{hub.commit}\n"
    assert f"next: paradise zoo pull org/model@{hub.commit}\n" in result.stderr
    # What was planned is what came, to the byte.
    sent = [{"path": path, "bytes": len(content)} for path, content in hub.files.items()]
    shown = json.loads(planned.stdout)["files"]
    assert sorted(shown, key=str) == sorted(sent, key=str)
    assert {"model.safetensors", "config.json", "README.md"} < {each["path"] for each in sent}
    found = pull(f"org/model@{hub.commit}")
    assert found.path.read_bytes() == (run / "model.safetensors").read_bytes()
    # The author's file is the reader's by another way, and is called as it is called here.
    name, own = f"org/model@{hub.commit}", card_file(run / "card.yaml")
    theirs = card_of(name)
    assert own.packaged is not None and theirs.packaged is None and theirs.hub is not None
    assert theirs.hub.files == {"model.safetensors": own.packaged}
    assert (theirs.hub.repo, theirs.hub.revision) == ("org/model", hub.commit)
    commands = [metric.command for metric in theirs.metrics]
    assert commands == [each.command.replace("cifar10-rn20", name) for each in own.metrics]
    assert "packaged" not in zoo("info", name).stdout
    assert "cifar10-rn20" not in hub.files["README.md"].decode()
    hub.asked.clear()
    again = pull(f"org/model@{hub.commit}")
    assert again.path.read_bytes() == found.path.read_bytes() and hub.asked == []
    assert paradise_cli.load(f"org/model@{hub.commit}").model.latent_dim == 3


def test_the_same_again_makes_no_commit_and_another_card_takes_its_results_along(
    hub: FakeHub, run: Path
) -> None:
    hub.files = {"README.md": b"old", ".eval_results/others.yaml": b"theirs"}
    assert zoo("push", "runs/mine", "org/model").exit_code == 0
    again = zoo("push", "runs/mine", "org/model", "--json")
    assert hub.commits == 1 and json.loads(again.stdout)["new"] is False
    metrics = write_card(run).model_dump(mode="json", exclude_none=True)["metrics"]
    write_card(run, metrics=metrics[:1])
    assert "pushed; " in zoo("push", "runs/mine", "org/model").stderr and hub.commits == 2
    results = [name for name in hub.files if name.startswith(".eval_results/")]
    assert sorted(results) == [
        ".eval_results/others.yaml",
        ".eval_results/paradise-1-accuracy.yaml",
    ]


def test_the_client_reads_the_metrics_of_the_card(run: Path) -> None:
    wanted = card_file(run / "card.yaml").called("org/model").metrics
    texts = prepare_push(run, "org/model").texts
    data = ModelCard(texts["README.md"]).data.to_dict()
    assert data["library_name"] == "paradise" and data["license"] == "apache-2.0"
    assert data["pipeline_tag"] == "image-classification" and data["datasets"]
    (index,) = data["model-index"]
    assert index["name"] == "model"
    shown = {
        (each["dataset"]["name"], metric["name"]): (metric["value"], metric["args"])
        for each in index["results"]
        for metric in each["metrics"]
    }
    entries = [
        parse_eval_result_entries(yaml.safe_load(text))
        for name, text in texts.items()
        if name.startswith(".eval_results/")
    ]
    assert len(shown) == len(entries) == len(wanted)
    for metric, (entry,) in zip(wanted, entries, strict=True):
        value, args = shown[metric.data.partition(", ")[0], metric.title]
        assert value == entry.value == metric.value
        assert args["interval"] == [*metric.interval] and args["command"] == metric.command
        assert (args["n"], args["seed"], args["commit"]) == (metric.n, metric.seed, metric.commit)
        for said in (f"n = {metric.n}", f"seed {metric.seed}", metric.commit, metric.command):
            assert said in (entry.notes or "")
        if metric.attack is not None:
            assert args["attack"] == metric.attack.model_dump()
            assert f"masking {metric.attack.verdict}" in (entry.notes or "")


@pytest.mark.parametrize(
    ("data", "label", "split"),
    [
        ("cats, dogs, test", "cats, dogs", "test"),
        ("all of my-photos", "my-photos", None),
        ("all of cats, dogs", "cats, dogs", None),
        ("cats, dogs.npz", "cats, dogs.npz", None),
    ],
)
def test_results_are_of_the_data_that_were_measured_on(
    run: Path, data: str, label: str, split: str | None
) -> None:
    with_first_metric(run, data=data)
    found = card_file(run / "card.yaml")
    first = page.results(found)[0]
    assert (first.dataset_name, first.dataset_split) == (label, split)
    assert page.entry(found.metrics[0]).dataset_id == first.dataset_type
    assert first.dataset_type == label.replace(", ", "-") and found.metrics[0].label == label


def test_the_tasks_of_a_model_are_told_apart(run: Path) -> None:
    first, *_ = yaml.safe_load((run / "card.yaml").read_text())["metrics"]
    both = [first | {"task": task} for task in ("smile", "hat")]
    edit(run / "card.yaml", metrics=json.loads(json.dumps(both)))  # without aliases
    texts = prepare_push(run, "org/model").texts
    results = [name for name in texts if name.startswith(".eval_results/")]
    assert [name.rpartition("-")[2] for name in results] == [
        "accuracy_smile.yaml",
        "accuracy_hat.yaml",
    ]
    (index,) = ModelCard(texts["README.md"]).data.to_dict()["model-index"]
    (found,) = index["results"]
    names = ["accuracy (smile)", "accuracy (hat)"]
    assert [metric["name"] for metric in found["metrics"]] == names
    assert [metric["args"]["task"] for metric in found["metrics"]] == ["smile", "hat"]
    assert all(f"| {name} |" in texts["README.md"] for name in names)


def test_the_page_says_what_people_ask_for(run: Path) -> None:
    found = card_file(run / "card.yaml").called("org/model")
    text = ModelCard(prepare_push(run, "org/model").texts["README.md"]).text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    # The head, the line below it, and a row a metric; a bar within a cell is no border.
    assert len(rows) == 2 + len(found.metrics)
    assert {row.replace(r"\|", "").count("|") for row in rows} == {10}
    for metric, row in zip(found.metrics, rows[2:], strict=True):
        assert metric.command in row and metric.shown(metric.value) in row
    for said in (found.limits, found.intended_use, "paradise zoo pull org/model"):
        assert said.strip() in text
    assert "proceedings.mlr.press/v119/hoang20a.html" in text


@pytest.mark.parametrize("name", [each for each in zoo_names() if packaged_file(each)])
def test_packaged_models_can_be_pushed_with_their_own_cards(name: str) -> None:
    ready = prepare_push(name, f"org/{name}")
    assert card(name).limits.strip() in ready.texts["README.md"] and ready.content is None


def test_a_model_without_classes_is_not_said_to_predict(run: Path) -> None:
    metrics = card_file(run / "card.yaml").model_dump(mode="json", exclude_none=True)["metrics"]
    write_card(run, metrics=[each for each in metrics if each["name"] == "rate"])
    read = ModelCard(prepare_push(run, "org/model").texts["README.md"])
    assert read.data.to_dict()["pipeline_tag"] == "image-feature-extraction"
    assert "encode photos/ --model org/model" in read.text and "predict" not in read.text


def test_a_page_that_the_client_would_not_read_is_not_sent(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What it writes where results are set after its data are made: no name.
    data = ModelCardData()
    data.eval_results = page.results(card_file(run / "card.yaml"))
    monkeypatch.setattr(page, "_front_matter", lambda card, repo: data.to_yaml())
    with pytest.raises(ParadiseError, match=r"README\.md: the Hub's client cannot read it back"):
        prepare_push(run, "org/model")


def test_folders_of_this_machine_are_left_out_of_all_that_is_sent(
    hub: FakeHub, run: Path, tmp_path: Path
) -> None:
    save_tiny(run / "model.safetensors", root=str(tmp_path / "pictures"))
    write_card(run)
    before = (run / "model.safetensors").read_bytes()
    result = zoo("push", str(run), "org/model")
    assert "the weights name folders of this machine, which are left out" in result.stderr
    assert not any(str(tmp_path).encode() in content for content in hub.files.values())
    name = f"org/model@{hub.commit}"
    sent = pull(name).path
    assert (run / "model.safetensors").read_bytes() == before
    own, theirs = load_tensors(run / "model.safetensors"), load_tensors(sent)
    assert own[0].keys() == theirs[0].keys()
    assert all(torch.equal(own[0][key], theirs[0][key]) for key in own[0])
    assert theirs[1]["recipe"]["data"]["root"] is None
    on_hub = card_of(name).hub
    assert on_hub is not None
    assert on_hub.files["model.safetensors"].sha256 == file_digest(sent)
    # The same again is the same to the byte.
    assert zoo("push", str(run), "org/model").exit_code == 0 and hub.commits == 1


def without_metrics(run: Path) -> None:
    edit(run / "card.yaml", metrics=[])


def without_verdict(run: Path) -> None:
    metrics = yaml.safe_load((run / "card.yaml").read_text())["metrics"]
    del metrics[2]["attack"]
    edit(run / "card.yaml", metrics=metrics)


def with_first_metric(run: Path, **changes: Any) -> None:
    first, *rest = yaml.safe_load((run / "card.yaml").read_text())["metrics"]
    edit(run / "card.yaml", metrics=[first | changes, *rest])


def edit(path: Path, **changes: Any) -> None:
    path.write_text(dump(yaml.safe_load(path.read_text()) | changes), encoding="utf-8")


def untrained(run: Path) -> None:
    text = ("summary", "recipe", "trained_on", "licence", "limits", "intended_use")
    values = dict.fromkeys(text, "x") | {"status": "not yet trained", "gpu_hours": 1.0}
    (run / "card.yaml").write_text(dump(values))


def damaged(run: Path) -> None:
    weights = run / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    write_card(run)


def unfinished(run: Path) -> None:
    (run / "checkpoints").mkdir()
    (run / "model.safetensors").rename(run / "checkpoints" / "best.safetensors")


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda run: (run / "card.yaml").unlink(), "there is no card, which says what was measured"
         ": `paradise zoo card runs/mine` drafts one, or name yours by --card (in"),
        (lambda run: (run / "card.yaml").write_bytes(b"\xff"), "the card cannot be read"),
        (without_metrics, "a trained model has a file, metrics"),
        (without_verdict, "metrics.2: a robust accuracy, and nothing else, has an"),
        (untrained, "the card says 'not yet trained'; a model is pushed once it is"),
        (lambda run: with_first_metric(run, command="rm -r x"), "metrics.0.command: should be a"),
        (lambda run: with_first_metric(run, command="paradise evaluate x; rm -r x"),
         "metrics.0.command: should be a command, paradise evaluate or paradise attack with"),
        (lambda run: with_first_metric(run, interval=[-5.0, 9.0]),
         "metrics.0: accuracies are shares, from 0 to 1, not -5.0 to 9.0"),
        (lambda run: save_tiny(run / "model.safetensors", decoder=False),
         "is the card of other weights than"),
        (lambda run: write_card(run, trained_on="cifar10"),
         "trained_on is 'cifar10', and runs/mine/model.safetensors says 'image_folder'"),
        (damaged, "is damaged or was not written by PARADISE"),
        (unfinished, "the training has not finished, and only a finished run is pushed; go on"),
    ],
)  # fmt: skip
def test_what_is_not_ready_is_refused_and_nobody_asked(
    hub: FakeHub, run: Path, break_it: Callable[[Path], object], message: str
) -> None:
    break_it(run)
    result = zoo("push", "runs/mine", "org/model")
    assert result.exit_code == 1 and message in result.stderr
    assert result.stderr.count("\n") == 1 and hub.asked == []


def test_names_with_signs_of_the_shell_stand_in_quotes(run: Path) -> None:
    with_first_metric(run, command=f"paradise evaluate {shlex.quote('a & b/it is; c')}")
    assert prepare_push(run, "org/model").repo == "org/model"


@pytest.mark.parametrize(
    ("card", "message"),
    [("no.yaml", "no.yaml: the card cannot be read: No such file"), (".", "cannot be read: Is a")],
)
def test_a_card_that_is_not_there_is_the_one_that_was_named(
    run: Path, card: str, message: str
) -> None:
    with pytest.raises(ParadiseError, match=message):
        prepare_push(run, "org/model", card)


def test_nor_are_the_best_weights_of_an_unfinished_run(run: Path) -> None:
    unfinished(run)
    with pytest.raises(ParadiseError, match="the training has not finished"):
        prepare_push(run / "checkpoints" / "best.safetensors", "org/model")


@pytest.mark.parametrize("name", ["model", "org/a/b", "org/model@main", "org/a--b", "/model"])
def test_a_name_that_is_no_repository_is_refused(run: Path, name: str) -> None:
    result = zoo("push", str(run), name, "--dry-run")
    assert result.exit_code == 2 and "write where to push as org/repo (" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("unknown token", "takes no push with this token, which is unknown or expired"),
        ("no right", "is not yours to write: ask its owner for access"),
        ("licence", 'cannot be written: Invalid metadata in README.md. - "license" must be one of'),
        ("html", "cannot be written: the Hub answers with something else than JSON; try again"),
        ("500", "cannot be written: the Hub answers 500; try again later"),
        ("gone", "cannot be reached (ConnectError): check the network, then try again"),
        ("public", "is there and public: make it private on its page, or leave out --private"),
    ],
)
def test_a_fault_of_a_push_has_its_message_and_no_commit(
    hub: FakeHub, run: Path, monkeypatch: pytest.MonkeyPatch, fault: str, message: str
) -> None:
    # In this process, as starting another takes most of the time of a push.
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
    hub.fault = fault
    if fault == "gone":
        with running() as gone:
            monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", gone.url)
    elif fault == "public":
        hub.files = {"README.md": b"old"}
    files = {"README.md": str(run / "card.yaml"), "model.safetensors": str(run / "recipe.yaml")}
    asked = {"repo": "org/model", "private": fault == "public", "files": files, "ours": ".eval"}
    with pytest.raises(Exception) as error:
        client.push(asked | {"message": "test"})
    assert (client.said(error.value, True) or "").startswith(message)
    assert hub.commits == 0


def test_without_a_token_nobody_is_asked(
    hub: FakeHub, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    result = zoo("push", "runs/mine", "org/model")
    assert result.exit_code == 1 and hub.asked == []
    told = "error: org/model can be written only with a token: `hf auth login`\n"
    assert result.stderr == told


def test_a_push_that_stalls_is_cut(
    hub: FakeHub, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ask, "STALLED", 1.0)
    monkeypatch.setattr(ask, "AGAIN", 0.5)
    hub.fault = "stalled push"
    with pytest.raises(ParadiseError, match="nothing came from the Hub for 1 seconds, and again"):
        prepare_push(run, "org/model").send()
    assert hub.commits == 0


def test_a_model_pushes_itself_with_the_token_that_it_is_given(hub: FakeHub, run: Path) -> None:
    model = paradise_cli.load(run)
    pushed = model.push_to_hub("org/model", private=True, token="of the call")
    assert pushed.new and pushed.commit == hub.commit and hub.private
    assert hub.tokens == {"Bearer of the call"}
    assert hub.files["model.safetensors"] == (run / "model.safetensors").read_bytes()
    next(model.model.parameters()).zero_()
    with pytest.raises(ParadiseError, match="the weights were changed since they were read"):
        model.push_to_hub("org/model")
    assert hub.commits == 1
