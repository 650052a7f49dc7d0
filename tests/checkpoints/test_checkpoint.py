"""Checkpoints on disk: complete or absent, and readable by a process that knows nothing of this one."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForMaskedLM, BertForSequenceClassification, PreTrainedTokenizerFast

from lpcompress.checkpoints import files, loading, saving
from lpcompress.compression.whole_model import compress
from lpcompress.errors import CheckpointError, NeedsTrainingWarning
from lpcompress.factor import METHODS

ARCHITECTURES = ("bert", "roberta", "distilbert", "xlnet")
KINDS = ("low_rank", "clustered", "sparse", "levels")


@pytest.fixture
def tokenizer():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij"]
    model = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    model.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]"}
    return PreTrainedTokenizerFast(tokenizer_object=model, **names)


def files_of(directory):
    return {p.name: p.read_bytes() for p in directory.iterdir()}


RELOAD = """
import sys, pathlib, torch
import transformers
import lpcompress
torch.set_num_threads(1)
for directory in pathlib.Path(sys.argv[1]).iterdir():
    architecture, head, kind = directory.name.split("-")
    auto = {"classifier": "AutoModelForSequenceClassification", "lm": "AutoModelForMaskedLM"}[head]
    if (architecture, head) == ("xlnet", "lm"):
        auto = "AutoModelForCausalLM"
    model = getattr(transformers, auto).from_pretrained(directory)
    expected = torch.load(directory / "expected.pt")
    assert torch.equal(model(expected["ids"]).logits, expected["logits"]), directory
    print(directory.name)
"""


def test_logits_are_equal_to_the_bit_in_a_fresh_process(compressed, ids, tmp_path, fresh_python):
    for architecture in ARCHITECTURES:
        for head in ("classifier", "lm"):
            for kind in KINDS:
                model = compressed(architecture, head, kind)
                directory = tmp_path / f"{architecture}-{head}-{kind}"
                saving.save(model, None, directory)
                torch.save({"ids": ids, "logits": model(ids).logits.detach()}, directory / "expected.pt")
    done = fresh_python(RELOAD, tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 8 * len(KINDS)


def test_every_layer_by_every_method_in_a_fresh_process(tiny_model, ids, tmp_path, fresh_python):
    for architecture in ARCHITECTURES:
        for method in METHODS:
            model = tiny_model(architecture, "lm" if method == "messi" else "classifier")
            head = "lm" if method == "messi" else "classifier"
            compress(model, layers=["all"], method=method, ratio=0.3, clusters=2 if method == "messi" else None)
            directory = tmp_path / f"{architecture}-{head}-{method}"
            saving.save(model, None, directory, max_shard_size="9KB" if method == "adaptive" else None)
            torch.save({"ids": ids, "logits": model(ids).logits.detach()}, directory / "expected.pt")
        model = tiny_model(architecture)
        with pytest.warns(NeedsTrainingWarning):
            compress(model, layers=["all"], method="sketch", ratio=0.3)
        saving.save(model, None, tmp_path / f"{architecture}-classifier-sketch")
        expected = {"ids": ids, "logits": model(ids).logits.detach()}
        torch.save(expected, tmp_path / f"{architecture}-classifier-sketch" / "expected.pt")
    done = fresh_python(RELOAD, tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 4 * (len(METHODS) + 1)


def test_without_the_package_no_layer_is_random(tiny_model, tmp_path, fresh_python):
    for architecture in ARCHITECTURES:
        for word in ("attention", "ffn"):
            model = tiny_model(architecture)
            compress(model, layers=[word], method="svd", ratio=0.4)
            saving.save(model, None, tmp_path / f"{architecture}-{word}")
    script = """
import sys, pathlib, transformers
for directory in pathlib.Path(sys.argv[1]).iterdir():
    try:
        transformers.AutoModelForSequenceClassification.from_pretrained(directory)
    except RuntimeError as error:
        print(directory.name)
