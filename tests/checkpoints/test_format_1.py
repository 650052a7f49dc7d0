"""Checkpoints of format version 1, written by lpcompress 0.1.0, load and give the same outputs in every later version.

The package is only imported, and no name from it is used, so that changes inside it cannot change these tests.
"""

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

import lpcompress  # noqa: F401  # registers the format

DATA = Path(__file__).parent.parent / "data" / "format-1"
CHECKPOINTS = sorted(file.parent for file in DATA.glob("*/config.json"))
KINDS = {
    *("low_rank", "clustered", "sparse"),
    *("low_rank_linear", "clustered_linear", "sparse_linear", "sketched_linear"),
    *("low_rank_conv", "clustered_conv", "sparse_conv", "sketched_conv1d", "sketched_conv2d"),
    *("low_rank_einsum", "clustered_einsum", "sparse_einsum", "sketched_einsum"),
}
METHODS = {"svd", "lp", "messi", "adaptive", "sparse", "sketch"}
# half precision rounds every product, and outputs reach 10
EXACT = {torch.float32: 1e-5, torch.float16: 2e-2, torch.bfloat16: 1e-1}
MULTIPLIED_OUT = {torch.float32: 1e-4, torch.float16: 5e-2, torch.bfloat16: 3e-1}  # the weights are rounded too
by_checkpoint = pytest.mark.parametrize("directory", CHECKPOINTS, ids=lambda directory: directory.name)


def config_of(directory):
    return json.loads((directory / "config.json").read_text(encoding="utf-8"))


def layers_of(directory):
    return config_of(directory)["quantization_config"]["layers"]


def weights_of(directory):
    files = sorted(directory.glob("model*.safetensors"))
    return {key: tensor for file in files for key, tensor in load_file(file).items()}


def load(directory):
    [name] = config_of(directory)["architectures"]
    return getattr(transformers, name).from_pretrained(directory).eval()


def assert_same(found, expected):
    """Assert that names, dtypes and values of tensors are equal to the bit."""
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        assert found[key].dtype == tensor.dtype and torch.equal(found[key], tensor), key


def assert_outputs(model, directory, tolerances):
    stored = load_file(directory / "expected.safetensors")
    inputs = {key.removeprefix("inputs."): tensor for key, tensor in stored.items() if key.startswith("inputs.")}
    [name] = [key.removeprefix("outputs.") for key in stored if key.startswith("outputs.")]
    with torch.no_grad():
        found = model(**inputs)[name].float()
    torch.testing.assert_close(found, stored[f"outputs.{name}"], atol=tolerances[model.dtype], rtol=0)


@by_checkpoint
def test_every_stored_tensor_is_in_the_model(directory):
    model, stored = load(directory), weights_of(directory)
    state, _ = model.hf_quantizer.get_state_dict_and_metadata(model)  # by names in files
    assert_same({key: state[key] for key in stored}, stored)


@by_checkpoint
def test_outputs_are_unchanged(directory):
    assert_outputs(load(directory), directory, EXACT)


@by_checkpoint
def test_saving_again_changes_nothing(directory, tmp_path):
    load(directory).save_pretrained(tmp_path)
    assert_same(weights_of(tmp_path), weights_of(directory))
    assert layers_of(tmp_path) == layers_of(directory)
    assert config_of(tmp_path)["quantization_config"]["format_version"] == 1


@by_checkpoint
def test_multiplied_out_models_give_the_same_outputs(directory):
    model = load(directory)
    model.dequantize()
    assert_outputs(model, directory, MULTIPLIED_OUT)


def test_the_checkpoints_cover_every_kind_and_every_method():
    entries = [entry for directory in CHECKPOINTS for entry in layers_of(directory).values()]
    assert {entry["kind"] for entry in entries} == KINDS
    assert {entry["method"] for entry in entries} == METHODS
    assert {entry["p"] for entry in entries} == {1.0, 2.0}
    sparse = [entry for entry in entries if "bits" in entry]
    assert {entry["bits"] for entry in sparse if entry["width"] is None} == {0, 1, 2, 4, 8}
    assert {entry["bits"] for entry in sparse if entry["width"] is not None} == {0, 2, 4, 8}  # with a basis
    assert any(entry.get("ordered") for entry in entries)
    assert {entry.get("padding_idx") for entry in entries} == {None, 0, 1}


def test_the_checkpoints_cover_every_precision_and_shards():
    assert {config_of(directory)["dtype"] for directory in CHECKPOINTS} == {"float32", "float16", "bfloat16"}
    assert any((directory / "model.safetensors.index.json").exists() for directory in CHECKPOINTS)
    assert {config_of(directory)["quantization_config"]["format_version"] for directory in CHECKPOINTS} == {1}
