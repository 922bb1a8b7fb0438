from __future__ import annotations

import torch

from utils.robust import robust_deviation


def test_of_normal_values_it_is_their_standard_deviation() -> None:
    values = 3 * torch.randn(100_000, generator=torch.Generator().manual_seed(0)).double()
    found = robust_deviation(values)
    assert found.dtype == values.dtype
    torch.testing.assert_close(found, values.std(), rtol=0.01, atol=0)
    values[:20_000] = 1e6  # a fifth, which moves it by a third; the standard deviation by 10^5
    assert 3 < float(robust_deviation(values)) < 4.5


def test_of_equal_values_it_is_nothing() -> None:
    assert robust_deviation(torch.tensor([0.0, 0.0, 0.0, 7.0, -9.0])) == 0
