"""Several processes that train one model: what they must agree on before the first step."""

import json
import socket
from hashlib import sha256
from typing import Any

import torch

from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.processes import (
    from_main,
    join,
    local_world_size,
    rank,
    require_same,
    world_size,
)
from paradise_cli.core.storage import file_digest
from paradise_cli.recipe.schema import Recipe
from paradise_cli.runs.prepare import Training
from paradise_cli.training.run_folder import RunFolder
from paradise_cli.training.step import batch_of


def meet(recipe: Recipe, device: torch.device) -> None:
    """Wait for the other processes that torchrun started, if there are any.

    Raises UsageError for a recipe that several processes cannot train, or not on these GPUs.
    """
    if world_size() == 1:
        return
    require_separable(recipe, device.type, world_size())
    if device.type == "cuda":
        # Two processes on one GPU cannot send each other anything.
        if local_world_size() > torch.cuda.device_count():
            raise UsageError(
                f"{local_world_size()} processes and {torch.cuda.device_count()} GPUs on"
                f" {socket.gethostname()}: start one for each GPU, or choose --device cpu"
            )
        torch.cuda.set_device(device)
    join()


def require_same_training(training: Training) -> None:
    """Raise UsageError where this process would train something else than the main one."""
    if world_size() == 1:
        return
    images = batch_of(len(training.data.train), training.plan.batch_size)
    require_enough_images(images, world_size())
    require_same(_parts(training))


def require_separable(recipe: Recipe, device: str, world: int) -> None:
    """Raise UsageError for a recipe that so many processes cannot train on that kind of device."""
    if world > 1 and recipe.train.compile:
        raise UsageError(
            f"train.compile: a graph cannot wait for {world} processes; set it to false"
        )
    if world > 1 and recipe.train.sync_batch_norm and device != "cuda":
        raise UsageError(
            "train.sync_batch_norm: torch has it for GPUs alone; set it to false, or choose a GPU"
        )


def require_enough_images(batch_size: int, world: int) -> None:
    """Raise UsageError where some process would have no image of a batch."""
    if batch_size < world:
        raise UsageError(
            f"{world} processes and batches of {batch_size:,}: each needs an image of every batch;"
            " start fewer, or raise train.batch_size"
        )


def _parts(training: Training) -> dict[str, str]:
    """Digests of what must be the same everywhere, by the word for it."""
    stands_on, environment = training.checkpoints.metadata, training.environment()
    parts: dict[str, Any] = {
        "version of PARADISE or torch": [environment["paradise"], environment["torch"]],
        "modules that the recipe imports": environment["imports"],
        "recipe": stands_on["settings"],
        "precision": training.plan.precision,
        "state of the data": stands_on["data"],
        "checkpoint": training.step,
    }
    return {
        name: sha256(json.dumps(part, sort_keys=True, default=str).encode()).hexdigest()
        for name, part in parts.items()
    }


def require_shared(folder: RunFolder) -> None:
    """Raise ParadiseError where this process does not see what the main one wrote to the folder."""
    if world_size() == 1:
        return
    written = from_main(file_digest(folder.recipe) if rank() == 0 else "")
    seen = file_digest(folder.recipe) if folder.recipe.exists() else None
    if seen != written:
        raise ParadiseError(
            f"process {rank()} on {socket.gethostname()} does not see what the main process wrote"
            f" to {folder.path}: all machines must share that folder; choose one by --out"
        )
