"""Learning rates of coded layers are relative to the sizes of their numbers."""

import pytest
import torch
from torch import nn

from lpcompress.finetuning.rates import use_units
from lpcompress.nn import from_factorization


@pytest.mark.parametrize("size", [1e-4, 1.0, 100.0])
def test_a_step_changes_the_matrix_alike_whatever_its_size(random_factorization, size):
    changes = []
    for scale in (1.0, size):
        coded = random_factorization("coded").scale_rows(torch.full((203,), scale))
        layer = from_factorization(coded, nn.Embedding(203, 20))
        before = layer.dense().detach().clone()
        optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-2, weight_decay=0.1)
        use_units(optimizer, layer)
        assert optimizer.param_groups[0]["params"] == []
        wanted = torch.randn(before.shape, generator=torch.Generator().manual_seed(0))
        (layer.dense() / scale * wanted).sum().backward()
        optimizer.step()
        changes.append((layer.dense().detach() - before) / scale)
    assert 0.005 < float(changes[0].norm() / before.norm() * scale) < 0.05
    torch.testing.assert_close(changes[1], changes[0], atol=1e-4 * float(changes[0].abs().max()), rtol=1e-3)


def test_other_parameters_keep_their_groups(random_factorization):
    layer = from_factorization(random_factorization("low_rank"), nn.Linear(20, 203))
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-2)
    use_units(optimizer, layer)
    [group] = optimizer.param_groups
    assert group["params"] == [*layer.parameters()] and group["lr"] == 1e-2
