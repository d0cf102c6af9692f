"""A second look at what a trained network found: what it measures, and what it says when it cannot."""

from __future__ import annotations

import resource
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from fedward.dicom.volume import Volume
from fedward.errors import Stopped
from fedward.imaging.grid import to_model_grid, voxel_at
from fedward.inference.answers import Told
from fedward.inference.appraisal import MOST_FINDINGS, Appraisal, appraise
from fedward.inference.around import Around
from fedward.inference.assessment import ask_places, assess_lesions
from fedward.inference.doubt import Doubt
from fedward.inference.lesions import Inference, find_lesions, lesion_cores
from fedward.models.runtime import Runtime
from fedward.randomness import Secret
from fedward.release.passport import TrainedOn, TrainedRange
from fedward.settings.networks import MultiTaskDenseNet3D, UNet3D, ViT3D
from fedward.settings.site import Inference as Asked
from fedward.settings.tasks import MultiTask, Segmentation
from second_look_cases import (
    BALL,
    CT,
    PATCH,
    PLACES,
    SHAPE,
    SPACING_MM,
    found_in,
    look,
    model_of,
    scan,
    trained,
    trained_classifier,
    untrained,
)
from small_cases import AXIAL, affine_of, volume_of

SEEDS = range(3)
MULTITASK = MultiTask(kind="multitask", classes=("benign", "malignant"))
WHOLE = PLACES.model_copy(update={"of": "image"})


def deviations(**scans: float) -> list[float]:
    looks = (look(model_of(trained()), scan(seed, **scans), explanation="none") for seed in SEEDS)
    return [one.outline_deviation or 0.0 for seen in looks for one in seen.doubt.findings]


def test_lesions_in_corrupted_images_are_doubted_more_and_asked_for_a_second_read() -> None:
    """Measured here: 0.107 on clean scans, 0.136 under three times the noise, 0.177 at a third of the contrast."""
    clean, noisy, faint = deviations(), deviations(noise_hu=300.0), deviations(contrast_hu=180.0)
    assert len(clean) == len(faint) == 2 * len(SEEDS)
    assert np.mean(noisy) > 1.05 * np.mean(clean)
    assert np.mean(faint) > 1.4 * np.mean(clean)
    assert min(faint) > max(clean)
    between = (min(faint) + max(clean)) / 2
    for contrast, expected in ((180.0, 2), (500.0, 0)):
        doubt = look(model_of(trained()), scan(0, contrast_hu=contrast), second_read_above=between).doubt
        assert len(doubt.second_reads) == expected
        assert (doubt.method, doubt.answers, doubt.not_measured) == ("dropout", 20, 0)


@pytest.mark.parametrize(("method", "least"), [("grad_cam", 4.0), ("integrated_gradients", 8.0)])
def test_the_map_lies_on_the_lesion_far_more_than_by_chance(method: str, least: float) -> None:
    """Measured here: Grad-CAM 0.35 and integrated gradients 0.75 of the map, on lesions that fill 0.044 of it."""
    seeds = SEEDS if method == "grad_cam" else SEEDS[:1]
    looks = [look(model_of(trained()), scan(seed), explanation=method, uncertainty="none") for seed in seeds]
    told = [heat.explanation for seen in looks for heat in seen.heats]
    assert len(told) == 2 * len(seeds)
    assert {one.method for one in told} == {method}
    assert np.mean([one.on_lesion for one in told]) > least * np.mean([one.by_chance for one in told])


def judged(seed: int, **scans: float) -> Appraisal:
    """A second look at what a trained classifier says of the lesions that the trained segmentation finds."""
    model = model_of(trained_classifier(), PLACES, detector=model_of(trained()))
    return look(model, scan(seed, **scans), explanation="grad_cam")


def test_a_classifiers_map_lies_on_the_lesion_and_its_call_is_doubted_more_in_a_faint_image() -> None:
    """Measured here: 0.118 of the map against 0.044 by chance; a deviation of 0.006 on clean scans, 0.034 on faint."""
    clean, faint = ([judged(seed, contrast_hu=contrast) for seed in SEEDS] for contrast in (500.0, 180.0))
    told = [heat.explanation for seen in clean for heat in seen.heats]
    assert len(told) == 2 * len(SEEDS)
    assert np.mean([one.on_lesion for one in told]) > 2 * np.mean([one.by_chance for one in told])
    sure, unsure = (
        np.mean([one.call_deviation for seen in looks for one in seen.doubt.findings]) for looks in (clean, faint)
    )
    assert unsure > 1.5 * sure


