"""Nothing measured is lost or counted twice: killed, cut off, shared among processes, the result is
one.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from paradise_cli.attacks import run
from paradise_cli.attacks.session.ledger import Entry, FolderLedger, Ledger
from paradise_cli.attacks.session.suite import SUITES
from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.randomness import generator
from paradise_cli.core.storage import load_tensors
from tests.attack_ranks import attacked, document

HEADER = {"shape": [1, 2, 3], "seed": 0}
MOMENTS = 4


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `load` changes is put back."""
    monkeypatch.setitem(SUITES, "tiny", SUITES["quick"])
    monkeypatch.setattr(run, "audit", run.audit)


def entries(n: int) -> list[Entry]:
    points = torch.rand(n, 1, 2, 3, generator=generator(0, "points"))
    return [
        Entry(
            "a" if k % 2 else 'é "b"\n',
            k // 2,
            k % 3,
            k % 4 - 1,
            k,
            0.1 * k,
            k % 3 == 1,
            points[k] if k % 3 else None,
        )
        for k in range(n)
    ]


def put_down(folder: Path, some: list[Entry], writer: int = 0) -> None:
    ledger = FolderLedger(folder, HEADER, writer=writer)
    for entry in some:
        ledger.add(entry)
    ledger.close()


def same(one: Entry | None, other: Entry) -> bool:
    if one is None or one[:-1] != other[:-1] or (one.point is None) != (other.point is None):
        return False
    return one.point is None or other.point is None or torch.equal(one.point, other.point)


def known(folder: Path, some: list[Entry]) -> list[bool]:
    """Which of the entries the folder remembers as they were."""
    ledger = FolderLedger(folder, HEADER)
    found = [same(ledger.runs(entry.label, entry.image).get(entry.run), entry) for entry in some]
    count = sum(len(runs) for images in ledger._runs.values() for runs in images.values())
    ledger.close()
    assert count == sum(found)  # and nothing else
    return found


def test_what_was_put_down_is_read_as_it_was(tmp_path: Path) -> None:
    some = entries(12)
    put_down(tmp_path, some[:7])
    assert known(tmp_path, some) == [True] * 7 + [False] * 5
    put_down(tmp_path, some[7:])
    assert known(tmp_path, some) == [True] * 12


def test_of_the_runs_that_succeeded_the_lowest_counts() -> None:
    ledger, point = Ledger(), torch.zeros(1, 1, 1)
    for number, fooled in [(3, True), (1, True), (0, False), (2, True)]:
        ledger.add(Entry("a", 5, number, 0, 1, 0.0, fooled, point))
    entry = ledger.success("a", 5)
    assert entry is not None and entry.run == 1
    assert ledger.success("a", 4) is None and ledger.success("b", 5) is None


@pytest.mark.parametrize("seed", range(MOMENTS))
def test_cut_off_anywhere_it_forgets_what_is_not_whole_and_goes_on(
    seed: int, tmp_path: Path
) -> None:
    some = entries(9)
    put_down(tmp_path, some)
    lines, points = tmp_path / "ledger.jsonl", tmp_path / "points.f32"
    draw = generator(seed, "moments")
    length = int(torch.randint(len(lines.read_bytes()) + 1, (), generator=draw))
    depth = int(torch.randint(len(points.read_bytes()) + 1, (), generator=draw))
    lines.write_bytes(lines.read_bytes()[:length])
    points.write_bytes(points.read_bytes()[:depth])
    whole = max(lines.read_bytes().count(b"\n") - 1, 0)
    lost = [k for k, entry in enumerate(some) if entry.point is not None][
        depth // 24 :
    ]  # 24 bytes a point
    kept = min([whole, *lost[:1]])
    assert known(tmp_path, some) == [True] * kept + [False] * (9 - kept)
    put_down(tmp_path, some[kept:])
    assert known(tmp_path, some) == [True] * 9


@pytest.mark.parametrize("header", [{**HEADER, "seed": 1}, {**HEADER, "shape": [1, 64, 64]}])
def test_another_attack_is_refused_and_harms_nothing(
    header: dict[str, Any], tmp_path: Path
) -> None:
    some = entries(9)
    put_down(tmp_path, some)
    with pytest.raises(ParadiseError, match=r"holds another attack, with other (seed|shape)"):
        FolderLedger(tmp_path, header)
    assert known(tmp_path, some) == [True] * 9