assert "lpcompress" not in sys.modules
"""
    done = fresh_python(script, tmp_path)
    assert len(done.stdout.split()) == 8, done.stderr


def test_densify_every_layer(tiny_model, ids, tmp_path):
    for architecture in ARCHITECTURES:
        model = tiny_model(architecture, "lm")
        shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
        compress(model, layers=["all"], method="adaptive", ratio=0.3, clusters=2)
        saving.save(model, None, tmp_path / architecture)
        saving.densify(tmp_path / architecture, tmp_path / f"{architecture}-dense")
        dense, _ = loading.load(str(tmp_path / f"{architecture}-dense"))
        assert {name: tensor.shape for name, tensor in dense.state_dict().items()} == shapes
        torch.testing.assert_close(dense(ids).logits, model(ids).logits, atol=1e-5, rtol=1e-4)


def test_without_the_package_loading_fails(compressed, tmp_path, fresh_python):
    for kind in KINDS:
        saving.save(compressed(kind=kind), None, tmp_path / kind)
    script = """
import sys, transformers
for kind in ("low_rank", "clustered", "sparse", "levels"):
    try:
        transformers.AutoModelForSequenceClassification.from_pretrained(sys.argv[1] + "/" + kind)
    except RuntimeError as error:
        print(kind)
assert "lpcompress" not in sys.modules
"""
    done = fresh_python(script, tmp_path)
    assert done.stdout.split() == list(KINDS), done.stderr


def test_load_and_save_keep_everything(compressed, tokenizer, ids, tmp_path):
    model = compressed("roberta", "lm", "sparse")
    saving.save(model, tokenizer, tmp_path / "a", lambda where: {"README.md": f"# {files.file_bytes(where) > 0} é\n"})
    loaded, again = loading.load(str(tmp_path / "a"))
    assert type(loaded) is type(model) and torch.equal(loaded(ids).logits, model(ids).logits)
    assert again("a b x")["input_ids"] == tokenizer("a b x")["input_ids"]
    assert (tmp_path / "a" / "README.md").read_text(encoding="utf-8") == "# True é\n"
    saving.save(loaded, again, tmp_path / "b")
    ours, theirs = files_of(tmp_path / "a"), files_of(tmp_path / "b")
    assert ours["model.safetensors"] == theirs["model.safetensors"] and ours["config.json"] == theirs["config.json"]
    assert files.file_bytes(tmp_path / "a") == len(ours["model.safetensors"])
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_shards(compressed, ids, tmp_path):
    model = compressed("bert", "lm", "clustered")
    saving.save(model, None, tmp_path / "a", max_shard_size="8KB")
    assert len(list((tmp_path / "a").glob("model-*.safetensors"))) > 1
    loaded, _ = loading.load(str(tmp_path / "a"))
    assert torch.equal(loaded(ids).logits, model(ids).logits)
    total = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    assert files.file_bytes(tmp_path / "a") >= total - 203 * 4  # the bias is stored once


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_dtype_of_the_checkpoint_is_kept(compressed, tmp_path, dtype):
    saving.save(compressed().to(dtype), None, tmp_path / "a")
    assert loading.load(str(tmp_path / "a"))[0].dtype == dtype
    assert loading.load(str(tmp_path / "a"), dtype=torch.float32)[0].dtype == torch.float32


def test_the_class_follows_the_config(tiny_model, tmp_path):
    tiny_model("distilbert", "lm").save_pretrained(tmp_path / "a")
    model, tokenizer = loading.load(str(tmp_path / "a"))
    assert type(model).__name__ == "DistilBertForMaskedLM" and tokenizer is None
    assert not files.is_compressed(model.config)
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    for name, outcome in (("os", None), ("MyBert", None), (None, "DistilBertModel")):
        config["architectures"] = [name] if name else None
        (tmp_path / "a" / "config.json").write_text(json.dumps(config))
        if outcome:
            assert type(loading.load(str(tmp_path / "a"))[0]).__name__ == outcome
        else:
            with pytest.raises(CheckpointError, match=f"must name a class of transformers. Got '{name}'"):
                loading.load(str(tmp_path / "a"))


def test_is_compressed(compressed, tmp_path):
    model = compressed()
    assert files.is_compressed(model.config)
    model.save_pretrained(tmp_path)
    assert files.is_compressed(AutoConfig.from_pretrained(tmp_path))


def test_random_weights_are_never_silent(tiny_model, tmp_path):
    tiny_model().save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file({k: t for k, t in weights.items() if "classifier" not in k}, tmp_path / "model.safetensors")
    with pytest.warns(UserWarning, match="these weights are random"):
        loading.load(str(tmp_path))
    save_file({k: t for k, t in weights.items() if "word_emb" not in k}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"It lacks bert\.embeddings\.word_embeddings\.weight"):
        loading.load(str(tmp_path))


def test_damaged_files_give_one_sentence(tiny_model, tmp_path):
    tiny_model().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(CheckpointError, match="cannot be loaded") as error:
        loading.load(str(tmp_path))
    assert "\n" not in str(error.value)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        loading.load(str(tmp_path))


class Bomb:
    def __reduce__(self):
        return os.mkdir, (os.environ["BOMB"],)


def test_a_pickle_cannot_run_code(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv("BOMB", str(tmp_path / "exploded"))
    tiny_model().config.save_pretrained(tmp_path / "a")
    torch.save({"weight": Bomb()}, tmp_path / "a" / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        loading.load(str(tmp_path / "a"))
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("./nowhere", "There is no such directory"),
        ("/nowhere/at/all", "There is no such directory"),
        ("a/b/c", "There is no such directory"),
        ("no spaces!", "must be a local directory or a Hub id such as"),
        ("no-such-user/no-such-model", "the Hub cannot be reached"),  # offline
        ("{tmp}/empty", "must hold config.json, which it lacks"),
        ("{tmp}/file", "It is a file"),
        ("{tmp}/no-weights", "must hold weights"),
        ("{tmp}/adapter", "PEFT adapter: merge it"),
    ],
)
def test_models_that_cannot_be_read(tiny_model, tmp_path, model, message):
    for name in ("empty", "adapter"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "adapter" / "adapter_config.json").touch()
    tiny_model().config.save_pretrained(tmp_path / "no-weights")
    with pytest.raises(CheckpointError, match=message):
        loading.load(model.format(tmp=tmp_path))


def test_a_hub_that_does_not_answer_is_given_up_on(fresh_python):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        script = """
import time
from lpcompress import errors, hub
from lpcompress.checkpoints import loading
assert hub.PROBE_SECONDS <= 5  # and the client adds about three
hub.PROBE_SECONDS = 1
start = time.monotonic()
try:
    loading.load("roberta-base")
