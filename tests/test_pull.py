"""What is pulled is what it should be, at one commit; whatever fails ends in one message."""

import errno
import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import paradise_cli
from paradise_cli.cli import app
from paradise_cli.core import temporary
from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.resources import resource_dir
from paradise_cli.core.storage import load_metadata
from paradise_cli.core.yaml import dump
from paradise_cli.hub import ask, client
from paradise_cli.hub.cards import card, card_file, packaged_file, read_card, zoo_names
from paradise_cli.hub.pull import cached, plan, pull
from paradise_cli.hub.records import hub_cache
from paradise_cli.hub.removal import remove
from paradise_cli.recipe.files import shipped_recipes
from tests.fake_hub import COMMIT, FakeHub, running
from tests.tiny_model import save_tiny


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return save_tiny(tmp_path_factory.mktemp("tiny") / "model.safetensors").read_bytes()


@pytest.fixture
def hub(weights: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setenv("PARADISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))  # nobody's token
    monkeypatch.chdir(tmp_path)
    with running() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.files = {"model.safetensors": weights, "config.json": b"{}"}
        yield hub


def test_a_pull_is_verified_and_a_second_one_asks_nobody(hub: FakeHub, weights: bytes) -> None:
    found = pull("org/model")
    assert found.origin == "hub" and found.path.read_bytes() == weights
    assert found.revision == COMMIT and found.bytes == len(weights)
    # By requests for this one the Hub counts downloads.
    assert any("config.json" in asked for asked in hub.asked)
    hub.asked.clear()
    for name in ("org/model", f"org/model@{COMMIT}", "org/model@main"):
        again = pull(name, offline=True)
        assert (again.origin, again.path) == ("cache", found.path)
        assert cached(name) == found.path
    assert hub.asked == []


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("truncated", "org/model cannot be reached (RemoteProtocolError): check the network"),
        ("reset", "org/model cannot be reached (ReadError): check the network"),
        ("wrong bytes", "org/model: config.json and model.safetensors came twice with another"),
        ("html", "org/model cannot be had: more comes than the 2 bytes it should have"),
        ("404", "org/model lacks the file; it is no model of PARADISE's"),
        ("gated", "org/model is gated: ask for access on its page, then `hf auth login`"),
        ("private", "org/model does not exist, or is private: check the name, or `hf auth"),
        ("no revision", "org/model has no such revision; look at its page"),
        ("unknown token", "org/model wants a token, or does not know yours: `hf auth login`"),
        ("500", "org/model cannot be had: the Hub answers 500; try again later"),
        ("dropped", "org/model cannot be reached (RemoteProtocolError): check the network"),
        ("refused", "org/model cannot be reached (ConnectError): check the network"),
        ("offline", "org/model is not asked for where HF_HUB_OFFLINE is set; unset it"),
        ("portal", "org/model cannot be had: the Hub answers with something else than JSON; try"),
        ("redirect", "org/model cannot be had: more comes than the 2 bytes it should have"),
        ("no digest", "org/model cannot be had: the Hub's ETag is neither a digest nor a commit"),
        ("full", "org/model cannot be kept: so large a file is not allowed in"),
        ("stalled", "org/model: nothing came from the Hub for 1 seconds, and again for 0.5 over"),
    ],
)
def test_a_fault_is_one_message_and_the_next_pull_heals(
    hub: FakeHub, weights: bytes, monkeypatch: pytest.MonkeyPatch, fault: str, message: str
) -> None:
    if fault == "stalled":
        monkeypatch.setattr(ask, "STALLED", 1.0)
        monkeypatch.setattr(ask, "AGAIN", 0.5)
    hub.fault = fault
    with monkeypatch.context() as patch, pytest.raises(ParadiseError) as error:
        if fault == "refused":
            with running() as gone:
                patch.setenv("HF_ENDPOINT", gone.url)
        if fault == "offline":
            patch.setenv("HF_HUB_OFFLINE", "1")
        # Like a full disk, for files of more than 4 KiB.
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        if fault == "full":
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        try:
            pull("org/model")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(error.value).startswith(message) and str(error.value).isprintable()
    assert not list(hub_cache().rglob("model.safetensors")) and cached("org/model") is None
    assert not list(hub_cache().rglob("*.incomplete"))
    hub.fault = None
    assert pull("org/model").path.read_bytes() == weights


