from __future__ import annotations

import pytest
import torch

from fedward.errors import SettingsError
from fedward.models import runtime as runtime_module
from fedward.models.runtime import Runtime, choose_runtime, step_seconds
from fedward.settings.site import Compute
from network_cases import CASES, DENSENET, MULTITASK, NetworkCase
from small_cases import job_with

JOB = job_with()


def choose(patch_size: tuple[int, int, int] = (8, 8, 8), **compute: object) -> Runtime:
    return choose_runtime(
        Compute.model_validate({"device": "cpu", **compute}),
        network=JOB.network,
        task=JOB.task,
        patch_size=patch_size,
        batch_size=1,
    )


def test_the_site_files_precision_holds() -> None:
    assert choose(precision="float32").autocast_dtype is None
    assert choose(precision="bfloat16").autocast_dtype is torch.bfloat16


def test_a_cpu_takes_the_fastest_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    fastest = Runtime("cpu", torch.bfloat16, channels_last=True)
    monkeypatch.setattr(runtime_module, "step_seconds", lambda candidate, *_: 0.1 if candidate == fastest else 0.2)
    assert choose() == fastest


@pytest.mark.parametrize("depth", [2, 4])
def test_a_cpu_never_takes_bfloat16_for_a_level_of_two_voxels_depth(
    depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_module, "step_seconds", lambda candidate, *_: 0.1 if candidate.autocast_dtype else 0.2)
    assert choose((depth, 8, 8)).autocast_dtype is None
    assert choose((8, depth, depth)).autocast_dtype is torch.bfloat16
    with pytest.raises(SettingsError, match="invalid_settings"):
        choose((depth, 8, 8), precision="bfloat16")


def test_a_cuda_device_takes_bfloat16_and_channels_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose(device="auto") == Runtime("cuda", torch.bfloat16, channels_last=True)
    assert choose(device="cuda:1", precision="float32") == Runtime("cuda:1", None, channels_last=True)


def test_networks_are_compiled_where_the_site_file_says_so_alone() -> None:
    assert not choose(precision="float32").is_compiled
    assert choose(precision="float32", compile="on").is_compiled


@pytest.mark.parametrize(("seconds", "pays"), [(0.8, True), (0.95, False), (None, False)])
def test_compiling_that_is_measured_must_clearly_pay(
    seconds: float | None, pays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def timed(candidate: Runtime, *_: object) -> float:
        if candidate.is_compiled and seconds is None:
            raise RuntimeError("no C++ compiler")
        return seconds if candidate.is_compiled and seconds else 1.0

    monkeypatch.setattr(runtime_module, "step_seconds", timed)
    assert choose(compile="auto").is_compiled == pays
    assert not choose().is_compiled


def test_the_benchmark_leaves_pytorchs_generator_alone() -> None:
    before = torch.get_rng_state()
    choose(precision="float32")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_memory_layout_changes_no_answer(channels_last: bool) -> None:
    runtime = Runtime(channels_last=channels_last)
    module = runtime.place_module(torch.nn.Conv3d(1, 4, 3, bias=False).requires_grad_(False))
    module.weight.fill_(0.5)
    batch = runtime.place_batch(torch.ones(2, 1, 4, 4, 4))
    assert module(batch).contiguous().tolist() == torch.full((2, 4, 2, 2, 2), 13.5).tolist()
    assert module.weight.is_contiguous(memory_format=torch.channels_last_3d) or not channels_last


def test_autocast_computes_in_bfloat16() -> None:
    with Runtime(autocast_dtype=torch.bfloat16).autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.bfloat16
    with Runtime().autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.float32


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_a_step_of_every_network_is_timed(case: NetworkCase) -> None:
    assert 0 < step_seconds(Runtime(), case.network, case.task, (1, 1, *case.patch_size)) < 60


@pytest.mark.parametrize(("depth", "is_refused"), [(32, True), (48, False)])
def test_the_dense_networks_deepest_level_counts_too(
    depth: int, is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_module, "step_seconds", lambda *_: 0.1)
    compute = Compute.model_validate({"device": "cpu", "precision": "bfloat16"})
    asked = {"network": DENSENET, "task": MULTITASK, "patch_size": (depth, 16, 16), "batch_size": 1}
    if is_refused:
        with pytest.raises(SettingsError, match="invalid_settings"):
            choose_runtime(compute, **asked)
    else:
        assert choose_runtime(compute, **asked).autocast_dtype is torch.bfloat16