except errors.CheckpointError as error:
    print(error)
assert time.monotonic() - start < 7
"""
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        done = fresh_python(script, HF_HUB_OFFLINE="0", HF_ENDPOINT=endpoint, HF_HOME="/nonexistent")
    assert done.returncode == 0, done.stderr
    assert "the Hub cannot be reached" in done.stdout


@pytest.mark.parametrize("offline", ["0", "1"])
def test_a_cached_model_loads_without_the_hub(compressed, tmp_path, fresh_python, offline):
    home = tmp_path / "hub" / "models--user--model"
    compressed().save_pretrained(home / "snapshots" / "abc")
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("abc")
    script = """
from lpcompress.checkpoints import files, loading
model, _ = loading.load("user/model")
print(type(model.get_input_embeddings()).__name__, files.directory_of("user/model").name)
"""
    done = fresh_python(script, HF_HOME=str(tmp_path), HF_HUB_OFFLINE=offline, HF_ENDPOINT="http://127.0.0.1:9")
    assert done.stdout == "SparseCodedEmbedding abc\n", done.stderr


def test_existing_output(compressed, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    saving.save(compressed(), None, out)  # an empty directory is as good as none
    before = files_of(out)
    with pytest.raises(CheckpointError, match=r"exists\. Choose another directory, or pass --overwrite"):
        saving.save(compressed(), None, out)
    assert files_of(out) == before
    saving.save(compressed(kind="low_rank"), None, out, {"new": ""}, overwrite=True)
    assert "new" in files_of(out) and files_of(out)["model.safetensors"] != before["model.safetensors"]
    assert os.listdir(tmp_path) == ["out"]


def test_overwrite_replaces_checkpoints_only(compressed, tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        saving.save(compressed(), None, tmp_path, overwrite=True)
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        saving.refuse_existing(tmp_path / "thesis.tex", overwrite=True)
    with pytest.raises(CheckpointError, match="not a directory you may write to"):
        saving.refuse_existing(tmp_path / "thesis.tex" / "out")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ZeroDivisionError()])
@pytest.mark.parametrize("moment", ["save_pretrained", "flush", "rename"])
def test_a_failure_leaves_nothing_and_harms_nothing(compressed, tmp_path, monkeypatch, error, moment):
    out = tmp_path / "out"
    model = compressed()
    saving.save(model, None, out)
    before = files_of(out)

    def fail(*args, **kwargs):
        raise error

    real = Path.rename
    patches = {
        "save_pretrained": lambda: monkeypatch.setattr(type(model), "save_pretrained", fail),
        "flush": lambda: monkeypatch.setattr(saving, "flush", fail),
        "rename": lambda: monkeypatch.setattr(
            Path, "rename", lambda self, to: fail() if ".tmp-" in self.name else real(self, to)
        ),
    }
    patches[moment]()
    expected = CheckpointError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected) as caught:
        saving.save(model, None, out, overwrite=True)
    if expected is CheckpointError:
        assert "No space left on device. Nothing was left behind." in str(caught.value)
    assert os.listdir(tmp_path) == ["out"] and files_of(out) == before


KILLED = """
import os, signal, sys
from pathlib import Path
from transformers import BertForSequenceClassification
from lpcompress.checkpoints import saving
model = BertForSequenceClassification.from_pretrained(sys.argv[1])
def die(*args):
    os.kill(os.getpid(), signal.SIGKILL)
