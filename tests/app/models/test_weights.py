from __future__ import annotations

import numpy as np
import pytest
import torch

from fedward.errors import ModelError
from fedward.models.weights import Layout, flattened, layout_of, named, read_weights, write_weights


def small() -> torch.nn.Module:
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 1))
    module[2].bias.requires_grad = False
    return module


def test_only_trainable_parameters_are_in_the_layout() -> None:
    layout = layout_of(small())
    assert layout.names == ("0.weight", "0.bias", "1.weight", "1.bias", "2.weight")
    assert layout.shapes == ((3, 2), (3,), (3,), (3,), (1, 3))
    assert layout.size == 6 + 3 + 3 + 3 + 3


def test_what_is_written_is_read_back() -> None:
    module = small()
    flat = np.arange(18, dtype=np.float32)
    write_weights(module, flat)
    np.testing.assert_array_equal(read_weights(module), flat)
    np.testing.assert_array_equal(module[0].weight.detach().numpy(), [[0, 1], [2, 3], [4, 5]])


def test_reading_gives_a_copy() -> None:
    module = small()
    before = read_weights(module)
    kept = before.copy()
    write_weights(module, before + 1)
    np.testing.assert_array_equal(before, kept)


def test_names_and_back_is_the_identity() -> None:
    layout = layout_of(small())
    flat = np.random.default_rng(0).normal(size=18).astype(np.float32)
    np.testing.assert_array_equal(flattened(layout, named(layout, flat)), flat)


def test_the_order_of_named_parameters_does_not_matter() -> None:
    layout = layout_of(small())
    flat = np.arange(18, dtype=np.float32)
    turned = dict(reversed(named(layout, flat).items()))
    np.testing.assert_array_equal(flattened(layout, turned), flat)


@pytest.mark.parametrize(
    "flat", [np.zeros(17, np.float32), np.zeros(18, np.float64), np.zeros((18, 1), np.float32)], ids=str
)
def test_another_number_of_weights_is_refused(flat: np.ndarray) -> None:
    with pytest.raises(ModelError, match="wrong_layout"):
        write_weights(small(), flat)


def test_other_names_shapes_or_types_are_refused() -> None:
    layout = layout_of(small())
    good = named(layout, np.zeros(18, np.float32))
    for bad in (
        {name: value for name, value in good.items() if name != "0.bias"},
        {**good, "more": np.zeros(1, np.float32)},
        {**good, "0.weight": np.zeros((2, 3), np.float32)},
        {**good, "0.weight": np.zeros((3, 2), np.float64)},
    ):
        with pytest.raises(ModelError, match="wrong_layout"):
            flattened(layout, bad)


def test_the_digest_tells_layouts_of_equal_size_apart() -> None:
    first = Layout(("a", "b"), ((2, 3), (4,)))
    assert first.digest == Layout(("a", "b"), ((2, 3), (4,))).digest
    assert (
        len({first.digest, Layout(("a", "b"), ((3, 2), (4,))).digest, Layout(("b", "a"), ((2, 3), (4,))).digest}) == 3
    )
