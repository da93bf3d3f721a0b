"""The formats of exported files: how each is written, and how it is read back to be checked."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paradise_cli.core.errors import ParadiseError, named
from paradise_cli.export.network import INPUT, Answers, ExportedNetwork, Runner

METADATA = "paradise"
_BATCH = {0: torch.export.Dim("batch")}  # the axis of every input and output that may vary


@dataclass(frozen=True)
class Format:
    """How a network is written into a file with a text about it, and how the file is run.

    `checker` names what reads it back, and `run` is None where that is not installed.
    """

    write: Callable[[ExportedNetwork, Tensor, str, Path], None]
    run: Callable[[Path], Runner | None]
    checker: str


def _traced(network: ExportedNetwork, images: Tensor) -> torch.export.ExportedProgram:
    try:
        program = torch.export.export(network, (images,), dynamic_shapes=(_BATCH,))
    # Of a dozen kinds, and with pages of what was traced so far.
    except Exception as error:
        raise ParadiseError(
            f"torch cannot trace this model: {named(error)}; does a component from outside the"
            " package branch on the values of a tensor?"
        ) from error
    # They hold the paths of this machine's source files, once for each operation.
    for module in program.graph_module.modules():
        for node in getattr(module, "graph", torch.fx.Graph()).nodes:
            node.meta.pop("stack_trace", None)
    return program


def write_onnx(network: ExportedNetwork, images: Tensor, text: str, path: Path) -> None:
    """One .onnx file; raises ParadiseError where onnx or onnxscript is not installed."""
    lacking = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if lacking:
        raise ParadiseError(
            f"--format onnx needs {' and '.join(lacking)}, not installed here: pip install"
            " 'paradise-cli[onnx]', or use --format torch"
        )
    # Its own deprecations are no concern of who exports a model.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program: Any = torch.onnx.export(
            _traced(network, images), input_names=[INPUT], output_names=list(network.names),
            verbose=False,
        )  # fmt: skip
    answers = {id(value) for value in program.model.graph.outputs}
    for node in program.model.graph:
        node.metadata_props.clear()
        for value in node.outputs:
            # An operation inside may have the name that an answer is given (torch 2.14.1), and a
            # file with two of a name is none.
            if value.name in network.names and id(value) not in answers:
                value.name = f"inner_{value.name}"
    program.model.metadata_props[METADATA] = text
    # By default weights go to a second file beside this one.
    program.save(path, external_data=False)


def run_onnx(path: Path) -> Runner | None:
    """By onnxruntime, where it is installed."""
    if find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Answers:
        return [torch.from_numpy(each) for each in session.run(None, {INPUT: images.numpy()})]

    return run


def write_torch(network: ExportedNetwork, images: Tensor, text: str, path: Path) -> None:
    """One .pt2 archive, for `torch.export.load`."""
    program = _traced(network, images)
    # They would be the one pickle in the archive, and are of no use to anyone.
    program.example_inputs = None
    # A file, not a path: torch asks for the name of the final one.
    with path.open("wb") as file:
        torch.export.save(program, file, extra_files={f"{METADATA}.json": text})


def run_torch(path: Path) -> Runner:
    """By torch itself."""
    with path.open("rb") as file:
        module: Any = torch.export.load(file).module()

    def run(images: Tensor) -> Answers:
        with torch.no_grad():
            found: Answers = module(images)
        return found

    return run


def checked_by(format: Format) -> str:
    """What reads the file back, with its version."""
    return f"{format.checker} {version(format.checker)}"


FORMATS = {
    "onnx": Format(write_onnx, run_onnx, "onnxruntime"),
    "torch": Format(write_torch, run_torch, "torch"),
}
