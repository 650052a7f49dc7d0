"""Resident forms of loaded models: chosen at loading, recorded nowhere; trainers, compilers and accelerate."""

import copy
import os
import warnings

import pytest
import torch
from accelerate import dispatch_model, load_checkpoint_and_dispatch
from safetensors import safe_open
from torch import nn
from torch.utils.data import DataLoader, Dataset

import lpcompress
from lpcompress.checkpoints import loading
from lpcompress.compression.whole_model import compress
from lpcompress.errors import LpCompressError
from lpcompress.nn import ResidentMatrix
from lpcompress.nn.residence import RESIDENCES, STORED

WEIGHTS = "model.safetensors"
KEPT = {"auto": 1e-5, "codes": 1e-5, "dense": 1e-5, "int8": 0.1}  # resident form -> tolerance of outputs
by_form = pytest.mark.parametrize("resident", KEPT)
TIED = "a head tied to the embedding"
made = {}


@pytest.fixture
def coded(tiny_model, tmp_path_factory):
    """A function (architecture) -> directory of a model all of whose layers are coded, and the model; made once."""

    def make(architecture="bert"):
        if architecture not in made:
            model = tiny_model("bert", "lm") if architecture == TIED else tiny_model(architecture)
            compress(model, layers=["all"], method="coded", ratio=0.3, row_weights="uniform")
            directory = tmp_path_factory.mktemp("coded")
            model.save_pretrained(directory)
            made[architecture] = directory, model
        directory, model = made[architecture]
        return directory, copy.deepcopy(model)

    return make


def layers(model):
    return [module for module in model.modules() if isinstance(module, ResidentMatrix)]


def content(directory):
    """Return metadata and tensors of a checkpoint; the order of the metadata is left to chance."""
    with safe_open(directory / WEIGHTS, "pt") as file:
        return file.metadata(), {name: file.get_tensor(name) for name in file.keys()}


def like(expected, resident):
    return {"atol": KEPT[resident] * float(expected.abs().max()), "rtol": 1e-4}


@pytest.mark.parametrize("architecture", ["bert", "xlnet", TIED])
@torch.no_grad()
def test_every_form_gives_the_model_and_writes_the_same_tensors(coded, tmp_path, ids, architecture):
    directory, model = coded(architecture)
    expected, (metadata, tensors) = model(ids).logits, content(directory)
    for resident in KEPT:
        loaded, _ = lpcompress.load(str(directory), resident=resident)
        assert {layer.residence for layer in layers(loaded)} == {resident}
        assert all((layer.held is None) == (layer.way() == STORED) for layer in layers(loaded))  # made already
        found = loaded(ids).logits
        torch.testing.assert_close(found, expected, **like(expected, resident))
        assert resident != "auto" or torch.equal(found, expected)
        loaded.save_pretrained(tmp_path / resident)
        again, others = content(tmp_path / resident)
        assert again == metadata and list(others) == list(tensors)
        assert all(torch.equal(others[name], tensors[name]) for name in tensors)
        assert "resident" not in (tmp_path / resident / "config.json").read_text()


def test_the_environment_decides_for_from_pretrained(coded, monkeypatch):
    directory, model = coded()
    for resident in RESIDENCES:
        monkeypatch.setenv("LPCOMPRESS_RESIDENT", resident)
        assert {each.residence for each in layers(type(model).from_pretrained(directory))} == {resident}
    assert {each.residence for each in layers(loading.load(str(directory), resident="codes")[0])} == {"codes"}
    monkeypatch.setenv("LPCOMPRESS_RESIDENT", "quick")
    with pytest.raises(LpCompressError, match="LPCOMPRESS_RESIDENT must be one of"):
        type(model).from_pretrained(directory)


@by_form
def test_loading_in_inference_mode(coded, ids, resident):
    directory, model = coded()
    with torch.inference_mode():
        loaded, _ = loading.load(str(directory), resident=resident)
        torch.testing.assert_close(loaded(ids).logits, model(ids).logits, atol=KEPT[resident], rtol=0)


@by_form
@torch.no_grad()
def test_layers_kept_on_disk_keep_nothing(coded, ids, resident):
    directory, model = coded()
    loaded, _ = loading.load(str(directory), on_disk=True, resident=resident)
    torch.testing.assert_close(loaded(ids).logits, model(ids).logits, atol=1e-5, rtol=1e-4)
    assert all(layer.held is None and layer.codes is None for layer in layers(loaded))