def test_the_coloured_slice_shows_the_map_where_the_lesion_is() -> None:
    inference = found_in(model_of(trained()), scan(1))
    seen = look(model_of(trained()), scan(1), inference=inference, uncertainty="none")
    for lesion, heat in zip(inference.findings.lesions, seen.heats, strict=True):
        assert (heat.slice_number, heat.values.shape) == (lesion.slice_number, SHAPE[1:])
        inside = inference.lesion_map[lesion.slice_number - 1] == lesion.number
        assert 0 <= heat.values.min() <= heat.values.max() <= 1
        assert heat.values[inside].mean() > 4 * heat.values[~inside].mean()


def test_the_same_question_gets_the_same_answer_and_the_network_stays_as_it_was() -> None:
    model, volume = model_of(trained()), scan(2)
    inference = found_in(model, volume)
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    first, again = (look(model, volume, inference=inference) for _ in range(2))
    assert first.doubt == again.doubt
    np.testing.assert_array_equal(first.heats[0].values, again.heats[0].values)
    assert all(torch.equal(value, before[name]) for name, value in model.network.state_dict().items())
    assert not any(part.training for part in model.network.modules())


@pytest.mark.parametrize(
    ("model", "asked", "reason"),
    [
        (model_of(untrained(UNet3D(name="unet3d", channels=(8, 16)), BALL)), "dropout", "no_dropout"),
        (model_of(untrained(UNet3D(name="unet3d", channels=(8, 16), dropout=0.1), BALL)), "none", "turned_off"),
        (model_of(untrained(UNet3D(name="unet3d", channels=(8, 16), dropout=0.1), BALL)), "ensemble", "one_release"),
    ],
)
def test_what_was_not_measured_has_a_reason_and_no_number(model, asked: str, reason: str) -> None:
    doubt = look(model, scan(0), inference=found_in(model_of(trained()), scan(0)), uncertainty=asked).doubt
    assert (doubt.method, doubt.reason, doubt.answers, doubt.findings) == ("none", reason, 0, ())
    with pytest.raises(ValidationError, match="there is a reason why it is not"):
        Doubt(method="none", second_read_above=0.1)


def test_an_ensemble_of_releases_agrees_on_what_is_clear_and_not_on_what_is_faint() -> None:
    model, other = model_of(trained()), model_of(trained(seed=1))
    another_grid = replace(other, patch_size=(24, 24, 24))
    doubts = {}
    for contrast in (500.0, 150.0):
        volume = scan(0, contrast_hu=contrast)
        inference = found_in(model_of(trained()), volume)
        seen = look(model, volume, inference=inference, uncertainty="ensemble", others=(other, another_grid))
        assert (seen.doubt.method, seen.doubt.answers) == ("ensemble", 2), "another window's release does not count"
        doubts[contrast] = np.mean([one.outline_deviation or 0.0 for one in seen.doubt.findings])
    assert doubts[150.0] > 1.5 * doubts[500.0]


def marked(*boxes: tuple[slice, slice, slice], outline: Segmentation = BALL) -> tuple[Volume, Inference]:
    """A scan and the lesions that somebody marked in it."""
    labels = np.zeros(SHAPE, np.uint8)
    for box in boxes:
        labels[box] = 1
    volume = scan(3)
    return volume, find_lesions(labels, np.ones(SHAPE, np.float16), volume, task=outline, randomness=Secret())


