"""Work shared out among the processes that torchrun started, exactly (docs/scale.md)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from paradise_cli.core.processes import from_each, join, rank, world_size

Block = TypeVar("Block")


@dataclass(frozen=True)
class Share:
    """The rows of a batch of `total` that this process has, of so many processes.

    What a process computes is its share of the loss: the shares of all add up to the loss of the
    whole batch, and so do their gradients. Where there are several processes each must call the
    methods that speak to the others, in the same order.
    """

    total: int
    rank: int = 0
    world: int = 1

    @property
    def rows(self) -> slice:
        """Which rows of the batch they are."""
        first, behind = (self.total * rank // self.world for rank in (self.rank, self.rank + 1))
        return slice(first, behind)

    @property
    def size(self) -> int:
        """How many they are."""
        return len(range(self.total)[self.rows])

    def mean(self, values: Tensor) -> Tensor:
        """This share of the mean over the batch, from the values at the own rows, [b, ...]."""
        mean = values.mean()
        return mean if self.world == 1 else mean * (self.size / self.total)

    def equal(self, value: Tensor) -> Tensor:
        """An equal part of what all processes know."""
        return value if self.world == 1 else value / self.world

    def gathered(self, *own: Tensor) -> tuple[Tensor, ...]:
        """Tensors [b, ...] of own rows as those of the whole batch, [total, ...], in one message.

        Their gradient is that of the losses of all processes.
        """
        if self.world == 1:
            return own
        flat = [each.flatten(1) for each in own]
        columns = [each.shape[1] for each in flat]
        whole: Tensor = _Gathered.apply(torch.cat(flat, 1), self)
        parts = torch.split(whole, columns, 1)
        return tuple(
            part.reshape(self.total, *each.shape[1:]) for part, each in zip(parts, own, strict=True)
        )

    def summed(self, value: Tensor) -> Tensor:
        """The sum of what the processes have, without a gradient."""
        total = value.detach()
        if self.world > 1:
            total = total.clone()
            distributed.all_reduce(total)
        return total

    @torch.no_grad()
    def sum_into(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor, all of one kind, by its sum over the processes, in one message."""
        if self.world == 1 or not tensors:
            return
        flat = torch.cat([each.flatten() for each in tensors])
        distributed.all_reduce(flat)
        parts = torch.split(flat, [each.numel() for each in tensors])
        for each, part in zip(tensors, parts, strict=True):
            each.copy_(part.view_as(each))


class _Gathered(torch.autograd.Function):
    """[b, C] of each process -> [total, C]; back comes the sum of what all processes send."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, share: Share) -> Tensor:
        ctx.share = share
        sizes = [Share(share.total, rank, share.world).size for rank in range(share.world)]
        return _rows_of_all(own, sizes)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.share.summed(gradient.contiguous())[ctx.share.rows], None


@dataclass(frozen=True)
class Processes:
    """Those that compute one thing together, and the number of this one among them.

    Each must call the methods that speak to the others, in the same order.
    """

    rank: int = 0
    world: int = 1

    def among(self, blocks: int) -> "Processes":
        """These where each can have one of so many blocks, else this one alone: each does all."""
        return self if blocks >= self.world else ALONE

    def own(self, blocks: Sequence[Block]) -> Sequence[Block]:
        """The blocks that this process has, in a row."""
        return blocks[Share(len(blocks), self.rank, self.world).rows]

    def joined(self, own: Tensor) -> Tensor:
        """The rows [n, ...] of each process, one after the other, without a gradient."""
        if self.world == 1:
            return own
        sizes = [int(size) for size in from_each(torch.tensor(len(own)))]
        return _rows_of_all(own, sizes)


ALONE = Processes()


def all_processes() -> Processes:
    """Those that torchrun started, once they have met."""
    if world_size() > 1:
        join()
    return Processes(rank(), world_size())


def _rows_of_all(own: Tensor, sizes: Sequence[int]) -> Tensor:
    """Rows [n, ...] of each process, of which there are so many, in one message."""
    # Messages are of one size: shorter ones are filled up.
    sent = own.new_zeros(max(sizes), *own.shape[1:])
    sent[: len(own)] = own
    found = [torch.empty_like(sent) for _ in sizes]
    distributed.all_gather(found, sent)
    return torch.cat([part[:size] for part, size in zip(found, sizes, strict=True)])
