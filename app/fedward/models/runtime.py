"""How this machine runs a network: on which device, in which precision and memory layout, compiled or not."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

from fedward.errors import SettingsError
from fedward.models.networks import build
from fedward.models.weights import write_weights
from fedward.settings.networks import AnyNetwork
from fedward.settings.site import Compute
from fedward.settings.tasks import AnyTask

#: Steps of each candidate in the micro-benchmark after one that warms up; the fastest counts.
_TIMED_STEPS = 2

#: A compiled step must take at most this share of the time: what compiling costs comes back soon.
_PAYS = 0.9

#: On a CPU with AVX-512, PyTorch 2.13's bfloat16 convolution leaves parts of the weight's gradient unwritten when its
#: input has just this depth: whatever lay in memory then counts as gradient.
_BROKEN_DEPTH = 2


@dataclass(frozen=True)
class Runtime:
    """Where and how a network runs.

    Attributes:
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        autocast_dtype: bfloat16 for mixed precision, None for plain float32.
        channels_last: Whether tensors lie in memory with the channel last.
        is_compiled: Whether a network is compiled before it trains.
    """

    device: str = "cpu"
    autocast_dtype: torch.dtype | None = None
    channels_last: bool = False
    is_compiled: bool = False

    @property
    def is_cuda(self) -> bool:
        """Whether it is a CUDA device."""
        return self.device.startswith("cuda")

    def autocast(self) -> AbstractContextManager[object]:
        """Give the mixed-precision context for a forward pass."""
        kind = "cuda" if self.is_cuda else "cpu"
        return torch.autocast(kind, dtype=self.autocast_dtype, enabled=self.autocast_dtype is not None)

    def place_module(self, module: torch.nn.Module) -> torch.nn.Module:
        """Move a network to the device and into the memory layout."""
        if self.channels_last:
            # PyTorch's signature of Module.to lacks the 3-D memory format's overload.
            return module.to(device=self.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload, no-any-return]
        return module.to(device=self.device)

    def compiled(self, module: torch.nn.Module) -> torch.nn.Module:
        """Give a network that is to train, compiled in place where this runtime says so; its parameters stay its own.

        Evaluation runs as it stands: windows come in batches of many sizes, and each would be compiled anew.
        """
        if self.is_compiled:
            module.compile(dynamic=False)
        return module

    def place_batch(self, batch: torch.Tensor) -> torch.Tensor:
        """Move a batch ``(batch, channel, ...)`` to the device and into the memory layout."""
        moved = batch.to(device=self.device, non_blocking=self.is_cuda)
        return moved.contiguous(memory_format=torch.channels_last_3d) if self.channels_last else moved


def evaluation_network(
    network: AnyNetwork, weights: NDArray[np.float32], *, task: AnyTask, runtime: Runtime
) -> torch.nn.Module:
    """Give a network with these weights (flat), where ``runtime`` runs it, set to evaluate.

    Raises:
        ModelError: ``wrong_layout``: the weights are another network's.
    """
    module = build(network, task=task)
    write_weights(module, weights)
    return runtime.place_module(module).eval()


def choose_runtime(
    compute: Compute, *, network: AnyNetwork, task: AnyTask, patch_size: tuple[int, int, int], batch_size: int
) -> Runtime:
    """Choose what pays on this machine.

    A CUDA device takes bfloat16 and channels-last. A CPU is asked by a micro-benchmark of one training step, which
    takes a second or two; so is either whether compiling pays, where the site file has it measured. Sets PyTorch's
    number of threads when the site file gives one.

    Raises:
        SettingsError: ``invalid_settings``: the site file asks for bfloat16 where a CPU would compute nonsense.
    """
    if compute.threads:
        torch.set_num_threads(compute.threads)
    device = _device(compute)
    if device.startswith("cuda"):
        candidates = [Runtime(device, None if compute.precision == "float32" else torch.bfloat16, channels_last=True)]
    else:
        precisions = _cpu_precisions(compute, is_shallow=_is_two_deep(network, patch_size))
        candidates = [Runtime(device, dtype, layout) for dtype, layout in product(precisions, (False, True))]

    def seconds(runtime: Runtime) -> float:
        return step_seconds(runtime, network, task, (batch_size, 1, *patch_size))

    fastest = candidates[0] if len(candidates) == 1 else min(candidates, key=seconds)
    compiled = replace(fastest, is_compiled=True)
    if compute.compile == "on" or (compute.compile == "auto" and _pays(compiled, fastest, seconds)):
        return compiled
    return fastest


def step_seconds(runtime: Runtime, network: AnyNetwork, task: AnyTask, shape: tuple[int, ...]) -> float:
    """Time one training step (forward and backward) on a batch of ``shape``; the fastest of a few."""
    with torch.random.fork_rng(devices=[]):
        module = runtime.compiled(runtime.place_module(build(network, task=task)))
    batch = runtime.place_batch(torch.zeros(shape))
    return min([_one_step(runtime, module, batch) for _ in range(1 + _TIMED_STEPS)][1:])


def _pays(compiled: Runtime, eager: Runtime, seconds: Callable[[Runtime], float]) -> bool:
    """Whether a compiled step is clearly faster; it is not where it cannot be compiled at all."""
    try:
        return seconds(compiled) < _PAYS * seconds(eager)
    except RuntimeError:  # every error of PyTorch's compilers is one: no C++ compiler, a graph that they cannot take
        return False


def _one_step(runtime: Runtime, module: torch.nn.Module, batch: torch.Tensor) -> float:
    start = time.perf_counter()
    with runtime.autocast():
        output = module(batch)
    answers = [output] if isinstance(output, torch.Tensor) else list(output)
    torch.autograd.backward([answer.float().square().mean() for answer in answers])
    if runtime.is_cuda:
        torch.cuda.synchronize(runtime.device)
    return time.perf_counter() - start


def _device(compute: Compute) -> str:
    if compute.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return compute.device


def _is_two_deep(network: AnyNetwork, patch_size: tuple[int, int, int]) -> bool:
    """Whether one of the network's levels is two voxels deep along the first axis."""
    return any(patch_size[0] // 2**level == _BROKEN_DEPTH for level in range(network.levels))


def _cpu_precisions(compute: Compute, *, is_shallow: bool) -> tuple[torch.dtype | None, ...]:
    if is_shallow and compute.precision == "bfloat16":
        raise SettingsError(
            "invalid_settings",
            f"[compute] precision is bfloat16, but at {_BROKEN_DEPTH} voxels of depth PyTorch's bfloat16 "
            "convolutions give wrong gradients on a CPU: use auto or float32",
        )
    if is_shallow:
        return (None,)
    choices: dict[str, tuple[torch.dtype | None, ...]] = {
        "auto": (None, torch.bfloat16),
        "float32": (None,),
        "bfloat16": (torch.bfloat16,),
    }
    return choices[compute.precision]
