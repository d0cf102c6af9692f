"""The networks that a job may name, and what each asks of task and patch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from fedward.settings.read import Settings
from fedward.settings.tasks import AnyTask

PositiveInt = Annotated[int, Field(gt=0)]
Sizes = tuple[PositiveInt, PositiveInt, PositiveInt]
Dropout = Annotated[float, Field(ge=0, lt=1)]

#: Attention between more places than this takes more memory than a hospital's GPU has.
_MOST_TOKENS = 4096


class UNet3D(Settings):
    """A residual 3D U-Net: one level a channel count, halved (or not) along each axis between levels."""

    task_kind: ClassVar[str] = "segmentation"

    name: Literal["unet3d"]
    channels: Annotated[tuple[Annotated[int, Field(ge=4, le=1024)], ...], Field(min_length=2, max_length=6)]
    residual_units: Annotated[int, Field(ge=0, le=4)] = 1
    norm: Literal["instance", "group"] = "instance"
    dropout: Dropout = 0.0

    @property
    def levels(self) -> int:
        """Resolutions at which it convolves, each half the one before."""
        return len(self.channels)

    @property
    def reduction(self) -> int:
        """How many times smaller the deepest level is along each axis."""
        return int(2 ** (self.levels - 1))

    def patch_faults(self, patch_size: tuple[int, int, int]) -> Iterator[str]:
        """Say what is wrong with a training patch for this network."""
        yield from _not_multiples(patch_size, self.reduction)


class ViT3D(Settings):
    """A vision transformer that classifies a window of fixed size (Dosovitskiy et al. 2021).

    Attributes:
        window: Voxels along each axis of what it sees; the training patch must have this size.
        token: Voxels along each axis of one token; divides ``window``.
        hidden: Numbers a token.
        layers: Transformer blocks.
        heads: Attention heads of each; divide ``hidden``.
        mlp: Numbers in the middle of each block's perceptron.
        dropout: Share of numbers dropped in training.
    """

    task_kind: ClassVar[str] = "classification"

    name: Literal["vit3d"]
    window: Sizes
    token: Sizes
    hidden: Annotated[int, Field(ge=8, le=2048)] = 192
    layers: Annotated[int, Field(ge=1, le=32)] = 6
    heads: Annotated[int, Field(ge=1, le=32)] = 6
    mlp: Annotated[int, Field(ge=8, le=8192)] = 384
    dropout: Dropout = 0.0

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if any(size % part for size, part in zip(self.window, self.token, strict=True)):
            raise ValueError(f"token must divide window along each axis, got {list(self.token)} of {list(self.window)}")
        if self.hidden % self.heads:
            raise ValueError(f"heads must divide hidden, got {self.heads} of {self.hidden}")
        if not 2 <= math.prod(self.grid) <= _MOST_TOKENS:
            raise ValueError(f"window must hold 2 to {_MOST_TOKENS} tokens, got {math.prod(self.grid)}")
        return self

    @property
    def levels(self) -> int:
        """Resolutions at which it convolves: it cuts the window into tokens, once."""
        return 1

    @property
    def grid(self) -> tuple[int, int, int]:
        """Tokens along each axis."""
        first, second, third = (size // part for size, part in zip(self.window, self.token, strict=True))
        return first, second, third

    def patch_faults(self, patch_size: tuple[int, int, int]) -> Iterator[str]:
        """Say what is wrong with a training patch for this network."""
        if patch_size != self.window:
            yield f"training.patch_size must be network.window {list(self.window)}, got {list(patch_size)}"


class DenseNet3D(Settings):
    """A 3D DenseNet that classifies (Huang et al. 2017); sees any patch that its halvings leave something of.

    Attributes:
        growth_rate: Channels that each dense layer adds.
        blocks: Dense layers of each block; DenseNet-121's own are 6, 12, 24 and 16.
        dropout: Share of channels dropped in each dense layer.
    """

    task_kind: ClassVar[str] = "classification"

    name: Literal["densenet3d"]
    growth_rate: Annotated[int, Field(ge=4, le=64, multiple_of=4)] = 32
    blocks: Annotated[tuple[Annotated[int, Field(ge=1, le=48)], ...], Field(min_length=1, max_length=4)] = (
        6,
        12,
        24,
        16,
    )
    dropout: Dropout = 0.0

    @property
    def levels(self) -> int:
        """Resolutions at which it convolves, each half the one before."""
        return len(self.blocks) + 2

    @property
    def reduction(self) -> int:
        """How many times smaller the deepest level is along each axis."""
        return int(2 ** (self.levels - 1))

    def patch_faults(self, patch_size: tuple[int, int, int]) -> Iterator[str]:
        """Say what is wrong with a training patch for this network."""
        small = [size for size in patch_size if size < self.reduction]
        if small:
            yield f"training.patch_size must be at least {self.reduction} for this network, got {small}"


class MultiTaskDenseNet3D(Settings):
    """A 3D DenseNet-121 with channel and position attention, a decoder for voxels, and two heads for the lesion.

    Attributes:
        growth_rate: Channels that each dense layer adds; DenseNet-121's own is 32. Time grows with its square.
        dropout: Share of channels dropped in each dense layer, and of numbers before the two heads.
    """

    task_kind: ClassVar[str] = "multitask"

    name: Literal["multitask_densenet3d"]
    growth_rate: Annotated[int, Field(ge=8, le=64, multiple_of=8)] = 32
    dropout: Dropout = 0.0

    @property
    def levels(self) -> int:
        """Resolutions at which it convolves, each half the one before."""
        return 5

    @property
    def reduction(self) -> int:
        """How many times smaller the deepest level is along each axis."""
        return int(2 ** (self.levels - 1))

    def patch_faults(self, patch_size: tuple[int, int, int]) -> Iterator[str]:
        """Say what is wrong with a training patch for this network."""
        yield from _not_multiples(patch_size, self.reduction)
        if all(size < 2 * self.reduction for size in patch_size):
            yield f"training.patch_size must reach {2 * self.reduction} along an axis for position attention"


AnyNetwork = UNet3D | ViT3D | DenseNet3D | MultiTaskDenseNet3D


def fit_faults(network: AnyNetwork, task: AnyTask, patch_size: tuple[int, int, int]) -> tuple[str, ...]:
    """Say, one sentence each, why a network does not fit a task and a training patch; nothing where it fits."""
    kind = (
        ()
        if network.task_kind == task.kind
        else (f"network {network.name} does {network.task_kind}, but the task is {task.kind}",)
    )
    return (*kind, *network.patch_faults(patch_size))


def _not_multiples(patch_size: tuple[int, int, int], step: int) -> Iterator[str]:
    wrong = [size for size in patch_size if size % step]
    if wrong:
        yield f"training.patch_size must be multiples of {step} for this network, got {wrong}"