real = Path.rename
def rename(self, to):
    return die() if ".tmp-" in self.name else real(self, to)
if sys.argv[3] == "flush":
    saving.flush = die
else:
    Path.rename = rename
saving.save(model, None, Path(sys.argv[2]), overwrite=True)
"""


@pytest.mark.parametrize("moment", ["flush", "rename"])
def test_kill_leaves_nothing_that_looks_finished(tiny_model, tmp_path, fresh_python, moment):
    tiny_model().save_pretrained(tmp_path / "source")
    out = tmp_path / "results" / "out"
    saving.save(tiny_model(), None, out, {"first": ""})
    assert fresh_python(KILLED, tmp_path / "source", out, moment).returncode == -9
    leftovers = sorted(name.rpartition("-")[0] or name for name in os.listdir(out.parent))
    assert leftovers == {"flush": [".out.tmp", "out"], "rename": [".out.old", ".out.tmp"]}[moment]
    with pytest.raises(CheckpointError, match="exists"):
        saving.save(tiny_model(), None, out)  # tidies up, and gives the old checkpoint back
    assert os.listdir(out.parent) == ["out"] and "first" in files_of(out)
    saving.save(tiny_model(), None, out, {"second": ""}, overwrite=True)
    assert os.listdir(out.parent) == ["out"] and "second" in files_of(out)


def test_the_temporary_of_a_living_process_stays(tiny_model, tmp_path):
    living = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        for name in (f".out.tmp-{living.pid}", ".out.tmp-999999999", ".out.mine-1", ".other.tmp-999999999"):
            (tmp_path / name).mkdir()
        saving.save(tiny_model(), None, tmp_path / "out")
    finally:
        living.kill()
        living.wait()
    expected = {f".out.tmp-{living.pid}", ".out.mine-1", ".other.tmp-999999999", "out"}
    assert set(os.listdir(tmp_path)) == expected


def test_densify_needs_nobodys_package(compressed, tokenizer, ids, tmp_path, fresh_python):
    for kind in KINDS:
        model = compressed("bert", "lm", kind)
        saving.save(model, tokenizer, tmp_path / kind, stub=True)
        saving.densify(tmp_path / kind, tmp_path / "dense" / kind)
        torch.save({"ids": ids, "logits": model(ids).logits.detach()}, tmp_path / "dense" / kind / "expected.pt")
        assert not list((tmp_path / "dense" / kind).glob("*.py"))
        assert "auto_map" not in (tmp_path / "dense" / kind / "config.json").read_text()
    script = """
