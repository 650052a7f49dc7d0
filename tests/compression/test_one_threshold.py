"""One threshold for the singular values of all layers, against brute force."""

import itertools

import numpy as np
import pytest
import torch

from lpcompress import compress
from lpcompress.compression.one_threshold import FEW, Spectrum
from lpcompress.compression.whole_model import preview

WIDE = {"hidden_size": 32, "intermediate_size": 64}


def random_spectra(seed):
    generator = np.random.default_rng(seed)
    return [Spectrum(np.sort(generator.random(5))[::-1], int(step), 3, 1000) for step in generator.integers(5, 9, 3)]


@pytest.mark.parametrize("seed", range(8))
def test_no_other_ranks_of_these_bytes_lose_less(seed):
    spectra = random_spectra(seed)
    threshold = np.sort(np.concatenate([each.gains for each in spectra]))[6]
    sizes = [each.size(threshold) for each in spectra]

    def lost(ranks):
        return sum(each.gains[rank:].sum() * each.step for each, rank in zip(spectra, ranks, strict=True))

    ours = [(size - each.beside) // each.step for each, size in zip(spectra, sizes, strict=True)]
    for ranks in itertools.product(range(1, 6), repeat=3):
        if sum(each.beside + rank * each.step for each, rank in zip(spectra, ranks, strict=True)) <= sum(sizes):
            assert lost(ours) <= lost(ranks) + 1e-12


def test_a_share_tells_the_loss_and_leaves_layers_that_do_not_shrink_dense():
    each = Spectrum(np.array([3.0, 2.0, 1.0]), step=10, beside=4, before=30)
    assert [each.size(threshold) for threshold in (9.0, 2.5, 1.5, 0.5)] == [14, 14, 24, 30]
    share = each.share("lp", 24)
    assert (share.method, share.loss) == ("lp", pytest.approx(1 / 6))
    assert int((1 - share.ratio) * each.before) == 24
    assert each.share("lp", 30) is None
    assert each.share("messi", 24, few=3).method == "svd"  # too few dimensions for several subspaces


@pytest.mark.parametrize("method", ["svd", "lp", "messi", "adaptive"])
def test_sizes_follow_the_spectra(tiny_model, method):
    model = tiny_model(**WIDE)
    flat, steep = (f"bert.encoder.layer.{i}.intermediate.dense" for i in (0, 1))
    with torch.no_grad():
        weight = model.get_submodule(steep).weight
        weight.copy_(torch.outer(weight[:, 0], weight[0]) + 1e-3 * weight)
    found = {
        layer.name: layer for layer in preview(model, target_size=0.93, layers=[flat, steep], method=method).layers
    }
    assert found[steep].bytes_budget < found[flat].bytes_budget if flat in found else steep in found
    assert {layer.method for layer in found.values() if layer.svd_rank < FEW} <= {method, "svd"}
    report = compress(model, target_size=0.93, layers=[flat, steep], method=method)
    assert report.parameters_after < report.parameters_before
