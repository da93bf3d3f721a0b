"""Damaged or edited run folders, ledgers and weights: one message, and nothing is lost."""

import json
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

import paradise_cli
from paradise_cli.attacks.session.ledger import Entry, FolderLedger, discard
from paradise_cli.core import journal
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.randomness import generator
from paradise_cli.core.storage import DIGEST, content_digest, load_tensors, save_tensors
from paradise_cli.training.checkpoint import Best, Checkpoints, Saved, State
from paradise_cli.training.run_folder import RunFolder
from tests.tiny_model import save_tiny

DEEP = b"[" * 100_000 + b"]" * 100_000


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(work: Callable[[], Any], names: Path, folder: Path) -> str:
    """The one message with which it is refused; it names the file, and no file is changed."""
    before = content(folder)
    with pytest.raises(ParadiseError) as error:
        work()
    message = str(error.value)
    assert str(names) in message and len(message) < 1500
    assert all(line.isprintable() for line in message.split("\n"))
    assert content(folder) == before
    return message


# Checkpoints, signed anew by whoever edited them.

MODULES: dict[str, nn.Module] = {"model": nn.Linear(2, 3), "averaged": nn.Linear(2, 3)}
DATA = {"shape": [1, 2, 2], "classes": {"digit": ["a", "b"]}, "images": 9, "sha256": "0" * 64}


