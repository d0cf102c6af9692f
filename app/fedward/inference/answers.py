"""Several answers to one patch, and how much they differ: Monte-Carlo dropout, or several releases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from fedward.inference.around import Around
from fedward.inference.assessment import assessing
from fedward.inference.doubt import DIGITS, FindingDoubt
from fedward.inference.model import LoadedModel
from fedward.inference.uncertainty import Floats, Uncertainty, dropping, lesion_uncertainties, summarise_passes
from fedward.models.runtime import Runtime
from fedward.randomness import Seeded
from fedward.settings.tasks import Classification, MultiTask, Segmentation

#: Copies of a patch that go through a network at a time, each with its own dropout.
_AT_A_TIME = 4


class Told:
    """What the answers so far say of one finding: of an outline only its own voxels are kept.

    Args:
        model: Which task is answered.
        around: The finding.
    """

    def __init__(self, model: LoadedModel, around: Around) -> None:
        self._model, self._around = model, around
        self._outlines: list[Floats] = []
        self._calls: list[Floats] = []

    def take(self, answer: Any) -> None:
        """Take a network's answer to a batch of copies of the patch."""
        task = self._model.task
        if not isinstance(task, Classification) and self._around.mask.any():
            logits = answer.segmentation if isinstance(task, MultiTask) else answer
            inside = logits.float()[:, :, torch.from_numpy(self._around.mask).to(logits.device)]
            self._outlines += list(torch.softmax(inside, dim=1).cpu().numpy())
        if not isinstance(task, Segmentation):
            self._calls += list(self._call(answer).cpu().numpy())

    def doubt(self, *, second_read_above: float) -> FindingDoubt:
        """Summarise all answers.

        Raises:
            ValueError: there were fewer than two, or they say nothing.
        """
        if max(len(self._outlines), len(self._calls)) < 2:
            raise ValueError("doubt comes from two answers or more")
        outline = _outline_deviation(summarise_passes(self._outlines)) if self._outlines else None
        call = summarise_passes(self._calls) if self._calls else None
        index = assessing(self._model).positive_index if call else 0
        of_call = float(np.sqrt(call.variance[index])) if call else None
        told = call or summarise_passes(self._outlines)
        return FindingDoubt(
            number=self._around.number,
            outline_deviation=_rounded(outline),
            call_deviation=_rounded(of_call),
            entropy=round(float(told.entropy.mean()), DIGITS),
            disagreement=round(float(told.disagreement.mean()), DIGITS),
            second_read=max(_rounded(one) or 0.0 for one in (outline, of_call)) > second_read_above,
        )

    def _call(self, answer: Any) -> torch.Tensor:
        logits = answer
        if isinstance(self._model.task, MultiTask):
            logits = torch.stack([torch.zeros_like(answer.malignancy), answer.malignancy], dim=1)
        calibration = self._model.own.calibration if self._model.own else None
        return torch.softmax(logits.float() / (calibration.temperature if calibration else 1.0), dim=1)


def ask_with_dropout(
    model: LoadedModel, around: Around, *, passes: int, runtime: Runtime, check: Callable[[], None]
) -> Told:
    """Ask one network several times with dropout on; what is dropped depends on the finding's number alone.

    Raises:
        ValueError: the network drops nothing.
    """
    told, seed = Told(model, around), Seeded(0).seed_of("dropout", around.number or 0)
    with dropping(model.network, seed=seed) as network:
        for size in _batches(passes):
            check()
            told.take(_answer(network, around, copies=size, runtime=runtime))
    return told


def ask_each(models: Sequence[LoadedModel], around: Around, *, runtime: Runtime, check: Callable[[], None]) -> Told:
    """Ask several networks once each; all of them see the same window and answer the first one's task."""
    told = Told(models[0], around)
    for model in models:
        check()
        told.take(_answer(model.network, around, copies=1, runtime=runtime))
    return told


def _answer(network: torch.nn.Module, around: Around, *, copies: int, runtime: Runtime) -> Any:
    patch = torch.from_numpy(around.patch)[None, None].expand(copies, -1, -1, -1, -1).contiguous()
    with torch.inference_mode(), runtime.autocast():
        return network(runtime.place_batch(patch))


def _batches(passes: int) -> Iterator[int]:
    for start in range(0, passes, _AT_A_TIME):
        yield min(_AT_A_TIME, passes - start)


def _outline_deviation(uncertainty: Uncertainty) -> float:
    (found,) = lesion_uncertainties(uncertainty, np.ones(uncertainty.entropy.shape, np.uint8))
    return found.deviation


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)