def test_points_without_a_ledger_are_somebody_elses(tmp_path: Path) -> None:
    (tmp_path / "points.f32").write_bytes(b"mine")
    with pytest.raises(ParadiseError, match=r"points\.f32 would be replaced"):
        FolderLedger(tmp_path, HEADER)
    assert (tmp_path / "points.f32").read_bytes() == b"mine"
    assert not (tmp_path / "ledger.jsonl").exists()


def test_a_refused_attack_leaves_no_file(tmp_path: Path) -> None:
    put_down(tmp_path, entries(9))
    (tmp_path / "points.f32").unlink()
    with pytest.raises(ParadiseError, match="holds another attack"):
        FolderLedger(tmp_path, {**HEADER, "seed": 1})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ledger.jsonl"]


def test_two_at_once_are_refused_unless_they_are_different_writers(tmp_path: Path) -> None:
    first = FolderLedger(tmp_path, HEADER)
    with pytest.raises(ParadiseError, match="in use by another attack"):
        FolderLedger(tmp_path, HEADER)
    some = entries(6)
    second = FolderLedger(tmp_path, HEADER, writer=1)
    for k, entry in enumerate(some):
        (first, second)[k % 2].add(entry)
    for ledger in (first, second):
        ledger.settle()
        assert all(
            same(ledger.runs(entry.label, entry.image).get(entry.run), entry) for entry in some
        )
        ledger.close()
    assert known(tmp_path, some) == [True] * 6  # also by one alone


def test_another_writer_whose_header_is_on_its_way_is_waited_for(tmp_path: Path) -> None:
    put_down(tmp_path, entries(3))
    (tmp_path / "ledger-1.jsonl").write_bytes(b'{"shape": [1, 2')
    assert known(tmp_path, entries(3)) == [True] * 3


def started(*arguments: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "tests.attack_ranks", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def test_killed_at_any_moment_it_goes_on_to_the_same_result(tmp_path: Path) -> None:
    whole = attacked(tmp_path / "whole")
    size = sum(
        (tmp_path / "whole" / name).stat().st_size for name in ("ledger.jsonl", "points.f32")
    )
    moments = torch.randint(1, size, (MOMENTS,), generator=generator(0, "kill")).tolist()
    killed = started("kill", str(tmp_path), *map(str, moments))
    _, errors = killed.communicate(timeout=120)
    assert killed.returncode == 0, errors
    assert not whole.standing.all() and whole.standing.any()
    for number in range(MOMENTS):
        left = sum(path.stat().st_size for path in (tmp_path / str(number)).iterdir())
        assert left == moments[number]
        on = attacked(tmp_path / str(number))
        assert document(on) == document(whole)
        assert torch.equal(on.adversarial, whole.adversarial)


def test_two_processes_share_one_folder_and_give_the_result_of_one(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    given = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    ranks = [started("rank", str(tmp_path), RANK=str(rank), **given) for rank in range(2)]
    said = [rank.communicate(timeout=120) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], said
    one = attacked(None)
    told = [json.loads((tmp_path / f"told-{rank}.json").read_text()) for rank in range(2)]
    assert told[0] == told[1]
    assert told[0]["cut"]["unfinished"]
    expected = json.loads(json.dumps(document(one)))
    assert told[0]["report"] == told[0]["again"] == expected
    ledgers = [
        (tmp_path / "library" / name).read_bytes() for name in ("ledger.jsonl", "ledger-1.jsonl")
    ]
    assert all(ledger.count(b"\n") > 10 for ledger in ledgers)
    # The first process alone tells of the result.
    assert "robust accuracy" in said[0][0] and said[1] == ("", "")
    assert torch.equal(attacked(tmp_path / "library").adversarial, one.adversarial)
    tensors, _ = load_tensors(tmp_path / "command" / "adversarial.safetensors")
    assert torch.equal(tensors["adversarial"], one.adversarial)


def test_several_processes_need_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ParadiseError, match="through a folder: name one with --out"):
        attacked(None)
