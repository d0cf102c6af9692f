"""Batches on their way to the device: prepared in the background where the device works by itself."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch

from fedward.imaging.centred import draw_classified_batch, draw_lesion_batch
from fedward.imaging.patches import Batch, TrainingCase, draw_batch
from fedward.imaging.whole_images import draw_image_batch
from fedward.models.runtime import Runtime
from fedward.randomness import Seeded
from fedward.settings.job import TrainingJob
from fedward.settings.tasks import Classification, MultiTask

#: Images, labels, and for multi-task the lesions' facts: what a batch holds, on its way or on the device.
Placed = tuple[torch.Tensor, ...]
Item = TypeVar("Item")

#: Batches that wait ahead of a CUDA device.
_AHEAD = 4


@contextmanager
def batches(
    cases: Sequence[TrainingCase], steps: range, *, job: TrainingJob, randomness: Seeded, runtime: Runtime
) -> Iterator[Iterator[Placed]]:
    """Give the steps' batches on the device.

    A CPU draws each batch when it is asked for: a second thread would take the core that trains. Before a CUDA device
    a thread draws ahead into pinned memory; it ends with the block. The batches are the same either way.
    """
    drawn = (draw(cases, count=job.training.batch_size, step=step, job=job, randomness=randomness) for step in steps)
    pairs = (tensors(batch, pinned=runtime.is_cuda) for batch in drawn)
    if not runtime.is_cuda:
        yield (placed(pair, runtime) for pair in pairs)
        return
    with ahead(pairs, depth=_AHEAD) as prepared:
        yield (placed(pair, runtime) for pair in prepared)


def draw(cases: Sequence[TrainingCase], *, count: int, step: int, job: TrainingJob, randomness: Seeded) -> Batch:
    """Draw one step's patches with the labels that the job's task asks for."""
    training, task = job.training, job.task
    if isinstance(task, Classification):
        of = draw_classified_batch if task.of == "place" else draw_image_batch
        return of(cases, count=count, step=step, training=training, task=task, randomness=randomness)
    if isinstance(task, MultiTask):
        return draw_lesion_batch(
            cases,
            count=count,
            step=step,
            training=training,
            task=task,
            spacing_mm=job.input.spacing_mm,
            randomness=randomness,
        )
    return draw_batch(cases, count=count, step=step, training=training, randomness=randomness)


@contextmanager
def ahead(items: Iterator[Item], *, depth: int) -> Iterator[Iterator[Item]]:
    """Draw up to ``depth`` items ahead in a thread, which has ended when the block has; its errors come out here."""
    waiting: queue.Queue[Item | BaseException | None] = queue.Queue(depth)
    ended = threading.Event()

    def put(item: Item | BaseException | None) -> bool:
        while not ended.is_set():
            try:
                waiting.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not put(item):
                    return
            put(None)
        except BaseException as error:  # noqa: BLE001 - handed to the thread that asked, which raises it
            put(error)

    thread = threading.Thread(target=work, name="patches", daemon=True)
    thread.start()
    try:
        yield _taken(waiting)
    finally:
        ended.set()
        thread.join()


def _taken(waiting: queue.Queue[Item | BaseException | None]) -> Iterator[Item]:
    while (item := waiting.get()) is not None:
        if isinstance(item, BaseException):
            raise item
        yield item


def tensors(batch: Batch, *, pinned: bool) -> Placed:
    """Give a batch's arrays as tensors, in pinned memory where a CUDA device will fetch them."""
    arrays = (batch.images, batch.labels) if batch.facts is None else (batch.images, batch.labels, batch.facts)
    parts = (torch.from_numpy(array) for array in arrays)
    return tuple(part.pin_memory() if pinned else part for part in parts)


def placed(parts: Placed, runtime: Runtime) -> Placed:
    """Move a batch's tensors to the device."""
    images, *truth = parts
    return runtime.place_batch(images), *(part.to(runtime.device, non_blocking=runtime.is_cuda) for part in truth)
