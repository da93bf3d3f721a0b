"""What stands where a result is written: kept whole, followed or written into, never replaced."""

import ast
import errno
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import paradise_cli
from paradise_cli.core import storage
from paradise_cli.core.errors import Interrupted, ParadiseError
from paradise_cli.core.signals import end_tidily, goes_on, stop_on_signal
from paradise_cli.core.storage import (
    load_tensors,
    publish,
    publish_text,
    publish_together,
    require_writable,
    save_tensors,
    write_json,
    write_numbers,
)

from .tiny_model import save_images, save_tiny


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def write(path: Path, text: str = "new") -> None:
    require_writable(path)
    with publish_text(path) as file:
        file.write(text)


def alone(folder: Path) -> list[str]:
    """Names in a folder: nothing temporary may stay."""
    return sorted(path.name for path in folder.iterdir())


def test_a_pipe_is_written_into_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write(pipe, "through")
    reader.join(timeout=30)
    assert read == [b"through"] and stat.S_ISFIFO(pipe.stat().st_mode)
    assert alone(tmp_path) == ["pipe"]


@contextmanager
def handled(number: int, handler: signal.Handlers) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_end_leaves_nothing_unfinished(tmp_path: Path, number: int) -> None:
    write(tmp_path / "old", "old")
    # The tests themselves may run under nohup.
    with handled(number, signal.SIG_DFL):
        with pytest.raises(SystemExit) as ended, end_tidily(), publish_text(tmp_path / "old") as f:
            f.write("new")
            os.kill(os.getpid(), number)
        assert signal.getsignal(number) == signal.SIG_DFL
    assert ended.value.code == 128 + number  # as a shell reports it
    assert alone(tmp_path) == ["old"] and (tmp_path / "old").read_text() == "old"


def test_a_signal_that_somebody_handles_stays_theirs() -> None:
    with handled(signal.SIGHUP, signal.SIG_IGN), end_tidily():  # as under nohup
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        os.kill(os.getpid(), signal.SIGHUP)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_is_ignored_stops_no_training(number: int) -> None:
    """Ctrl-C is for what runs in front, and not for what a script has started with `&`."""
    with handled(number, signal.SIG_IGN), stop_on_signal() as stop:
        os.kill(os.getpid(), number)
        assert not stop()
    with handled(number, signal.SIG_DFL), stop_on_signal() as stop:
        os.kill(os.getpid(), number)
        assert stop()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75), (signal.SIGHUP, 75)]
)
def test_a_scheduler_is_told_that_work_is_left(number: int, code: int) -> None:
    before = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    with handled(number, before), end_tidily():
        with pytest.raises(Interrupted, match="all of it") as caught, goes_on("all of it"):
            os.kill(os.getpid(), number)
            time.sleep(5)
        assert caught.value.exit_code == code
        with pytest.raises(Interrupted, match="step 3") as caught, stop_on_signal() as stop:
            os.kill(os.getpid(), number)
            assert stop()
            raise Interrupted("at step 3")
        assert caught.value.exit_code == code


def test_what_is_passed_on_to_a_process_twice_saves_once() -> None:
    """A scheduler signals all processes of a job, and torchrun passes that on to its own."""
    with handled(signal.SIGTERM, signal.SIG_DFL), end_tidily(), stop_on_signal() as stop:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), number)
        assert stop()
    with handled(signal.SIGINT, signal.default_int_handler), pytest.raises(KeyboardInterrupt):
        with stop_on_signal() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert stop()
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)


def test_an_end_of_its_own_is_no_schedulers() -> None:
    with pytest.raises(SystemExit) as caught, goes_on("all of it"):
        raise SystemExit(3)
    assert caught.value.code == 3


@pytest.mark.parametrize(("command", "out"), [("encode", "f.npz"), ("predict", "f.csv")])
def test_a_command_that_is_ended_while_a_pipe_waits_leaves_nothing(
    tmp_path: Path, command: str, out: str
) -> None:
    places = [tmp_path / name for name in ("out", "tmp")]
    for place in places:
        place.mkdir()
    os.mkfifo(places[0] / out)
    photos, model = save_images(tmp_path / "photos", 6), save_tiny(tmp_path / "tiny.safetensors")
    given = [command, photos, "--model", model, "--device", "cpu", "--out", places[0] / out]
    waiting = subprocess.Popen(
        [sys.executable, "-m", "paradise_cli", *map(str, given)],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(places[1])},
    )
    # Nobody reads the pipe: once its content is complete, the command waits for a reader.
    while not any(path.stat().st_size for path in places[1].glob("*/content")):
        assert waiting.poll() is None
        time.sleep(0.05)
    waiting.terminate()
    assert waiting.wait(timeout=120) == 128 + signal.SIGTERM
    assert [alone(place) for place in places] == [[out], []]


