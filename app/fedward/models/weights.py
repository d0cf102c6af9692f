"""A network's weights as one flat array, and what lies where in it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fedward.errors import ModelError


@dataclass(frozen=True)
class Layout:
    """The trainable parameters of a network in their fixed order.

    Attributes:
        names: As the network registers them.
        shapes: Of each.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return sum(math.prod(shape) for shape in self.shapes)

    @property
    def digest(self) -> str:
        """SHA-256 of names and shapes, hexadecimal: two networks exchange weights only when it agrees."""
        text = json.dumps(list(zip(self.names, self.shapes, strict=True)), separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def parts(self) -> Iterator[tuple[str, tuple[int, ...], slice]]:
        """Give each parameter's name, shape and place in the flat array."""
        start = 0
        for name, shape in zip(self.names, self.shapes, strict=True):
            stop = start + math.prod(shape)
            yield name, shape, slice(start, stop)
            start = stop


def layout_of(module: torch.nn.Module) -> Layout:
    """Give the layout of a network's trainable parameters (never its buffers)."""
    parameters = _trainable(module)
    return Layout(tuple(parameters), tuple(tuple(value.shape) for value in parameters.values()))


def read_weights(module: torch.nn.Module) -> NDArray[np.float32]:
    """Copy the trainable parameters into one float32 array, shape ``(layout.size,)``."""
    values = [value.detach().float().flatten() for value in _trainable(module).values()]
    return torch.cat(values).cpu().numpy()


def write_weights(module: torch.nn.Module, flat: NDArray[np.float32]) -> None:
    """Set the trainable parameters from one flat array.

    Raises:
        ModelError: ``wrong_layout``: the array is not one float32 number for each parameter.
    """
    layout = layout_of(module)
    _check(layout, flat)
    with torch.no_grad():
        for value, (_, shape, place) in zip(_trainable(module).values(), layout.parts(), strict=True):
            value.copy_(torch.from_numpy(np.ascontiguousarray(flat[place]).reshape(shape).copy()))


def named(layout: Layout, flat: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Cut a flat array into the named parameters (copies).

    Raises:
        ModelError: ``wrong_layout``.
    """
    _check(layout, flat)
    return {name: flat[place].reshape(shape).copy() for name, shape, place in layout.parts()}


def flattened(layout: Layout, parameters: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """Join named parameters into one flat array: the inverse of :func:`named`.

    Raises:
        ModelError: ``wrong_layout``: names, shapes or number type differ from the layout.
    """
    if set(parameters) != set(layout.names):
        differing = sorted(set(parameters) ^ set(layout.names))
        raise ModelError("wrong_layout", f"parameters differ from the network's by {differing[:5]}")
    for name, shape, _ in layout.parts():
        found = parameters[name]
        if found.shape != shape or found.dtype != np.float32:
            raise ModelError("wrong_layout", f"{name}: expected float32 {shape}, found {found.dtype} {found.shape}")
    return np.concatenate([parameters[name].ravel() for name in layout.names])


def _trainable(module: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    return {name: value for name, value in module.named_parameters() if value.requires_grad}


def _check(layout: Layout, flat: NDArray[np.float32]) -> None:
    if flat.dtype != np.float32 or flat.shape != (layout.size,):
        raise ModelError("wrong_layout", f"expected float32 ({layout.size},), found {flat.dtype} {flat.shape}")
