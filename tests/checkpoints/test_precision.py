"""Tensors of a half-precision checkpoint keep the precision in which they are stored."""

import re

import pytest
import torch
import transformers
from safetensors.torch import load_file

from lpcompress.checkpoints.loading import load
from lpcompress.checkpoints.precision import keep_integers
from lpcompress.checkpoints.quantizer import LpCompressQuantizer
from lpcompress.checkpoints.saving import save
from lpcompress.compression.whole_model import compress

T5 = {"vocab_size": 60, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}


def dtypes(model):
    return {parameter.dtype for parameter in model.parameters()}


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_removed_is_a_share_of_stored_bytes(tiny_model, tmp_path, dtype, on_disk, ids):
    dense = tiny_model("xlnet", "lm").to(dtype)
    dense.save_pretrained(tmp_path / "dense")
    model, _ = load(str(tmp_path / "dense"), on_disk=on_disk)
    assert dtypes(model) == {dtype}
    record = compress(model, layers=["*.q"], method="svd", ratio=0.4).layers[0]
    assert record.bytes_before == 2 * dense.transformer.layer[0].rel_attn.q.numel()
    save(model, None, tmp_path / "small")
    tensors = load_file(tmp_path / "small" / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()} == {dtype}
    assert sum(t.numel() * 2 for name, t in tensors.items() if "layer.0" in name and ".q" in name) == record.bytes_after
    again, _ = load(str(tmp_path / "small"))
    assert dtypes(again) == {dtype}
    assert bool(torch.isfinite(again(ids).logits).all())


def test_weights_that_are_stored_in_float32_stay_so(tmp_path):
    dense = transformers.T5EncoderModel(transformers.T5Config(**T5)).half()
    wo = dense.encoder.block[0].layer[1].DenseReluDense.wo
    wo.float()
    with torch.no_grad():
        wo.weight.fill_(0.1)
    dense.save_pretrained(tmp_path / "mixed")
    model, _ = load(str(tmp_path / "mixed"))
    assert model.encoder.block[0].layer[1].DenseReluDense.wo.weight.dtype == torch.float32
    dense.half().save_pretrained(tmp_path / "half")
    assert dtypes(load(str(tmp_path / "half"))[0]) == {torch.float16}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_all_tensors_get_the_dtype_that_the_caller_wants(tiny_model, tmp_path, monkeypatch, ids, dtype):
    compress(model := tiny_model("bert"), layers=["all"], method="coded", ratio=0.4, row_weights="uniform")
    model.save_pretrained(tmp_path)
    expected = model(ids).logits

    def as_stored(self, mapping, tensor, wanted):  # as transformers 5.17 does for tensors of another name in the file
        return None if mapping.source_patterns != mapping.target_patterns else wanted

    for each in (None, as_stored):
        if each:
            monkeypatch.setattr(LpCompressQuantizer, "get_new_dtype", each, raising=False)
        loaded = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=dtype)
        assert dtypes(loaded) == {dtype}
        torch.testing.assert_close(loaded(ids).logits.float(), expected, atol=0.05, rtol=0.05)


def test_a_layer_that_a_model_wants_in_float32_is_so_as_a_whole(tmp_path):
    model = transformers.T5EncoderModel(transformers.T5Config(**T5))
    compress(model, layers=["all"], method="coded", ratio=0.3, row_weights="uniform")
    model.save_pretrained(tmp_path)
    loaded = transformers.T5EncoderModel.from_pretrained(tmp_path, dtype=torch.float16)
    feed_forward = loaded.encoder.block[0].layer[1].DenseReluDense
    assert dtypes(feed_forward.wo) == {torch.float32} and dtypes(feed_forward.wi) == {torch.float16}


def test_integers_stay_integers_where_a_model_wants_float32():
    model = transformers.T5EncoderModel(transformers.T5Config(**T5))
    compress(model, layers=["*.wo"], method="coded")
    model.dtype_plan = {"wo": torch.float32}  # as in transformers 5.0
    keep_integers(model)
    for name, tensor in model.state_dict().items():
        found = [dtype for pattern, dtype in model.dtype_plan.items() if re.search(pattern, name)]
        assert not found or found[0] == tensor.dtype
