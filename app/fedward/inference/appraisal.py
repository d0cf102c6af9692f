"""A second look at what was found: is the image like the training images, how sure is the model, what did it see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fedward.dicom.volume import Volume
from fedward.errors import Stopped
from fedward.imaging.grid import ModelImage, to_model_grid
from fedward.inference.answers import ask_each, ask_with_dropout
from fedward.inference.around import Around, around_findings
from fedward.inference.doubt import Doubt
from fedward.inference.heat import Heat, explain
from fedward.inference.lesions import Inference
from fedward.inference.likeness import Likeness, compare
from fedward.inference.model import LoadedModel
from fedward.inference.uncertainty import dropouts
from fedward.models.runtime import Runtime
from fedward.settings.site import Inference as Asked

#: So many of the largest lesions are asked about: it bounds the time, whatever a model marks.
MOST_FINDINGS = 12


@dataclass(frozen=True, eq=False)
class Appraisal:
    """What stands beside the findings.

    Attributes:
        likeness: Of the image to the training images.
        doubt: Of the findings.
        heats: Where the answers come from, by finding; none where the hospital asks for none.
    """

    likeness: Likeness
    doubt: Doubt
    heats: tuple[Heat, ...] = ()


def appraise(
    model: LoadedModel,
    inference: Inference,
    volume: Volume,
    *,
    asked: Asked,
    runtime: Runtime,
    others: Sequence[LoadedModel] = (),
    image: ModelImage | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Appraisal:
    """Look at the findings again, one patch of the model's size around each of the largest ones.

    Args:
        model: The model that answered.
        inference: What it found.
        volume: In what.
        asked: What the hospital wants to know.
        runtime: Where the model runs.
        others: For an ensemble, other releases of the model's name; those of another task or grid do not count.
        image: ``volume`` on the model's grid, where somebody has brought it there already.
        should_stop: Asked between batches.

    Raises:
        SettingsError: ``missing_extra``: integrated gradients without captum.
        Stopped: ``aborted``.
    """

    def check() -> None:
        if should_stop():
            raise Stopped("aborted", "inference was asked to end while findings were looked at again")

    members = (model, *(other for other in others if _is_alike(other, model)))
    likeness, doubt = compare(volume, model.input, model.trained_on), _plan(asked, members)
    patches: tuple[Around, ...] = ()
    if inference.findings.lesions or inference.findings.assessment:
        image = image or to_model_grid(volume, model.input)
        patches = tuple(around_findings(inference, volume, image, model.patch_size, most=MOST_FINDINGS))
    measured, heats = [], []
    for around in patches:
        check()
        if doubt.method == "dropout":
            told = ask_with_dropout(model, around, passes=asked.passes, runtime=runtime, check=check)
            measured.append(told.doubt(second_read_above=asked.second_read_above))
        elif doubt.method == "ensemble":
            told = ask_each(members, around, runtime=runtime, check=check)
            measured.append(told.doubt(second_read_above=asked.second_read_above))
        if asked.explanation != "none":
            heats.append(explain(model, inference.findings, around, volume, asked=asked.explanation, runtime=runtime))
    left = max(0, len(inference.findings.lesions) - MOST_FINDINGS) if doubt.method != "none" else 0
    doubt = Doubt(**{**dict(doubt), "findings": tuple(measured), "not_measured": left})
    return Appraisal(likeness, doubt, tuple(heats))


def _plan(asked: Asked, members: Sequence[LoadedModel]) -> Doubt:
    """Say how doubt is measured, before it is."""
    above = asked.second_read_above
    if asked.uncertainty == "none":
        return Doubt(method="none", reason="turned_off", second_read_above=above)
    if asked.uncertainty == "ensemble":
        if len(members) < 2:
            return Doubt(method="none", reason="one_release", second_read_above=above)
        return Doubt(method="ensemble", answers=len(members), second_read_above=above)
    if not dropouts(members[0].network):
        return Doubt(method="none", reason="no_dropout", second_read_above=above)
    return Doubt(method="dropout", answers=asked.passes, second_read_above=above)


def _is_alike(other: LoadedModel, model: LoadedModel) -> bool:
    return (other.task, other.input, other.patch_size) == (model.task, model.input, model.patch_size)
