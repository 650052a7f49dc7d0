"""Whole models on an accelerator: compressing, saving, loading, resident forms, training and the commands."""

import copy
import json

import pytest
import torch
from transformers import AutoModelForSequenceClassification

import lpcompress
from lpcompress.compression.whole_model import compress
from lpcompress.nn import from_factorization
from lpcompress.nn.residence import RESIDENCES

KINDS = ["low_rank", "clustered", "sparse", "levels", "entries", "coded", "coded entries"]
METHODS = ["svd", "lp", "messi", "adaptive", "coded", "auto"]
ARCHITECTURES = ["bert", "roberta", "distilbert", "xlnet"]


@pytest.mark.parametrize("plain", [torch.nn.Embedding(203, 20), torch.nn.Linear(20, 203)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_moves_and_computes_what_it_did(device, random_factorization, kind, plain):
    layer = from_factorization(random_factorization(kind), plain)
    inputs = torch.randint(203, (3, 7)) if isinstance(plain, torch.nn.Embedding) else torch.randn(3, 7, 20)
    expected = layer(inputs)
    moved = copy.deepcopy(layer).to(device)
    torch.testing.assert_close(moved(inputs.to(device)).cpu(), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(moved.dense().cpu(), layer.dense(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(moved.cpu()(inputs), expected)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("method", METHODS)
def test_a_model_compressed_there_is_saved_and_loads_anywhere(device, tiny_model, tmp_path, ids, method, architecture):
    model = tiny_model(architecture)
    compress(model, layers=["all"], method=method, ratio=0.4, row_weights="uniform", device=device)
    assert {tensor.device.type for tensor in model.state_dict().values()} == {"cpu"}
    expected = model(ids).logits
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(ids).logits, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(loaded.to(device)(ids.to(device)).logits.cpu(), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_a_model_that_is_there_already(device, tiny_model, tmp_path, ids, method):
    model = tiny_model("bert").to(device)
    compress(model, layers=["all"], method=method, ratio=0.4, row_weights="uniform")
    assert {tensor.device.type for tensor in model.state_dict().values()} == {device}
    expected = model(ids.to(device)).logits.cpu()
    model.save_pretrained(tmp_path)
    loaded, _ = lpcompress.load(str(tmp_path))
    torch.testing.assert_close(loaded(ids).logits, expected, atol=1e-3, rtol=1e-3)


@pytest.fixture
def coded(tiny_model, tmp_path):
    """Directory of a model all of whose layers are coded."""
    model = tiny_model("bert")
    compress(model, layers=["all"], method="coded", ratio=0.4, row_weights="uniform")
    model.save_pretrained(tmp_path / "coded")
    return tmp_path / "coded"


@pytest.mark.parametrize("resident", list(RESIDENCES))
@torch.no_grad()
def test_resident_forms(device, coded, ids, resident):
    expected = lpcompress.load(str(coded))[0](ids).logits
    model, _ = lpcompress.load(str(coded), resident=resident)
    model.to(device)
    found = model(ids.to(device)).logits.cpu()
    near = 0.1 * float(expected.abs().max()) if resident == "int8" else 1e-4
    torch.testing.assert_close(found, expected, atol=near, rtol=1e-3)


def test_loading_straight_onto_the_accelerator(device, coded, ids):
    expected = lpcompress.load(str(coded))[0](ids).logits
    model = AutoModelForSequenceClassification.from_pretrained(coded, device_map=device)
    assert {tensor.device.type for tensor in model.state_dict().values()} == {device}
    torch.testing.assert_close(model(ids.to(device)).logits.cpu(), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_there(device, coded, ids, dtype):
    expected = lpcompress.load(str(coded))[0](ids).logits
    model = AutoModelForSequenceClassification.from_pretrained(coded, dtype=dtype).to(device)
    found = model(ids.to(device)).logits
    assert found.dtype == dtype
    torch.testing.assert_close(found.float().cpu(), expected, atol=0.05, rtol=0.05)


def test_resized_and_saved_there(device, coded, ids, tmp_path):
    model, _ = lpcompress.load(str(coded))
    expected = model(ids).logits
    model.to(device).resize_token_embeddings(model.config.vocab_size + 5, mean_resizing=False)
    torch.testing.assert_close(model(ids.to(device)).logits.cpu(), expected, atol=1e-4, rtol=1e-3)
    model.save_pretrained(tmp_path / "resized")
    again, _ = lpcompress.load(str(tmp_path / "resized"))
    torch.testing.assert_close(again(ids).logits, expected, atol=1e-4, rtol=1e-3)


def test_a_step_of_an_optimizer_there(device, coded, ids):
    model, _ = lpcompress.load(str(coded))
    model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(3):
        loss = model(ids.to(device), labels=torch.tensor([0, 1], device=device)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit, which inductor imports
@pytest.mark.parametrize("resident", ["codes", "dense"])
@torch.no_grad()
def test_compiled_without_a_graph_break(device, coded, ids, resident):
    model, _ = lpcompress.load(str(coded), resident=resident)
    model.to(device)
    expected = model(ids.to(device)).logits
    compiled = torch.compile(model, fullgraph=True)
    torch.testing.assert_close(compiled(ids.to(device)).logits, expected, atol=1e-3, rtol=1e-3)


def test_the_commands(device, tiny_classifier, glue_dir, run, tmp_path):
    dense, small = tiny_classifier("mrpc"), tmp_path / "small"
    code, out, err = run(
        *("compress", dense, "--layers", "all", "--target-size", "0.4", "--device", device, "--json", "--out", small)
    )
    assert code == 0, err
    scores = {}
    for where in ("cpu", device):
        command = ("eval-glue", small, "--tasks", "mrpc", "--data", glue_dir, "--baseline", dense, "--json")
        code, out, err = run(*command, "--device", where)
        assert code == 0, err
        scores[where] = json.loads(out)["tasks"]["mrpc"]
    assert scores[device]["score"] == pytest.approx(scores["cpu"]["score"], abs=5)  # one row of 20
    recipe = ("--data", glue_dir, "--split", "validation", "--max-steps", "3", "--batch-size", "4", "--json")
    code, out, err = run("finetune", small, "--task", "mrpc", *recipe, "--distill", dense, "--out", tmp_path / "tuned")
    assert code == 0, err
    assert run("verify", tmp_path / "tuned")[0] == 0


def test_a_plan_run_twice_there_gives_the_same_tensors(device, tiny_model, word_tokenizer):
    found = []
    for _ in range(2):
        model = tiny_model("bert", "base")
        compress(model, layers=["all"], target_size=0.4, tokenizer=word_tokenizer, device=device)
        found.append(model.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
