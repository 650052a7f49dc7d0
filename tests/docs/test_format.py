"""docs/format.md is enough to read a coded layer: an independent reader gives the same numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from docs.reader import matrix
from safetensors.numpy import load_file

import lpcompress


def read(coded):
    width = coded.width if coded.has_basis else None
    return matrix(coded.stream.numpy(), coded.scales.numpy(), coded.levels.numpy(), coded.shape, width)


@pytest.mark.parametrize("ratio", [0.3, 0.9])
@pytest.mark.parametrize("shape", [(1500, 48), (40, 300)], ids=["basis", "no basis"])
def test_a_fitted_matrix(shape, ratio):
    generator = torch.Generator().manual_seed(0)
    plain = torch.randn(shape, generator=generator) * torch.logspace(0, -2, shape[1])
    plain[5] *= 1000  # a row far from the others: codes with lower bits
    coded = lpcompress.factorize(plain, method="coded", ratio=ratio)
    assert coded.has_basis == (shape[0] > shape[1])
    np.testing.assert_allclose(read(coded), coded.dense().numpy(), atol=2e-6 * float(plain.abs().max()))


def test_values_outside_the_tables_and_more_than_one_part(random_factorization):
    from lpcompress.formats.coded import Coded
    from lpcompress.formats.coded_stream import Codes

    generator = torch.Generator().manual_seed(1)
    codes = (3 * torch.randn(70_000, 5, generator=generator)).round().int()
    codes[7] = torch.tensor([128, -128, 40_000, -2_000_000_000, 2_000_000_000])
    rows = torch.randint(0, 127, (70_000,), generator=generator, dtype=torch.int16)  # classes with long lower bits
    steps = torch.randint(-63, 64, (70_000,), generator=generator, dtype=torch.int16)
    held = Codes(codes, steps, rows, torch.tensor([0, -8, 8, 40, -100], dtype=torch.int16))
    coded = Coded.of(held, torch.ones(5, dtype=torch.float64), torch.tensor([1.0, 0.5, -0.25], dtype=torch.float64))
    np.testing.assert_allclose(read(coded), coded.dense().numpy(), rtol=1e-6)
    assert random_factorization("coded").dense().numpy() == pytest.approx(read(random_factorization("coded")), abs=1e-5)


def test_a_checkpoint(tiny_model, tmp_path):
    model = tiny_model("bert", "base", hidden_size=64, pad_token_id=0)
    lpcompress.compress(model, method="coded", ratio=0.8, row_weights="uniform")
    model.save_pretrained(tmp_path)
    layers = json.loads(Path(tmp_path, "config.json").read_text())["quantization_config"]["layers"]
    [(name, layer)] = layers.items()
    assert layer["kind"] == "coded"
    tensors = load_file(tmp_path / "model.safetensors")
    assert len(tensors[f"{name}.stream"]) == layer["stream"]
    found = matrix(
        *(tensors[f"{name}.{leaf}"] for leaf in ("stream", "weight", "levels")), layer["shape"], layer["width"]
    )
    found[layer["padding_idx"]] = tensors[f"{name}.padding_row"]
    np.testing.assert_allclose(found, model.get_input_embeddings().weight.detach().numpy(), atol=1e-5)