@by_form
def test_training_with_gradient_checkpointing(coded, ids, resident):
    directory, gradients = coded()[0], []
    for checkpointed in (False, True):
        loaded, _ = lpcompress.load(str(directory), resident=resident)
        loaded.train()
        for module in loaded.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        if checkpointed:
            with warnings.catch_warnings():  # its newer name is unknown to the oldest transformers
                warnings.simplefilter("ignore", FutureWarning)
                loaded.gradient_checkpointing_enable({"use_reentrant": False})
        loaded(ids, labels=torch.tensor([0, 1])).loss.backward()
        gradients.append({name: each.grad for name, each in loaded.named_parameters()})
    assert all(each is not None for name, each in gradients[0].items() if name.endswith(("levels", "scales")))
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-5)


@by_form
def test_a_step_of_an_optimizer_changes_the_outputs(coded, ids, resident):
    loaded, _ = lpcompress.load(str(coded()[0]), resident=resident)
    with torch.no_grad():
        before = loaded(ids).logits
    optimizer = torch.optim.SGD(loaded.parameters(), lr=0.1)
    loaded.train()(ids, labels=torch.tensor([0, 1])).loss.backward()
    optimizer.step()
    with torch.no_grad():
        after = loaded.eval()(ids).logits
        for layer in layers(loaded):
            layer.reside("int8" if resident == "int8" else "codes")  # made anew; 8 bits are far from codes by now
        expected = loaded(ids).logits
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("resident", ["auto", "int8"])
@torch.no_grad()
def test_compiled_and_exported(coded, ids, resident):
    loaded, _ = lpcompress.load(str(coded()[0]), resident=resident)
    expected = loaded(ids).logits
    torch.compiler.reset()
    compiled = torch.compile(loaded, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(ids).logits, expected, atol=1e-5, rtol=1e-4)
    program = torch.export.export(loaded, (ids,), strict=False)
    torch.testing.assert_close(program.module()(ids).logits, expected, atol=1e-5, rtol=1e-4)


def test_training_compiled(coded, ids):
    loaded, _ = lpcompress.load(str(coded()[0]))
    for module in loaded.train().modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    torch.compiler.reset()
    gradients = []
    for each in (loaded, torch.compile(loaded, fullgraph=True, backend="aot_eager")):
        loaded.zero_grad()
        each(ids, labels=torch.tensor([0, 1])).loss.backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in loaded.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-4)


@torch.no_grad()
def test_resized_and_in_half_precision(coded, tmp_path, ids):
    directory, model = coded()
    for resident in RESIDENCES:
        loaded, _ = lpcompress.load(str(directory), resident=resident)
        loaded.resize_token_embeddings(210)
        loaded.bfloat16().save_pretrained(tmp_path / resident)
        again, _ = lpcompress.load(str(tmp_path / resident), resident=resident)
        found = again(ids).logits
        assert again.dtype == torch.bfloat16 and again.config.vocab_size == 210
        assert torch.equal(found, loaded(ids).logits)
        expected = model(ids).logits
        torch.testing.assert_close(found.float(), expected, atol=0.1 * float(expected.abs().max()), rtol=0.1)


@by_form
@torch.no_grad()
def test_accelerate(coded, ids, resident):
    directory, twin = coded()
    expected = twin(ids).logits
    loaded, _ = lpcompress.load(str(directory), resident=resident)
    dispatched = dispatch_model(loaded, {"": "cpu"}, force_hooks=True)
    torch.testing.assert_close(dispatched(ids).logits, expected, **like(expected, resident))
    for layer in layers(twin):
        layer.reside(resident)
    for parameter in twin.parameters():
        parameter.zero_()
    filled = load_checkpoint_and_dispatch(twin, str(directory / WEIGHTS))
    torch.testing.assert_close(filled(ids).logits, expected, **like(expected, resident))


class Scored(Dataset):
    """Texts that are scored in the workers of a DataLoader."""

    def __init__(self, model, ids):
        self.model, self.ids = model, ids

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        with torch.no_grad():
            return self.model(self.ids[index : index + 1]).logits[0]


@pytest.mark.skipif(os.name == "nt", reason="there are no forks")
@torch.no_grad()
def test_workers_of_a_data_loader(coded, ids):
    loaded, _ = lpcompress.load(str(coded()[0]), resident="int8")
    expected = torch.stack([loaded(each.unsqueeze(0)).logits[0] for each in ids])
    for workers in (0, 1):
        batches = DataLoader(Scored(loaded, ids), batch_size=2, num_workers=workers)
        torch.testing.assert_close(next(iter(batches)), expected, atol=1e-6, rtol=1e-5)
