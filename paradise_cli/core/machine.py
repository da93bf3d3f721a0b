"""What this machine is and can do: device, precision, memory layout, versions and commit."""

import functools
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from paradise_cli import __version__
from paradise_cli.core.errors import UsageError
from paradise_cli.core.processes import local_rank
from paradise_cli.core.resources import physical_memory
from paradise_cli.core.units import counted

Precision = Literal["fp32", "bf16"]


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` is the GPU where there is one.

    Under `torchrun`, `auto` and `cuda` are a GPU of the process's own, as far as there are enough.
    Raises UsageError for a device that this machine lacks.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    there = {"cpu": 1, "cuda": torch.cuda.device_count()}
    kind = _kind(name)
    if kind == "mps":
        raise UsageError("--device mps: rates are computed in float64, which mps lacks; use cpu")
    # Torch knows dozens more, on which nothing here was ever run.
    if kind not in there:
        raise UsageError(
            f"--device {name}: no such kind of device; allowed: auto, cpu, cuda, cuda:N"
        )
    device, count = torch.device(name), there[kind]
    if (device.index or 0) >= count:
        has = counted(count, f"{kind.upper()} device")
        raise UsageError(f"--device {name}: this machine has {has}")
    rank = local_rank()
    # With more processes than GPUs some share one: slower, and still right.
    if name == "cuda" and rank is not None:
        return torch.device("cuda", rank % count)
    return device


def _kind(name: str) -> str | None:
    try:
        return torch.device(name).type
    except (RuntimeError, TypeError):  # the second for what is no text
        return None


def fast_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bf16 faster than fp32.

    So do GPUs from Ampere on, and CPUs with AMX or AVX512-BF16.

    Intel's cores without AMX issue half as many AVX512-BF16 products as fp32 ones, of twice the
    width: there bf16 gains nothing and pays for the conversions.
    """
    if device.type == "cuda":
        # Older GPUs emulate bf16, which is slower than fp32.
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    cpu: Mapping[str, Any] = torch.cpu.get_capabilities()
    vectors = cpu.get("avx512_bf16") and "Intel" not in str(cpu.get("cpu_name"))
    return bool(cpu.get("amx_bf16") or vectors)


def choose_precision(name: Literal["auto", "fp32", "bf16"], device: torch.device) -> Precision:
    """`auto` is bf16 where the hardware is fast at it, else fp32."""
    if name != "auto":
        return name
    return "bf16" if fast_bf16(device) else "fp32"


def whole_batch(rows: Tensor, size: int) -> Tensor:
    """At most `size` rows [n, ...] as a batch of `size`, whose last rows are copies of the first.

    Kernels round differently at other batch shapes, and some functions take one shape only.
    """
    return torch.cat([rows, rows[:1].expand(size - len(rows), *rows.shape[1:])])


@contextmanager
def full_fp32(device: torch.device) -> Iterator[None]:
    """Where fp32 is fp32: on CUDA no TF32, and the same convolutions in every run."""
    if device.type != "cuda":
        yield
        return
    cudnn: Any = torch.backends.cudnn
    matmul = torch.backends.cuda.matmul
    kinds = (cudnn.conv, cudnn.rnn, matmul)
    before = [kind.fp32_precision for kind in kinds]
    deterministic = cudnn.deterministic

    def choose(precisions: Sequence[str], same_kernels: bool) -> None:
        # In the old way and then in the new: torch complains where the two do not agree.
        cudnn.allow_tf32 = precisions[0] == "tf32"
        matmul.allow_tf32 = precisions[2] == "tf32"
        for kind, precision in zip(kinds, precisions, strict=True):
            kind.fp32_precision = precision
        cudnn.deterministic = same_kernels

    choose(["ieee"] * 3, True)
    try:
        yield
    finally:
        choose(before, deterministic)


def fast_layout(
    device: torch.device, precision: Precision, *modules: nn.Module
) -> torch.memory_format:
    """The layout of images and weights in which these modules are fast.

    That is channels_last for convolutions, but not in fp32 on a GPU: without TF32 an H100 takes 2.6
    times as long in it (WRN-16-1, 1,024 images of 32 x 32, forward).
    """
    slow = device.type == "cuda" and precision == "fp32"
    convolve = any(
        isinstance(m, nn.Conv2d | nn.ConvTranspose2d) for each in modules for m in each.modules()
    )
    return torch.channels_last if convolve and not slow else torch.contiguous_format


def describe(device: torch.device) -> dict[str, Any]:
    """Versions, processor and threads: what bit-for-bit equality depends on."""
    processor = torch.cpu.get_capabilities().get("cpu_name", platform.processor())
    if device.type == "cuda":
        processor = torch.cuda.get_device_name(device)
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.platform(),
        "device": str(device),
        "processor": processor,
        "threads": torch.get_num_threads(),
    }


def memory_of(device: torch.device) -> int:
    """Bytes of memory that the device has, used or not."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return physical_memory()


def environment(device: torch.device) -> dict[str, Any]:
    """Where a number was measured: versions, commit, hardware."""
    return {"paradise": __version__, "commit": commit()} | describe(device)


@functools.cache
def commit() -> str | None:
    """The checkout's commit, with `+changes` where files differ; None for an installed package."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "diff", "--quiet", "HEAD"], cwd=root, capture_output=True
        ).returncode
    # Without git, or in somebody else's checkout, where git refuses to look.
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{head}+changes" if changed else head