def test_a_multi_task_models_outline_and_call_are_both_doubted_and_its_call_is_explained() -> None:
    network = MultiTaskDenseNet3D(name="multitask_densenet3d", growth_rate=8, dropout=0.2)
    model = model_of(untrained(network, MULTITASK), MULTITASK, patch_size=(16, 16, 32))
    volume, inference = marked((slice(5, 9), slice(10, 15), slice(10, 15)), outline=MULTITASK.outline)
    image = to_model_grid(volume, CT)
    places = [voxel_at(core, image) for core in lesion_cores(inference.lesion_map, volume.affine)]
    judged = assess_lesions(model, inference, ask_places(model, image, places, runtime=Runtime()))
    seen = look(model, volume, inference=judged, passes=8)
    (one,) = seen.doubt.findings
    assert one.outline_deviation is not None
    assert one.call_deviation is not None
    assert one.call_deviation > 0
    assert [heat.explanation.method for heat in seen.heats] == ["grad_cam"]


@pytest.mark.parametrize(("method", "told"), [("grad_cam", "attention_rollout"), ("integrated_gradients",) * 2])
def test_a_wholly_judged_image_has_one_doubt_and_one_map(method: str, told: str) -> None:
    network = ViT3D(
        name="vit3d", window=(24, 32, 40), token=(8, 8, 8), hidden=24, layers=2, heads=3, mlp=32, dropout=0.2
    )
    model = model_of(untrained(network, WHOLE), WHOLE, patch_size=network.window)
    volume = scan(0)
    seen = look(model, volume, explanation=method)
    (one,) = seen.doubt.findings
    assert (one.number, one.outline_deviation) == (None, None)
    assert one.call_deviation is not None
    (heat,) = seen.heats
    assert (heat.explanation.number, heat.explanation.method, heat.explanation.on_lesion) == (None, told, None)
    assert heat.values.shape == SHAPE[1:]
    assert heat.values.max() > 0.5, "the slice goes through the strongest place"


def test_a_small_number_of_patches_is_looked_at_however_much_is_marked() -> None:
    boxes = [
        (slice(z, z + 4), slice(y, y + 4), slice(x, x + 4)) for z in (2, 12) for y in (2, 12, 22) for x in (2, 14, 26)
    ]
    volume, inference = marked(*boxes)
    model = model_of(trained())
    seen = look(model, volume, inference=inference, passes=2)
    assert len(inference.findings.lesions) == 18
    assert len(seen.doubt.findings) == len(seen.heats) == MOST_FINDINGS == 12
    assert seen.doubt.not_measured == 6


def test_a_large_volume_costs_no_more_memory_than_its_model_grid() -> None:
    """Beside the model grid's own resampling only patches are held: 12 of 16 x 16 x 16 here."""
    shape = (200, 256, 256)
    generator = np.random.default_rng(0)
    array = generator.normal(-700, 60, shape).astype(np.float32)
    volume = volume_of(array, affine_of(AXIAL, SPACING_MM), patient="9")
    labels = np.zeros(shape, np.uint8)
    labels[50:55, 60:66, 60:66] = 1
    inference = find_lesions(labels, labels.astype(np.float16), volume, task=BALL, randomness=Secret())
    to_model_grid(volume, CT)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    look(model_of(trained()), volume, inference=inference)
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown_mb < 2 * array.nbytes / 2**20


def test_an_unfamiliar_image_is_compared_even_where_nothing_was_found() -> None:
    known = TrainedOn(noised=False, ranges=(TrainedRange(trait="slice_spacing", unit="mm", low=0.56, high=1.75),))
    model = model_of(trained(), trained_on=known)
    volume = volume_of(np.full(SHAPE, -700.0), affine_of(AXIAL, SPACING_MM), patient="9")
    seen = look(model, volume)
    assert isinstance(seen, Appraisal)
    assert [one.trait for one in seen.likeness.outside] == ["slice_spacing"]
    assert (seen.doubt.method, seen.doubt.findings, seen.heats) == ("dropout", (), ())


def test_a_second_look_can_be_ended() -> None:
    volume, model = scan(0), model_of(trained())
    with pytest.raises(Stopped, match="aborted"):
        appraise(model, found_in(model, volume), volume, asked=Asked(), runtime=Runtime(), should_stop=lambda: True)


def test_one_answer_is_no_doubt() -> None:
    around = Around(1, "ball", np.zeros(PATCH, np.float32), np.ones(PATCH, np.bool_), np.eye(4))
    told = Told(model_of(trained()), around)
    told.take(torch.zeros(1, 2, *PATCH))
    with pytest.raises(ValueError, match="two answers"):
        told.doubt(second_read_above=0.1)