def test_a_damaged_card_is_fetched_anew(hub: FakeHub, weights: bytes) -> None:
    hub.files["card.yaml"] = b"summary: A model.\n"
    path = pull("org/model").path
    card_path = path.with_name("card.yaml")
    card_path.write_bytes(b"summary: Another.\n")
    # Whoever asks nobody takes nothing away either.
    assert pull("org/model", offline=True).origin == "cache" and card_path.exists()
    assert (plan("org/model").origin, plan("org/model").bytes) == ("hub", 18)
    assert pull("org/model").origin == "hub"
    assert card_path.read_bytes() == hub.files["card.yaml"]
    assert path.read_bytes() == weights


def test_a_dry_run_keeps_nothing_of_what_it_asked(hub: FakeHub, tmp_path: Path) -> None:
    assert (plan("org/model").origin, plan("org/model").revision) == ("hub", COMMIT)
    assert not list(tmp_path.rglob("*.json"))
    with pytest.raises(ParadiseError, match="was not pulled"):
        remove("org/model")
    # A pull that failed before its first file has recorded what the branch meant.
    hub.fault = "404"
    with pytest.raises(ParadiseError):
        pull("org/model")
    assert list(tmp_path.rglob(f"{COMMIT}.json"))
    with pytest.raises(ParadiseError, match=r"org/model@dev was not pulled, only nothing of"):
        remove("org/model@dev")
    remove("org/model@main")
    assert not list(tmp_path.rglob("*.json"))


def test_one_drop_is_survived(hub: FakeHub, weights: bytes) -> None:
    hub.fault = "truncated once"
    assert pull("org/model").path.read_bytes() == weights


def test_a_file_that_was_damaged_later_is_fetched_anew(hub: FakeHub, weights: bytes) -> None:
    path = pull("org/model").path
    path.resolve().write_bytes(bytes(len(weights)))
    assert cached("org/model") is None
    assert pull("org/model").origin == "hub" and path.read_bytes() == weights


def test_two_pulls_at_once_both_succeed(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    # Longer than the patience: who waits for the other one is not taken for stalled.
    monkeypatch.setattr(ask, "STALLED", 2.5)
    hub.files["model.safetensors"], hub.fault = bytes(2**20), "slow"
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(pull, ["org/model", "org/model"]))
    assert found[0].path == found[1].path
    assert found[0].path.read_bytes() == hub.files["model.safetensors"]
    sent = [asked for asked in hub.asked if asked.startswith("GET") and "safetensors" in asked]
    assert len(sent) == 1


def test_what_a_killed_pull_left_is_gone_after_one_that_fetches_nothing(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    pull("org/model")
    records = hub_cache() / "records" / "org--model"
    (records / ".main.0123abcd.tmp").mkdir()
    monkeypatch.setattr(temporary, "_swept", set())  # as in the next process
    assert pull("org/model").origin == "cache"
    assert not list(records.glob(".*"))


def test_a_commit_is_that_commit(hub: FakeHub) -> None:
    other = "f" * 40
    with pytest.raises(ParadiseError, match=f"names another commit, or none, for {other}"):
        pull(f"org/model@{other}")
    assert not hub_cache().exists()


def test_a_cache_that_cannot_be_written_is_said(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PARADISE_CACHE", str(tmp_path / "file"))
    with pytest.raises(ParadiseError, match="file/hub cannot be used: Not a directory"):
        pull("org/model")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left", "/c/x"), "is full, free space for /c/x; or"),
        (
            PermissionError(errno.EACCES, "denied", "/c/x"),
            "there is no permission to write to /c/x",
        ),
    ],
)
def test_what_the_client_cannot_keep_is_said(error: OSError, message: str) -> None:
    assert message in str(client.said(error, False))


