"""How much of a fit is done is told while it is at work, and only rises."""

import pytest
import torch

from lpcompress.factor.choice import choose
from lpcompress.factor.problem import Settings
from lpcompress.progress import Progress

CASES = [("coded", 2), ("coded", 1), ("svd", 2), ("adaptive", 2), ("lp", 1), ("messi", 1), ("auto", 1), ("auto", 2)]


@pytest.mark.parametrize(("method", "p"), CASES)
def test_shares_rise(method, p):
    told = []
    matrix = torch.randn(20_000, 24, generator=torch.Generator().manual_seed(0))
    matrix *= torch.linspace(0.2, 2, 20_000).unsqueeze(1)
    tell = Progress(lambda description, done, total: told.append(done / total))
    choose(matrix, method, 0.4, Settings(p=p), torch.linspace(1, 9, 20_000), tell)
    assert told == sorted(told) and told[0] == 0
    assert len(set(told)) >= 3 and 0.25 < told[-1] < 1
