"""Projective clustering: planted subspaces, refits for distance powers below 2, ranks, edge cases."""

import pytest
import torch

from lpcompress.errors import LpCompressError
from lpcompress.factor import Clustered, factorize
from lpcompress.factor.clustered import assemble
from lpcompress.factor.norms import relative_error


def subspaces(sizes, ranks, d=32, noise=0.0, seed=0):
    """Rows that lie in a few subspaces, in random order."""
    generator = torch.Generator().manual_seed(seed)
    parts = [
        torch.randn(size, rank, generator=generator) @ torch.randn(rank, d, generator=generator)
        for size, rank in zip(sizes, ranks, strict=True)
    ]
    matrix = torch.cat(parts)[torch.randperm(sum(sizes), generator=generator)]
    return matrix + noise * torch.randn(matrix.shape, generator=generator)


def test_messi_recovers_planted_subspaces():
    matrix = subspaces((500, 500, 500), (4, 4, 4))
    fitted = factorize(matrix, "messi", ratio=0.80, clusters=3, starts=10)
    assert fitted.ranks == [5, 5, 5]
    assert relative_error(matrix, fitted.dense()) < 1e-3


def test_adaptive_finds_unequal_ranks():
    matrix = subspaces((200, 1800), (20, 2))
    fitted = factorize(matrix, "adaptive", ratio=0.80, clusters=4)
    messi = factorize(matrix, "messi", ratio=0.80)
    assert max(fitted.ranks) >= 15 > min(fitted.ranks)
    assert relative_error(matrix, fitted.dense()) < 0.5 * relative_error(matrix, messi.dense())


def test_distance_power_weighs_outlying_rows_less():
    matrix = subspaces((900,), (3,), noise=0.01)
    outliers = 30 * torch.randn(40, 32, generator=torch.Generator().manual_seed(2))
    both = torch.cat([matrix, outliers])
    errors = [
        relative_error(matrix, factorize(both, "messi", 0.87, clusters=2, distance_power=q).dense()[:900])
        for q in (2.0, 1.0)
    ]
    assert errors[1] < errors[0]


def test_more_clusters_than_rows_is_refused():
    with pytest.raises(LpCompressError, match=r"at most the number of rows, 20\. Got 50"):
        factorize(torch.randn(20, 16), "messi", ratio=0.5, clusters=50)


def test_assemble_drops_empty_clusters_and_puts_rank_zero_last():
    matrix = torch.randn(10, 4)
    labels = torch.tensor([0, 3, 1, 1, 3, 0, 0, 3, 1, 0])
    bases = [torch.zeros(0, 4), torch.eye(4)[:2], torch.eye(4), torch.eye(4)[:1]]
    fitted = assemble(matrix, labels, bases)
    assert fitted.ranks == [2, 1, 0]
    assert fitted.rows == [3, 3, 4]
    expected = matrix.clone()
    expected[labels == 0] = 0
    expected[labels == 1, 2:] = 0
    expected[labels == 3, 1:] = 0
    assert torch.allclose(fitted.dense(), expected)
    assert torch.equal(fitted.labels, torch.tensor([2, 1, 0, 0, 1, 2, 2, 1, 0, 2]))


def test_scale_rows_scales_every_kind():
    matrix, factors = torch.randn(300, 24), torch.rand(300) + 0.5
    for method in ("svd", "messi", "adaptive"):
        fitted = factorize(matrix, method, ratio=0.5)
        scaled = fitted.scale_rows(factors)
        assert type(scaled) is type(fitted)
        assert torch.allclose(scaled.dense(), fitted.dense() * factors.unsqueeze(1), atol=1e-5)


def test_clustered_is_integer_addressed():
    fitted = factorize(subspaces((300, 300), (6, 2), noise=0.1), "adaptive", ratio=0.6)
    assert isinstance(fitted, Clustered)
    assert fitted.offsets.dtype == torch.int32


def test_adaptive_start_survives_a_row_of_zeros():
    matrix = subspaces((200, 1800), (20, 2))
    matrix[7] = 0
    assert len(factorize(matrix, "adaptive", ratio=0.80, clusters=4).ranks) > 1


def test_adaptive_start_survives_more_rows_of_zeros_than_others():
    matrix = subspaces((200, 1800), (20, 2)).double()
    matrix[torch.arange(2000) % 3 > 0] = 0
    fitted = factorize(matrix, "adaptive", ratio=0.80, clusters=4)
    assert torch.equal(fitted.dense()[1], torch.zeros(matrix.shape[1], dtype=torch.float64))
    assert relative_error(matrix, fitted.dense()) <= relative_error(matrix, factorize(matrix, "svd", 0.80).dense())