import sys, torch, transformers
for kind in ("low_rank", "clustered", "sparse", "levels"):
    model, info = transformers.AutoModelForMaskedLM.from_pretrained(f"{sys.argv[1]}/{kind}", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    expected = torch.load(f"{sys.argv[1]}/{kind}/expected.pt")
    torch.testing.assert_close(model(expected["ids"]).logits, expected["logits"], atol=1e-5, rtol=1e-5)
    transformers.AutoTokenizer.from_pretrained(f"{sys.argv[1]}/{kind}")
assert "lpcompress" not in sys.modules
"""
    done = fresh_python(script, tmp_path / "dense")
    assert done.returncode == 0, done.stderr
    with pytest.raises(CheckpointError, match="It is dense already"):
        saving.densify(tmp_path / "dense" / "sparse", tmp_path / "again")


def test_the_stub_needs_no_import_by_the_user(compressed, tokenizer, tmp_path, fresh_python):
    saving.save(compressed(), tokenizer, tmp_path / "a", stub=True)
    script = """
import sys, transformers
assert "lpcompress" not in sys.modules
model = transformers.AutoModelForSequenceClassification.from_pretrained(sys.argv[1], trust_remote_code=True)
print(type(model).__name__, type(model.get_input_embeddings()).__name__)
"""
    done = fresh_python(script, tmp_path / "a", HF_HOME=str(tmp_path / "home"))
    assert done.stdout == "BertForSequenceClassification SparseCodedEmbedding\n", done.stderr
    model, _ = loading.load(str(tmp_path / "a"))  # without running that code
    assert type(model) is BertForSequenceClassification


def test_pipelines(compressed, tokenizer, tmp_path):
    from transformers import pipeline

    for head, task in (("classifier", "text-classification"), ("lm", "fill-mask"), ("base", "feature-extraction")):
        saving.save(compressed("bert", head, "clustered"), tokenizer, tmp_path / head)
        result = pipeline(task, model=str(tmp_path / head))("a b [MASK] c")
        assert result and (task == "feature-extraction" or all(r["score"] > 0 for r in result))


def test_the_language_model_shares_its_factors_after_loading(compressed, tmp_path):
    saving.save(compressed("roberta", "lm", "low_rank"), None, tmp_path / "a")
    assert not any(key.startswith("lm_head.decoder") for key in load_file(tmp_path / "a" / "model.safetensors"))
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "a")
    assert model.get_output_embeddings().embedding is model.get_input_embeddings()


def test_time_of_day_is_not_part_of_a_checkpoint(compressed, tmp_path):
    model = compressed()
    saving.save(model, None, tmp_path / "a")
    time.sleep(0.01)
    saving.save(model, None, tmp_path / "b")
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


@pytest.mark.parametrize(("umask", "file_mode", "directory_mode"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700)])
def test_files_have_the_modes_that_the_umask_gives(compressed, tokenizer, tmp_path, umask, file_mode, directory_mode):
    before = os.umask(umask)
    try:
        saving.save(compressed(), tokenizer, tmp_path / "out", {"report.json": "{}"}, stub=True)
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "out").iterdir()} == {file_mode}
    assert (tmp_path / "out").stat().st_mode & 0o777 == directory_mode


def test_a_config_of_wrong_types_gives_one_sentence(tiny_model, tmp_path):
    tiny_model().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"hidden_size": "wide"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"cannot be loaded\. .*'hidden_size': .*expected int, got str"):
        loading.load(str(tmp_path))


def test_a_tokenizer_that_cannot_be_read_is_not_left_out_in_silence(tiny_model, tokenizer, tmp_path):
    tiny_model().save_pretrained(tmp_path)
    assert loading.load(str(tmp_path))[1] is None  # there is none, and nothing to say
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.warns(UserWarning, match="the tokenizer cannot be read, and is left out. JSONDecodeError: "):
        assert loading.load(str(tmp_path))[1] is None


def test_the_root_is_no_place_for_a_checkpoint():
    with pytest.raises(CheckpointError, match=r"^/ exists\."):
        saving.refuse_existing("/")
    with pytest.raises(CheckpointError, match=r"^/ is not a checkpoint"):
        saving.refuse_existing("/", overwrite=True)