def test_a_device_is_written_into_and_stays_a_device(tmp_path: Path) -> None:
    null = tmp_path / "null"
    try:
        os.mknod(null, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        null.write_bytes(b"")
    except OSError:
        pytest.skip("only root may make a device, and not in every container")
    link = tmp_path / "link"
    link.symlink_to(null)
    for path in (null, link):
        write(path)
        assert stat.S_ISCHR(path.stat().st_mode)
    assert link.is_symlink() and alone(tmp_path) == ["link", "null"]


@pytest.mark.skipif(sys.platform != "linux", reason="terminals by this path")
def test_a_terminal_is_written_into(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    try:
        write(Path(os.ttyname(theirs)), "shown")
        assert os.read(ours, 100) == b"shown"
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "real.txt"
    link = tmp_path / "link.txt"
    link.symlink_to(Path("elsewhere") / "real.txt")
    write(link, "first")  # the link points to nothing yet
    assert link.is_symlink() and target.read_text() == "first"
    write(link, "second")
    assert link.is_symlink() and target.read_text() == "second"
    assert alone(tmp_path / "elsewhere") == ["real.txt"]


def test_no_folder_is_made_where_a_link_leads(tmp_path: Path) -> None:
    link = tmp_path / "link.txt"
    link.symlink_to(Path("gone") / "real.txt")
    for ask in (lambda: write(link, "first"), lambda: require_writable(link)):
        with pytest.raises(ParadiseError, match="whose folder is not there; make"):
            ask()
    assert alone(tmp_path) == ["link.txt"]


@pytest.mark.parametrize("bits", [0o600, 0o640, 0o644, 0o755, 0o400])
def test_a_file_keeps_its_mode(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "kept"
    path.write_text("old")
    path.chmod(bits)
    with publish(path) as temporary:
        # While it is written nobody reads it who may not read the file itself.
        assert mode(temporary) & 0o077 & ~bits == 0
        temporary.write_text("new")
    assert mode(path) == bits
    path.chmod(0o600)
    assert path.read_text() == "new"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_a_file_keeps_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "theirs"
    path.write_text("old")
    os.chown(path, 1234, 2345)
    write(path)
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 2345)


@pytest.mark.parametrize(("umask", "bits"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_gets_the_mode_of_the_umask(tmp_path: Path, umask: int, bits: int) -> None:
    before = os.umask(umask)
    try:
        write_json(tmp_path / "new.json", {"a": 1})
        save_tensors(tmp_path / "new.safetensors", {"a": torch.ones(2)}, {})
    finally:
        os.umask(before)
    assert mode(tmp_path / "new.json") == mode(tmp_path / "new.safetensors") == bits


def test_a_writer_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write(path, "good")
    with pytest.raises(ZeroDivisionError), publish(path) as temporary:
        temporary.write_text("half")
        _ = 1 / 0
    assert path.read_text() == "good" and alone(tmp_path) == ["result.json"]


def test_a_folder_and_a_circle_of_links_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for path, message in ((tmp_path, "it is a folder"), (tmp_path / "a", "cannot write .*a: ")):
        with pytest.raises(ParadiseError, match=message):
            require_writable(path)
        with pytest.raises(ParadiseError, match=message), publish(path):
            pass
    assert alone(tmp_path) == ["a", "b"]


def test_a_name_as_long_as_a_file_system_allows_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("ä" * 125 + ".json")  # 255 bytes
    write(path)
    assert path.read_text() == "new" and alone(tmp_path) == [path.name]


WRITER = """
import os, signal, sys
from pathlib import Path
from paradise_cli.core.storage import publish_text
with publish_text(Path(sys.argv[1])) as file:
    file.write("half")
    file.flush()
    print("ready", flush=True)
    sys.stdin.read() if sys.argv[2] == "waits" else os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_killed_writers_left_is_swept_out_and_nothing_that_is_still_written(
    tmp_path: Path,
) -> None:
    """In the folder of the next result, whatever its name: the cache's names never come again."""
    foreign = tmp_path / ".mine.tmp"
    foreign.mkdir()
    given = [sys.executable, "-c", WRITER]
    killed = subprocess.run([*given, tmp_path / "a", "dies"], capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    with subprocess.Popen(
        [*given, tmp_path / "b", "waits"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as waiting:
        assert waiting.stdout is not None and waiting.stdout.readline() == b"ready\n"
        write(tmp_path / "c")
        left = alone(tmp_path)
        assert len(left) == 3 and left[0].startswith(".b.") and left[1:] == [".mine.tmp", "c"]
        waiting.communicate()
    assert waiting.returncode == 0 and (tmp_path / "b").read_text() == "half"
    assert alone(tmp_path) == [".mine.tmp", "b", "c"]


@pytest.mark.parametrize("killed", range(4))
def test_files_of_one_result_are_one_whenever_a_process_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: int
) -> None:
    """Killed before the removal, between it and the renames, and after them."""
    document, table, picture = (tmp_path / name for name in ("a.json", "a.csv", "a.png"))

    def result(number: int) -> None:
        write_numbers(document, {"n": number}, table, [{"n": number}], picture)

    result(1)
    picture.write_text("of 1")
    calls = 0

    def stop(call: Callable[..., None]) -> Callable[..., None]:
        def counted(*given: Any) -> None:
            nonlocal calls
            if not str(given[0]).endswith(".tmp"):
                if calls == killed:
                    raise KeyboardInterrupt
                calls += 1
            call(*given)

        return counted

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop(os.replace))
        patch.setattr(storage, "withdraw", stop(storage.withdraw))
        with pytest.raises(KeyboardInterrupt):
            result(2)
    # Where the document stands, the table and the picture are its own.
    found = json.loads(document.read_text()) if document.exists() else None
    assert found in (None, {"n": 1})
    if found is not None:
        assert table.read_text() == "n\n1\n" and picture.exists()
    result(2)
    assert json.loads(document.read_text()) == {"n": 2} and table.read_text() == "n\n2\n"
    assert alone(tmp_path) == ["a.csv", "a.json"]


def test_the_system_s_own_words_for_what_keeps_tensors_from_the_disk(tmp_path: Path) -> None:
    """Which safetensors hides in the text of an error of its own."""
    path = tmp_path / "w.safetensors"
    path.write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(ParadiseError) as caught:
            save_tensors(path, {"w": torch.zeros(1000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(caught.value).endswith(
        "w.safetensors: File too large; what was there before is untouched"
    )
    assert path.read_text() == "old"


def test_a_full_disk_leaves_all_files_of_a_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / name for name in ("last", "other")]
    for path in paths:
        path.write_text("old")

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage, "_fsync", full)
    with pytest.raises(ParadiseError, match="No space left"), publish_together(*paths) as new:
        for temporary in new:
            temporary.write_text("new")
    assert [path.read_text() for path in paths] == ["old", "old"]


def test_own_stdout_goes_on_after_the_result(tmp_path: Path) -> None:
    """`paradise ... --out /dev/stdout >file` must not put another file in the place of stdout's."""
    program = (
        "import sys; from pathlib import Path; from paradise_cli.core.storage import write_json\n"
        "print('before'); write_json(Path(sys.argv[1]), 7); print('after')"
    )
    log = tmp_path / "log"
    with log.open("wb") as file:
        subprocess.run([sys.executable, "-c", program, str(log)], stdout=file, check=True)
    assert log.read_text().split() == ["before", "7", "after"]


def test_every_writer_goes_through_one_door() -> None:
    package = Path(paradise_cli.__file__).parent
    doors = {"replace", "rename", "write_text", "write_bytes", "mkstemp", "NamedTemporaryFile"}
    for module in package.rglob("*.py"):
        if module == package / "core" / "storage.py":
            continue
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in doors - {"replace", "rename"}:
                raise AssertionError(f"{module}:{node.lineno} writes a file of its own")
            if isinstance(node, ast.Attribute) and node.attr in ("replace", "rename"):
                owner = node.value
                assert not (isinstance(owner, ast.Name) and owner.id == "os"), module


def test_tied_weights_are_written_by_both_of_their_names(tmp_path: Path) -> None:
    """Also parts of one memory: the format itself refuses two tensors that share it."""
    weight = torch.arange(6.0).view(2, 3)
    given = {"a": weight, "b": weight, "c": weight[1]}
    save_tensors(tmp_path / "t.safetensors", given, {})
    read, _ = load_tensors(tmp_path / "t.safetensors")
    assert read.keys() == given.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in given.items())


def test_tensors_in_any_order_of_memory_come_back_as_they_were(tmp_path: Path) -> None:
    """safetensors.numpy writes arrays of Fortran's order in that order: plausible wrong numbers."""
    plain = torch.arange(24.0).reshape(2, 3, 4)
    views = {
        "transposed": plain.mT,
        "strided": plain[:, ::2],
        "channels_last": plain[None].to(memory_format=torch.channels_last),
        "expanded": plain[:1].expand(5, 3, 4),
        "fortran": torch.from_numpy(np.asfortranarray(plain[0].numpy())),
    }
    assert not any(view.is_contiguous() for view in views.values())
    save_tensors(tmp_path / "t.safetensors", views, {"a": 1})
    read, metadata = load_tensors(tmp_path / "t.safetensors")
    assert metadata == {"a": 1} and read.keys() == views.keys()
    for name, view in views.items():
        assert torch.equal(read[name], view), name