def test_the_client_ends_with_who_asks(hub: FakeHub) -> None:
    hub.fault = "silent"
    request = {"what": "look", "repo": "org/model", "revision": "main"}
    command = [sys.executable, "-m", client.__name__, json.dumps(request)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["pull", "org/model", "--offline"], 1, "was not pulled yet, and --offline asks nobody"),
        (["pull", "cifar10-rn2"], 2, "no model of the zoo; did you mean 'cifar10-rn20'?"),
        (["pull", f"{'a' * 300}/b"], 2, "no model of the zoo"),
        (["pull", "a/b/c"], 2, "a/b/c: no model of the zoo"),
        (["pull", "some/folder"], 2, "some/folder is a folder or file here"),
        (["pull", "celeba-mse"], 1, "not yet trained: `paradise train celeba_mse` would take"),
        (["diff", "celeba-mse", "x"], 1, "not yet trained: `paradise train celeba_mse` would"),
        (["info", "org/model"], 1, "org/model was not pulled: paradise zoo pull org/model"),
        (["info", "some/folder"], 2, "some/folder is a folder or file here"),
        (["verify", "some/folder"], 2, "some/folder is a folder or file here"),
        (["rm", "org/model"], 2, "org/model was not pulled"),
        (["rm", "cifar10-rn20"], 2, "only what was pulled can be removed"),
    ],
)
def test_what_cannot_be_done_is_said(
    hub: FakeHub, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    (tmp_path / "some" / "folder").mkdir(parents=True)
    result = CliRunner().invoke(app, ["zoo", *arguments])
    assert result.exit_code == code and message in result.stderr
    assert result.stderr.count("\n") == 1 and hub.asked == []


def test_commands_take_what_was_pulled_and_rm_takes_it_away(hub: FakeHub) -> None:
    runner = CliRunner()
    export = ["export", "org/model", "--format", "torch", "--out", "x.pt2"]
    result = runner.invoke(app, export)
    assert result.exit_code == 2 and "of the Hub: paradise zoo pull org/model" in result.stderr
    planned = runner.invoke(app, ["zoo", "pull", "org/model", "--dry-run"])
    size = len(hub.files["model.safetensors"]) / 1e6
    assert planned.stderr == (f"org/model: {size:.1f} MB would come from org/model at {COMMIT}\n")
    assert not any("resolve" in asked for asked in hub.asked)
    result = runner.invoke(app, ["zoo", "pull", "org/model", "--json"])
    assert result.exit_code == 0 and json.loads(result.stdout)["revision"] == COMMIT
    assert runner.invoke(app, export).exit_code == 0
    info = runner.invoke(app, ["zoo", "info", "org/model"])
    assert info.exit_code == 1 and "its repository has no card.yaml" in info.stderr
    removed = runner.invoke(app, ["zoo", "rm", "org/model", "--json"])
    assert json.loads(removed.stdout)["bytes"] == sum(map(len, hub.files.values()))
    assert runner.invoke(app, export).exit_code == 2


def test_a_commit_is_removed_and_the_others_stay(hub: FakeHub, weights: bytes) -> None:
    first, second = COMMIT, "f" * 40
    pull(f"org/model@{first}")
    hub.commit, hub.files["model.safetensors"] = second, weights + bytes(8)
    pull("org/model@main")
    with pytest.raises(ParadiseError, match=f"only {first}, {second} of org/model"):
        remove("org/model@other")
    # Both have the other file: only the weights go.
    assert remove("org/model@main") == len(weights) + 8
    assert cached("org/model@main") is None and cached(f"org/model@{second}") is None
    left = cached(f"org/model@{first}")
    assert left is not None and left.with_name("config.json").read_bytes() == b"{}"
    assert remove(f"org/model@{first}") == len(weights) + 2
    assert not list(hub_cache().rglob("*.json"))


def test_a_pulled_model_imports_nothing_unless_it_is_allowed_to(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "brought_along.py").write_text("raise SystemExit('this ran')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    wanting = save_tiny(tmp_path / "wanting.safetensors", imports=["brought_along"])
    hub.files["model.safetensors"] = wanting.read_bytes()
    pull("org/model")
    message = f"org/model wants to import brought_along, .* pull org/model@{COMMIT} --allow-imports"
    with pytest.raises(ParadiseError, match=message):
        paradise_cli.load("org/model")
    pull("org/model", allow_imports=True)
    with pytest.raises(ParadiseError, match="this ran"):
        paradise_cli.load("org/model")


# The cards


@pytest.mark.parametrize("name", zoo_names())
def test_a_card_agrees_with_its_file_and_its_recipe(name: str) -> None:
    found = card(name)
    assert found.recipe in shipped_recipes()
    path = packaged_file(name)
    assert (path is None) == (found.packaged is None)
    if path is not None and found.packaged is not None:
        assert pull(name).path == path and path.stat().st_size == found.packaged.bytes
        assert path.stat().st_size <= 12e6
        assert load_metadata(path)["data"]["label"] == found.trained_on


def test_every_packaged_model_has_a_card() -> None:
    assert {path.stem for path in resource_dir("zoo").glob("*.safetensors")} <= {*zoo_names()}


def changed(**parts: Any) -> dict[str, Any]:
    whole = card("cifar10-rn20").model_dump(mode="json")
    return {key: value for key, value in (whole | parts).items() if value is not None}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"metrics": []}, "a trained model has a file, metrics, and what its training took"),
        ({"packaged": None}, "a trained model has a file, metrics, and what its training took"),
        ({"status": "not yet trained"}, "a model that is not trained has gpu_hours, no files"),
        ({"limitts": "w"}, "limitts: unknown key; did you mean 'limits'?"),
        ({"limits": ""}, "limits: should not be empty (got '')"),
        ({"limits": None}, "limits: required, but missing"),
        ({"status": "done"}, "status: should be 'trained' or 'not yet trained' (got 'done')"),
        (
            {"packaged": {"sha256": "abc", "bytes": 1}},
            "packaged.sha256: should be 64 digits of 0-9 and a-f (got 'abc')",
        ),
        (
            {"hub": {"repo": "a/b", "revision": "0" * 40, "files": {"w": {"sha256": "0" * 64}}}},
            "hub.files.w.bytes: required, but missing",
        ),
    ],
)
def test_a_card_that_says_too_little_is_refused(parts: dict[str, Any], message: str) -> None:
    with pytest.raises(ParadiseError) as error:
        read_card(changed(**parts), "zoo/mine.yaml")
    assert str(error.value) == f"zoo/mine.yaml: {message}" or message.startswith("a ")
    assert message in str(error.value) and str(error.value).count("\n") == 0


def test_a_mistake_of_a_card_has_its_line(tmp_path: Path) -> None:
    path = tmp_path / "card.yaml"
    path.write_text(dump(changed()) + "weights: w\n")
    line = len(path.read_text().splitlines())
    with pytest.raises(ParadiseError, match=rf"card\.yaml:{line}:1: weights: unknown key"):
        card_file(path)


def test_a_robust_accuracy_has_a_verdict_and_lies_in_its_interval() -> None:
    metric = changed()["metrics"][0]
    for wrong in ({"name": "robust accuracy"}, {"value": 2.0}):
        with pytest.raises(ParadiseError, match=r"metrics\.0: (a robust|2\.0 lies)"):
            read_card(changed(metrics=[metric | wrong]), "zoo/mine.yaml")