def stepped(kind: type[Optimizer] = Adam) -> Optimizer:
    options: dict[str, Any] = {"momentum": 0.9} if kind is SGD else {}
    optimizer = kind(MODULES["model"].parameters(), lr=1e-9, **options)
    MODULES["model"](torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return optimizer


def saved(folder: Path, kind: type[Optimizer] = Adam) -> tuple[Path, Optimizer]:
    """Two checkpoints, of steps 6 and 7, of which the path is that of the second."""
    folder.mkdir(exist_ok=True)
    optimizer = stepped(kind)
    state = State.new(torch.device("cpu"))
    state.observe({"loss": torch.tensor(1.0), "rate": torch.tensor(2.0)})
    state.best = {"plain": Best((0.5, -1.0), 6)}
    for state.step in (6, 7):
        Checkpoints(folder, {"recipe": "r", "data": DATA}).save(state, MODULES, optimizer)
    return folder / "step-000000007.safetensors", optimizer


def put(place: str, value: Any) -> Callable[[dict[str, Tensor], dict[str, Any]], None]:
    """Metadata with another value at a.b.c."""

    def change(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
        *way, last = place.split(".")
        for part in way:
            metadata = metadata[part]
        metadata[last] = value

    return change


def tensor(name: str, value: Tensor | None) -> Callable[[dict[str, Tensor], dict[str, Any]], None]:
    """Another tensor of that name, or none."""

    def change(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
        tensors.pop(name, None)
        if value is not None:
            tensors[name] = value

    return change


CHECKPOINTS = {
    "step text": put("state.step", "x"),
    "step none": put("state.step", None),
    "step fraction": put("state.step", 3.5),
    "step below 0": put("state.step", -5),
    "step 1e30": put("state.step", 1e30),
    "step 10^30": put("state.step", 10**30),
    "step true": put("state.step", True),
    "step of another name": put("state.step", 6),
    "state empty": put("state", {}),
    "state of a step alone": put("state", {"step": 7}),
    "state a list": put("state", [7]),
    "state's unknown key": put("state.more", 1),
    "seconds text": put("state.seconds", "1"),
    "seconds infinite": put("state.seconds", float("inf")),
    "seconds of a thousand years": put("state.seconds", 3.2e10),
    "seconds huge": put("state.seconds", 10**400),
    "terms text": put("state.terms", "loss"),
    "terms fewer": put("state.terms", ["loss"]),
    "best a list": put("state.best", [1]),
    "best no score": put("state.best", {"plain": {"step": 1}}),
    "best's score text": put("state.best", {"plain": {"score": "x", "step": 1}}),
    "best's score empty": put("state.best", {"plain": {"score": [], "step": 1}}),
    "best of other weights": put("state.best", {"x": {"score": [1.0], "step": 1}}),
    "best's step text": put("state.best", {"plain": {"score": [1.0], "step": "x"}}),
    "data a list": put("data", [1]),
    "data text": put("data", "x"),
    "data without shape": put("data", {"classes": {}, "images": 1, "sha256": ""}),
    "data's classes a list": put("data.classes", ["a"]),
    "data's images text": put("data.images", "9"),
    "recipe a list": put("recipe", ["r"]),
    "settings a list": put("settings", ["r"]),
    "unknown key": put("\x1b[2J", 1),
    "no weights": tensor("model.weight", None),
    "weights of another shape": tensor("model.weight", torch.zeros(3, 3)),
    "weights of integers": tensor("model.weight", torch.zeros(3, 2, dtype=torch.int64)),
    "weights in half": tensor("model.weight", torch.zeros(3, 2, dtype=torch.float16)),
    "weights in 8 bits": tensor("model.weight", torch.zeros(3, 2).to(torch.float8_e4m3fn)),
    "weights NaN": tensor("model.weight", torch.full((3, 2), float("nan"))),
    "no average": tensor("averaged.bias", None),
    "no totals": tensor("totals", None),
    "totals of another length": tensor("totals", torch.zeros(5, dtype=torch.float64)),
    "totals NaN": tensor("totals", torch.full((2,), float("nan"), dtype=torch.float64)),
    "no first_bad": tensor("first_bad", None),
    "moment missing": tensor("optimizer.0.exp_avg", None),
    "moment of another shape": tensor("optimizer.0.exp_avg", torch.zeros(2, 3)),
    "moment of integers": tensor("optimizer.1.exp_avg", torch.zeros(3, dtype=torch.int64)),
    "moment NaN": tensor("optimizer.0.exp_avg", torch.full((3, 2), float("nan"))),
    "second moment below 0": tensor("optimizer.0.exp_avg_sq", torch.full((3, 2), -1.0)),
    "second moment NaN": tensor("optimizer.0.exp_avg_sq", torch.full((3, 2), float("nan"))),
    "steps below 0": tensor("optimizer.0.step", torch.tensor(-1.0)),
    "parameter unknown": tensor("optimizer.99.exp_avg", torch.zeros(1)),
    "parameter x": tensor("optimizer.x.y", torch.zeros(1)),
    "optimizer alone": tensor("optimizer", torch.zeros(1)),
    "foreign tensor": tensor("\x1b]0;x", torch.zeros(1)),
}


@pytest.mark.parametrize("digest", ["new", "none"])
@pytest.mark.parametrize("change", CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_an_edited_checkpoint_gives_way_to_the_older_in_one_message(
    change: Callable[[dict[str, Tensor], dict[str, Any]], None], digest: str, tmp_path: Path
) -> None:
    path, optimizer = saved(tmp_path)
    tensors, metadata = load_tensors(path)
    del metadata[DIGEST]
    change(tensors, metadata)
    if digest == "new":
        metadata[DIGEST] = content_digest(tensors, metadata)
    save_tensors(path, tensors, metadata)
    checkpoints, said = Checkpoints(tmp_path, {}), list[str]()

    def fits(found: Saved) -> None:
        found.require_fit(MODULES, optimizer)

    before = content(tmp_path)
    older = checkpoints.newest(said.append, fits)
    assert older is not None and older.step == 6
    assert len(said) == 1 and str(path) in said[0] and said[0].isprintable()
    assert "damaged" in said[0] and content(tmp_path) == before
    (tmp_path / "step-000000006.safetensors").unlink()
    message = refused(lambda: checkpoints.newest(said.append, fits), path, tmp_path)
    assert message.endswith("use --fresh") and len(said) == 1


@pytest.mark.parametrize("kind", [Adam, SGD])
def test_a_whole_checkpoint_fits_and_one_without_a_parameters_state_does_not(
    kind: type[Optimizer], tmp_path: Path
) -> None:
    path, optimizer = saved(tmp_path, kind)
    Saved.read(path).require_fit(MODULES, optimizer)
    tensors, metadata = load_tensors(path)
    kept = {name: each for name, each in tensors.items() if not name.startswith("optimizer.1.")}
    del metadata[DIGEST]
    save_tensors(path, kept, metadata | {DIGEST: content_digest(kept, metadata)})
    refused(lambda: Saved.read(path).require_fit(MODULES, optimizer), path, tmp_path)


def test_other_terms_of_the_loss_than_the_checkpoints_are_refused(tmp_path: Path) -> None:
    state = State.new(torch.device("cpu"))
    state.observe({"loss": torch.tensor(1.0), "rate": torch.tensor(2.0)})
    with pytest.raises(ParadiseError, match=r"other terms of the loss \(loss, rate\)"):
        state.observe({"loss": torch.tensor(1.0), "more": torch.tensor(2.0)})


def folder_there(path: Path) -> None:
    path.mkdir()


THINGS = {"folder": folder_there, "pipe": os.mkfifo}


@pytest.mark.parametrize("there", THINGS.values(), ids=THINGS)
@pytest.mark.parametrize("name", ["step-000000007.safetensors", "step-000000001.safetensors"])
def test_no_file_in_place_of_a_checkpoint_is_said_at_once(
    name: str, there: Callable[[Path], None], tmp_path: Path
) -> None:
    saved(tmp_path)
    (tmp_path / name).unlink(missing_ok=True)
    there(tmp_path / name)
    checkpoints = Checkpoints(tmp_path, {})
    refused(lambda: checkpoints.newest(lambda text: None), tmp_path / name, tmp_path)


def test_copies_of_checkpoints_by_other_names_are_left_alone(tmp_path: Path) -> None:
    path, _ = saved(tmp_path)
    others = [tmp_path / f"step-{name}.safetensors" for name in ("abc", "000000099 (copy)")]
    for other in others:
        other.write_bytes(path.read_bytes())
    found = Checkpoints(tmp_path, {}).newest(lambda text: None)
    assert found is not None and found.path == path
    saved(tmp_path)
    assert all(other.exists() for other in others)


# Run folders.


@pytest.mark.parametrize("there", THINGS.values(), ids=THINGS)
@pytest.mark.parametrize(
    "name", ["recipe.yaml", "metrics.jsonl", "environment.json", "model.safetensors", "curves.png"]
)
def test_no_file_in_a_run_folder_is_said_at_once(
    name: str, there: Callable[[Path], None], tmp_path: Path
) -> None:
    run = RunFolder(tmp_path)
    with run.locked():
        pass
    there(tmp_path / name)

    def work() -> None:
        with run.locked():
            raise AssertionError

    refused(work, tmp_path / name, tmp_path)


RECORD: dict[str, Any] = {"epoch": 1, "step": 9, "lr": 0.1, "train": {"loss": 1.0}, "seconds": 2.0}
ALARM = {"kind": "rate_at_cap", "epoch": 1, "text": "x"}
RECORDS = {
    "brace": b"}",
    "list": b"[1]}",
    "number": b"1",
    "empty": b"",
    "other object": b'{"a": 1}',
    "step text": json.dumps(RECORD | {"step": "x"}).encode(),
    "step below 0": json.dumps(RECORD | {"step": -1}).encode(),
    "epoch none": json.dumps(RECORD | {"epoch": None}).encode(),
    "train a list": json.dumps(RECORD | {"train": [1]}).encode(),
    "train of text": json.dumps(RECORD | {"train": {"loss": "x"}}).encode(),
    "validation text": json.dumps(RECORD | {"validation": "x"}).encode(),
    "alarms text": json.dumps(RECORD | {"alarms": "x"}).encode(),
    "alarm of another kind": json.dumps(RECORD | {"alarms": [ALARM | {"more": 1}]}).encode(),
    "cap alone": json.dumps(RECORD | {"rate_cap": 3.0}).encode(),
    "probe incomplete": json.dumps(RECORD | {"probe": {"shift/random": 1.0}}).encode(),
    "not UTF-8": b'{"\xff": 1}',
    "nested": DEEP,
    "number of 5,000 digits": b'{"step": ' + b"1" * 5000 + b"}",
}


@pytest.mark.parametrize("line", RECORDS.values(), ids=RECORDS)
def test_a_line_that_is_no_record_is_named(line: bytes, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.append_metrics(RECORD)
    run.metrics.write_bytes(run.metrics.read_bytes() + line + b"\n")
    for work in (run.records, lambda: run.truncate_metrics(9)):
        assert "line 2" in refused(work, run.metrics, tmp_path)


def test_a_torn_last_record_is_dropped_and_a_whole_one_ended(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    second = RECORD | {"epoch": 2, "step": 18, "probe": {"informative_latents": 3.0}}
    whole = [json.dumps(each) for each in (RECORD, second)]
    for cut in range(1, len(whole[1])):
        run.metrics.write_text(whole[0] + "\n" + whole[1][:cut])
        run.truncate_metrics(18)
        assert run.metrics.read_text() == whole[0] + "\n"
    run.metrics.write_text("\n".join(whole))
    run.truncate_metrics(18)
    assert run.metrics.read_text() == "\n".join(whole) + "\n"
    run.truncate_metrics(9)
    assert run.records() == [RECORD]


ENVIRONMENTS = {
    "empty": b"",
    "list": b"[]",
    "text": b'"x"',
    "nested": DEEP,
    "not UTF-8": b'{"\xff": 1}',
    "extended text": b'{"extended": "x"}',
    "extended of text": b'{"extended": ["x"]}',
    "extended of other numbers": b'{"extended": [{"step": -1, "epochs_before": 1, "epochs": 2}]}',
    "values with commands": json.dumps({"torch": "\x1b[2J" * 1000}).encode(),
}


@pytest.mark.parametrize("damaged", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_no_environment_stops_a_training(damaged: bytes, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.environment.write_bytes(damaged)
    more = {"step": 9, "epochs_before": 1, "epochs": 2}
    said = run.begin({"name": "r"}, {"torch": "2"}, more)
    assert said is not None and said.isprintable() and len(said) < 500
    assert run.extensions() == [more]
    assert run.begin({"name": "r"}, {"torch": "2"}, None) is None
    assert run.extensions() == [more]


# Ledgers of attacks.

HEADER = {"shape": [1, 2, 3], "seed": 0}
POINTS = torch.rand(4, 1, 2, 3, generator=generator(0, "points"))


def ledger_in(folder: Path) -> Path:
    """Two runs that failed and two that succeeded, with points."""
    ledger = FolderLedger(folder, HEADER)
    for k in range(4):
        point = POINTS[k] if k % 2 else None
        ledger.add(Entry("a", k, 0, -1, 5, 0.1, point is not None, point))
    ledger.close()
    return folder / "ledger.jsonl"


LINE: dict[str, Any] = {
    "label": "a", "image": 9, "run": 0, "target": -1, "step": 5, "distance": 0.1, "fooled": False,
    "point": None,
}  # fmt: skip
LINES = {
    "no JSON": b"}",
    "list": b"[1]",
    "nested": DEEP,
    "not UTF-8": b'{"\xff": 1}',
    "number of 5,000 digits": b'{"run": ' + b"1" * 5000 + b"}",
    **{
        name: json.dumps(LINE | change).encode()
        for name, change in {
            "label a list": {"label": ["a"]},
            "image text": {"image": "9"},
            "image below 0": {"image": -1},
            "run text": {"run": "x"},
            "run true": {"run": True},
            "target text": {"target": "a"},
            "target below -1": {"target": -2},
            "step fraction": {"step": 0.5},
            "distance none": {"distance": None},
            "distance text": {"distance": "0.1"},
            "fooled text": {"fooled": "no"},
            "fooled without point": {"fooled": True},
            "fooled at NaN": {"fooled": True, "point": 2, "distance": float("nan")},
            "fooled at -1": {"fooled": True, "point": 2, "distance": -1.0},
            "point below 0": {"point": -1},
            "point of another line": {"point": 0},
            "point far away": {"point": 2**62},
            "point 10^30": {"point": 10**30},
            "digest a number": {"point": 2, "sha256": 7},
            "unknown key": {"\x1b[2J": 1},
        }.items()
    },
    **{
        f"no {key}": json.dumps({k: v for k, v in LINE.items() if k != key}).encode()
        for key in LINE
    },
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_a_line_of_a_ledger_that_is_no_entry_is_named(line: bytes, tmp_path: Path) -> None:
    path = ledger_in(tmp_path)
    path.write_bytes(path.read_bytes() + line + b"\n")
    message = refused(lambda: FolderLedger(tmp_path, HEADER), path, tmp_path)
    assert "line 6" in message and "--fresh" in message
    discard(tmp_path)
    assert content(tmp_path) == {}


def other(lines: list[bytes], **change: Any) -> list[bytes]:
    """The second entry says something else, which it might have said."""
    return [*lines[:2], json.dumps(json.loads(lines[2]) | change).encode(), *lines[3:]]


@pytest.mark.parametrize("line", ['{"sigma": "0.25", "seed": 0}', "my own", "[]"])
def test_a_fresh_start_removes_nothing_where_a_file_is_of_other_work(
    line: str, tmp_path: Path
) -> None:
    """Of a certification, or somebody's own; other names are nobody's business."""
    ledger_in(tmp_path)
    (tmp_path / "ledger-1.jsonl").write_text(line + "\n")
    for name in ("points of mine.f32", "points-1.f32", "ledger of mine.jsonl"):
        (tmp_path / name).write_bytes(b"mine")
    before = content(tmp_path)
    message = refused(lambda: discard(tmp_path), tmp_path / "ledger-1.jsonl", tmp_path)
    assert "was not made by this command" in message
    assert content(tmp_path) == before
    (tmp_path / "ledger-1.jsonl").unlink()
    discard(tmp_path)
    gone = {tmp_path / name for name in ("ledger.jsonl", "points.f32", "ledger-1.jsonl")}
    assert content(tmp_path).keys() == before.keys() - gone


@pytest.mark.parametrize("mine", ['{"mine": 1}', "[[1, 2], [3, 4]]"])
def test_a_file_of_one_line_without_an_end_is_not_taken_for_a_torn_ledger(
    mine: str, tmp_path: Path
) -> None:
    """A header that was cut off is the beginning of an object, and written anew."""
    path = tmp_path / "ledger.jsonl"
    path.write_text(mine)
    for begin in (
        lambda: journal.Journal(tmp_path, "ledger", HEADER, "certification"),
        lambda: FolderLedger(tmp_path, HEADER),
        lambda: discard(tmp_path),
    ):
        with pytest.raises(ParadiseError, match=re.escape(str(path))):
            begin()
        assert path.read_text() == mine
    path.write_text(json.dumps(HEADER)[:9])
    journal.Journal(tmp_path, "ledger", HEADER, "certification").close()
    assert json.loads(path.read_text()) == HEADER


def test_nor_does_that_of_a_certification_remove_an_attack(tmp_path: Path) -> None:
    path = ledger_in(tmp_path)
    with pytest.raises(UsageError, match="was not made by this command"):
        journal.discard(tmp_path, "ledger", "certification", ("sigma",))
    assert path.exists()


EDITS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "another image": lambda lines: other(lines, image=2),
    "another distance": lambda lines: other(lines, distance=0.0),
    "another label": lambda lines: other(lines, label="b"),
    "no success": lambda lines: other(lines, fooled=False),
    "another point": lambda lines: other(lines, sha256="0" * 16),
    "another seal": lambda lines: other(lines, seal="0" * 16),
    "a line gone": lambda lines: [*lines[:1], *lines[2:]],
    "two lines changed places": lambda lines: [lines[0], lines[3], lines[2], lines[1], lines[4]],
    "a line twice": lambda lines: [*lines[:2], lines[1], *lines[2:]],
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a_line_of_a_ledger_is_believed_only_as_and_where_it_was_written(
    edit: Callable[[list[bytes]], list[bytes]], tmp_path: Path
) -> None:
    path = ledger_in(tmp_path)
    path.write_bytes(b"\n".join(edit(path.read_bytes().splitlines())) + b"\n")
    assert "is damaged in line" in refused(lambda: FolderLedger(tmp_path, HEADER), path, tmp_path)


@pytest.mark.parametrize("header", [b"[1]", b"}", DEEP], ids=["list", "no JSON", "nested"])
def test_a_header_that_is_none_is_named(header: bytes, tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").write_bytes(header + b"\n")
    path = tmp_path / "ledger.jsonl"
    (tmp_path / "points.f32").touch()
    assert "line 1" in refused(lambda: FolderLedger(tmp_path, HEADER), path, tmp_path)


@pytest.mark.parametrize("there", THINGS.values(), ids=THINGS)
@pytest.mark.parametrize("name", ["ledger.jsonl", "points.f32", "ledger-3.jsonl"])
def test_no_file_in_place_of_a_ledger_is_said(
    name: str, there: Callable[[Path], None], tmp_path: Path
) -> None:
    ledger_in(tmp_path)
    (tmp_path / name).unlink(missing_ok=True)
    there(tmp_path / name)
    refused(lambda: FolderLedger(tmp_path, HEADER), tmp_path / name, tmp_path)


def test_a_copy_of_a_ledger_counts_nothing(tmp_path: Path) -> None:
    path = ledger_in(tmp_path)
    for name in ("ledger-x.jsonl", "ledger (copy).jsonl", "ledger-01.jsonl"):
        (tmp_path / name).write_bytes(path.read_bytes() + b"}\n")
    FolderLedger(tmp_path, HEADER).close()


def zeroed(points: bytes) -> bytes:
    return bytes(len(points))


def flipped(points: bytes) -> bytes:
    """One bit in each of 20 places, of both points."""
    changed = bytearray(points)
    for place in range(8, 28):
        changed[place] ^= 1 << place % 8
    return bytes(changed)


def beyond(points: bytes) -> bytes:
    """Pixels far from any image."""
    return struct.pack("<12f", *[0.99] * 12)


def power_lost(points: bytes) -> bytes:
    """The length of the file has come to the disk, and of its content only the first point."""
    return points[:24] + bytes(24)


@pytest.mark.parametrize(
    ("change", "lost"), [(zeroed, [1, 3]), (flipped, [1, 3]), (beyond, [1, 3]), (power_lost, [3])]
)
def test_points_that_are_not_as_they_were_written_are_made_again(
    change: Callable[[bytes], bytes], lost: list[int], tmp_path: Path
) -> None:
    ledger_in(tmp_path)
    points = tmp_path / "points.f32"
    points.write_bytes(change(points.read_bytes()))
    ledger = FolderLedger(tmp_path, HEADER)
    assert [line.split()[0] for line in ledger.warnings] == [str(len(lost))]
    known = [image for image in range(4) if ledger.runs("a", image)]
    assert known == [image for image in range(4) if image not in lost]
    for image in lost:
        ledger.add(Entry("a", image, 0, -1, 5, 0.1, True, POINTS[image]))
    ledger.close()
    again = FolderLedger(tmp_path, HEADER)
    again.close()
    assert not again.warnings
    for image in (1, 3):
        entry = again.success("a", image)
        assert entry is not None and entry.point is not None
        assert torch.equal(entry.point, POINTS[image])


def test_lines_of_an_older_version_have_no_digests_and_are_kept(tmp_path: Path) -> None:
    path = ledger_in(tmp_path)
    header, *lines = map(json.loads, path.read_text().splitlines())
    newer = {"sha256", "seal"}
    older = [{key: line[key] for key in line.keys() - newer} for line in lines]
    path.write_text("".join(json.dumps(each) + "\n" for each in [header, *older]))
    ledger = FolderLedger(tmp_path, HEADER)
    ledger.close()
    assert all(ledger.runs("a", image) for image in range(4)) and not ledger.warnings


# Weights.


@pytest.mark.parametrize("there", [*THINGS.values()], ids=THINGS)
def test_only_regular_files_are_opened_as_weights(
    there: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "w.safetensors"
    there(path)
    link = tmp_path / "link.safetensors"
    link.symlink_to(path)
    for name in (path, link):
        refused(lambda name=name: load_tensors(name), name, tmp_path)  # type: ignore[misc]


def test_weights_that_may_not_be_read_are_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_tiny(tmp_path / "w.safetensors")

    def forbidden(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")  # also for root, who may read everything

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", forbidden)
        with pytest.raises(ParadiseError, match=r"cannot read .*: Permission denied"):
            load_tensors(path)


ORIGINS = {
    "step of 300 digits": {"weights": "best", "step": 10**300},
    "step below 0": {"weights": "best", "step": -1},
    "step true": {"weights": "best", "step": True},
    "step text": {"weights": "best", "step": "1"},
    "no step": {"weights": "best"},
    "weights a list": {"weights": [1], "step": 1},
    "weights a number": {"weights": 1, "step": 1},
    "weights with commands": {"weights": "\x1b[2J", "step": 1},
    "weights endless": {"weights": "x" * 1000, "step": 1},
}


@pytest.mark.parametrize("provenance", ORIGINS.values(), ids=ORIGINS)
def test_weights_whose_origin_cannot_be_shown_are_refused(
    provenance: dict[str, Any], tmp_path: Path
) -> None:
    path = save_tiny(tmp_path / "w.safetensors")
    tensors, metadata = load_tensors(path)
    del metadata[DIGEST]
    metadata["provenance"] = provenance
    save_tensors(path, tensors, metadata | {DIGEST: content_digest(tensors, metadata)})
    assert "its provenance" in refused(lambda: paradise_cli.load(path), path, tmp_path)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.complex64, torch.int32, torch.bool])
def test_weights_of_another_type_are_refused(dtype: torch.dtype, tmp_path: Path) -> None:
    path = save_tiny(tmp_path / "w.safetensors")
    tensors, metadata = load_tensors(path)
    del metadata[DIGEST]
    tensors = {name: each.to(dtype) for name, each in tensors.items()}
    save_tensors(path, tensors, metadata | {DIGEST: content_digest(tensors, metadata)})
    assert "of another type" in refused(lambda: paradise_cli.load(path), path, tmp_path)
