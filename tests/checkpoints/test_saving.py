"""Saving checkpoints: complete, or not at all."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from transformers import BertForSequenceClassification

from lpcompress.atomic import directories
from lpcompress.checkpoints import densifying, files, loading, saving
from lpcompress.compression.whole_model import compress
from lpcompress.errors import CheckpointError

ARCHITECTURES = ("bert", "roberta", "distilbert", "xlnet")


KINDS = ("low_rank", "clustered", "sparse", "levels", "coded")


def files_of(directory):
    return {p.name: p.read_bytes() for p in directory.iterdir()}


def save_with(model, tokenizer, out, texts, **options):
    """Save a checkpoint with additional files."""
    with saving.new_checkpoint(out, options.pop("overwrite", False)) as directory:
        saving.write(directory, model, tokenizer, **options)
        for name, text in texts.items():
            (directory / name).write_text(text, encoding="utf-8")


def test_densify_every_layer(tiny_model, ids, tmp_path):
    for architecture in ARCHITECTURES:
        model = tiny_model(architecture, "lm")
        shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
        compress(model, layers=["all"], method="adaptive", ratio=0.3, clusters=2)
        saving.save(model, None, tmp_path / architecture)
        densifying.densify(tmp_path / architecture, tmp_path / f"{architecture}-dense")
        dense, _ = loading.load(str(tmp_path / f"{architecture}-dense"))
        assert {name: tensor.shape for name, tensor in dense.state_dict().items()} == shapes
        torch.testing.assert_close(dense(ids).logits, model(ids).logits, atol=1e-5, rtol=1e-4)


def test_load_and_save_keep_everything(compressed, tokenizer, ids, tmp_path):
    model = compressed("roberta", "lm", "sparse")
    with saving.new_checkpoint(tmp_path / "a") as directory:
        saving.write(directory, model, tokenizer)
        (directory / "README.md").write_text(f"# {files.file_bytes(directory) > 0} é\n", encoding="utf-8")
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


def test_existing_output(compressed, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    saving.save(compressed(), None, out)  # an empty directory is accepted
    before = files_of(out)
    with pytest.raises(CheckpointError, match=r"exists\. Choose another directory, or pass --overwrite"):
        saving.save(compressed(), None, out)
    assert files_of(out) == before
    save_with(compressed(kind="low_rank"), None, out, {"new": ""}, overwrite=True)
    assert "new" in files_of(out) and files_of(out)["model.safetensors"] != before["model.safetensors"]
    assert os.listdir(tmp_path) == ["out"]


def test_overwrite_replaces_checkpoints_only(compressed, tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        saving.save(compressed(), None, tmp_path, overwrite=True)
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        saving.refuse_existing(tmp_path / "thesis.tex", overwrite=True)
    with pytest.raises(CheckpointError, match=r"thesis\.tex/out cannot be written: Not a directory"):
        saving.refuse_existing(tmp_path / "thesis.tex" / "out")


@pytest.fixture
def checkpoint(tiny_model, tmp_path):
    """A plain checkpoint in `tmp_path / "out"`."""
    tiny_model().save_pretrained(tmp_path / "out")
    return tmp_path / "out"


STRANGERS = (
    *(".git/config", "runs/events.out", "data/", "checkpoint-500/model.safetensors", ".cache/huggingface/x"),
    *("thesis.tex", "train.py", "notes.md", "model.py", "word2vec.model", "my_vocab.json", "weights.safetensors"),
    *("optimizer.pt", "tf_model.h5", "1_Pooling/notes.txt", "1_Pooling/deep/config.json", "2024_data/config.json"),
    *("README.md/chapter.txt", "config.json.bak", "other.onnx", "model_best.safetensors"),
)


@pytest.mark.parametrize("stranger", STRANGERS)
def test_overwrite_keeps_what_is_not_of_a_checkpoint(checkpoint, compressed, stranger):
    path = checkpoint / stranger
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir() if stranger.endswith("/") else path.write_text("mine")
    named = stranger if stranger.startswith("1_Pooling") else stranger.split("/")[0]
    with pytest.raises(CheckpointError, match="must hold nothing but a checkpoint") as caught:
        saving.save(compressed(), None, checkpoint, overwrite=True)
    assert named.removesuffix("/config.json") in str(caught.value)
    assert path.exists() and (checkpoint / "model.safetensors").exists() and os.listdir(checkpoint.parent) == ["out"]


def test_links_to_folders_are_not_of_a_checkpoint(checkpoint, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (checkpoint / "1_Pooling").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="It also holds 1_Pooling"):
        saving.refuse_existing(checkpoint, overwrite=True)


FAMILIAR = (
    *("generation_config.json", "README.md", "lpcompress.json", "finetuning.json", "modeling_lpcompress.py", "LICENSE"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt"),
    *("vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "source.spm"),
    *("chat_template.jinja", "additional_chat_templates/tool.jinja", "preprocessor_config.json", "LICENSE.txt"),
    *("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json", "1_Pooling/config.json"),
    *("2_Dense/model.safetensors", "2_Normalize/", "model-00001-of-00002.safetensors", "model.safetensors.index.json"),
    *("pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json", "processor_config.json"),
)


def test_overwrite_replaces_all_files_of_a_checkpoint(checkpoint, compressed):
    for name in FAMILIAR:
        path = checkpoint / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.touch()
    saving.save(compressed(), None, checkpoint, overwrite=True)
    assert sorted(os.listdir(checkpoint)) == ["config.json", "model.safetensors"]


def test_overwrite_keeps_a_directory_without_weights(tmp_path, compressed):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"is not a checkpoint \(no weights\)"):
        saving.save(compressed(), None, tmp_path / "out", overwrite=True)


def test_what_comes_during_the_work_is_kept(checkpoint, compressed):
    with pytest.raises(CheckpointError, match=r"It also holds thesis\.tex"):
        with saving.new_checkpoint(checkpoint, overwrite=True) as directory:
            saving.write(directory, compressed(), None)
            (checkpoint / "thesis.tex").touch()
    assert (checkpoint / "thesis.tex").exists() and os.listdir(checkpoint.parent) == ["out"]


@pytest.mark.parametrize(
    ("source", "target", "relation"),
    [
        ("a", "a", "is"),
        ("a", "b/../a", "is"),
        ("link", "a", "is"),
        ("a", "link", "is"),
        ("a/1_Pooling", "a", "contains"),
        ("a", "a/1_Pooling", "lies inside"),
    ],
)
def test_overwrite_keeps_the_source(tiny_model, tmp_path, monkeypatch, source, target, relation):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "b").mkdir()
    for place in ("a", "a/1_Pooling"):
        tiny_model().save_pretrained(tmp_path / place)
    with pytest.raises(CheckpointError, match=f"{relation} the directory of {source}, which is read from"):
        saving.refuse_existing(target, overwrite=True, sources=["somebody/else", "./nowhere", source])


def test_densify_keeps_its_source(compressed, tmp_path):
    saving.save(compressed(), None, tmp_path / "a")
    before = files_of(tmp_path / "a")
    with pytest.raises(CheckpointError, match="is the directory of"):
        densifying.densify(tmp_path / "a", tmp_path / "a", overwrite=True)
    assert files_of(tmp_path / "a") == before


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ZeroDivisionError()])
@pytest.mark.parametrize("moment", ["save_pretrained", "flush", "rename"])
def test_a_failure_leaves_no_files_and_keeps_the_old_checkpoint(compressed, tmp_path, monkeypatch, error, moment):
    out = tmp_path / "out"
    model = compressed()
    saving.save(model, None, out)
    before = files_of(out)

    def fail(*args, **kwargs):
        raise error

    real = Path.rename
    patches = {
        "save_pretrained": lambda: monkeypatch.setattr(type(model), "save_pretrained", fail),
        "flush": lambda: monkeypatch.setattr(directories, "flush", fail),
        "rename": lambda: monkeypatch.setattr(
            Path, "rename", lambda self, to: fail() if self.name == directories.NEW else real(self, to)
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
from lpcompress.atomic import directories
from lpcompress.checkpoints import saving
model = BertForSequenceClassification.from_pretrained(sys.argv[1])
def die(*args):
    os.kill(os.getpid(), signal.SIGKILL)
real = Path.rename
def rename(self, to):
    return die() if self.name == directories.NEW else real(self, to)
if sys.argv[3] == "flush":
    directories.flush = die
else:
    Path.rename = rename
saving.save(model, None, Path(sys.argv[2]), overwrite=True)
"""


@pytest.mark.parametrize("moment", ["flush", "rename"])
def test_a_killed_run_leaves_no_complete_looking_checkpoint(tiny_model, tmp_path, fresh_python, moment):
    tiny_model().save_pretrained(tmp_path / "source")
    out = tmp_path / "results" / "out"
    save_with(tiny_model(), None, out, {"NOTICE.first": ""})
    assert fresh_python(KILLED, tmp_path / "source", out, moment).returncode == -9
    assert (out / "config.json").exists() == (moment == "flush")
    with pytest.raises(CheckpointError, match="exists"):
        saving.refuse_existing(out)  # removes the temporary files and restores the old checkpoint
    assert os.listdir(out.parent) == ["out"] and files_of(out).keys() == {
        *("NOTICE.first", "config.json", "model.safetensors")
    }
    save_with(tiny_model(), None, out, {"NOTICE.second": ""}, overwrite=True)
    assert os.listdir(out.parent) == ["out"] and "NOTICE.second" in files_of(out)


def test_two_runs_with_the_same_output(tiny_model, compressed, tmp_path):
    out = tmp_path / "out"
    with saving.new_checkpoint(out) as directory:
        with pytest.raises(CheckpointError, match="out is being written to by another run"):
            saving.refuse_existing(out)
        saving.write(directory, tiny_model(), None)
    before = files_of(out)
    with pytest.raises(CheckpointError, match="exists"):
        saving.save(compressed(), None, out)
    assert files_of(out) == before and os.listdir(tmp_path) == ["out"]


RIVAL = """
import sys
from pathlib import Path
from lpcompress.checkpoints import saving
from lpcompress.errors import CheckpointError
try:
    with saving.new_checkpoint(sys.argv[1]) as directory:
        for name in ("config.json", "model.safetensors", sys.argv[2]):
            (directory / name).write_text(sys.argv[2])
    print("won")
except CheckpointError as error:
    print("exists" if "exists" in str(error) else error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("premade", [False, True])
def test_of_runs_that_finish_together_one_wins(tmp_path, premade):
    for trial in range(3):
        out = tmp_path / str(trial)
        if premade:
            out.mkdir()
        commands = [[sys.executable, "-c", RIVAL, str(out), name] for name in "abc"]
        rivals = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
        said = [rival.communicate(timeout=120)[0].strip() for rival in rivals]
        assert sorted(said) == ["exists", "exists", "won"]
        winner = "abc"[said.index("won")]
        assert {name: text.decode() for name, text in files_of(out).items()} == dict.fromkeys(
            ("config.json", "model.safetensors", winner), winner
        )
    assert sorted(os.listdir(tmp_path)) == ["0", "1", "2"]


def test_an_empty_directory_keeps_its_permissions(compressed, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o2750)
    (out / "lost+found").mkdir()  # as in the root of a new volume
    for overwrite in (False, True):
        saving.save(compressed(), None, out, overwrite=overwrite)
        assert out.stat().st_mode & 0o7777 == 0o2750
        assert sorted(os.listdir(out)) == ["config.json", "lost+found", "model.safetensors"]


def test_a_tokenizer_that_cannot_be_written(compressed, tokenizer, tmp_path, monkeypatch):
    def full(*_, **__):
        raise Exception("No space left on device (os error 28)")

    monkeypatch.setattr(type(tokenizer), "save_pretrained", full)
    with pytest.raises(CheckpointError, match=r"No space left on device \(os error 28\)\. Nothing was left"):
        saving.save(compressed(), tokenizer, tmp_path / "out")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_what_cannot_be_written_is_refused_before_the_work(tmp_path, monkeypatch, code):
    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(directories, "probe", fail)
    with pytest.raises(CheckpointError, match=f"cannot be written: {os.strerror(code)}"):
        saving.refuse_existing(tmp_path / "deep" / "out")
    with pytest.raises(CheckpointError, match="cannot be written: File name too long"):
        saving.refuse_existing(tmp_path / ("x" * 300))
    assert os.listdir(tmp_path) == []


def test_densified_checkpoints_load_without_the_package(compressed, tokenizer, ids, tmp_path, fresh_python):
    for kind in KINDS:
        model = compressed("bert", "lm", kind)
        saving.save(model, tokenizer, tmp_path / kind, stub=True)
        densifying.densify(tmp_path / kind, tmp_path / "dense" / kind)
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
    with pytest.raises(CheckpointError, match="It is already dense"):
        densifying.densify(tmp_path / "dense" / "sparse", tmp_path / "again")


def test_with_the_stub_the_user_need_not_import_the_package(compressed, tokenizer, tmp_path, fresh_python):
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


def test_checkpoints_do_not_depend_on_the_time(compressed, tmp_path):
    model = compressed()
    saving.save(model, None, tmp_path / "a")
    time.sleep(0.01)
    saving.save(model, None, tmp_path / "b")
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


@pytest.mark.parametrize(("umask", "file_mode", "directory_mode"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700)])
def test_files_have_the_modes_that_the_umask_gives(compressed, tokenizer, tmp_path, umask, file_mode, directory_mode):
    before = os.umask(umask)
    try:
        save_with(compressed(), tokenizer, tmp_path / "out", {"report.json": "{}"}, stub=True)
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "out").iterdir()} == {file_mode}
    assert (tmp_path / "out").stat().st_mode & 0o777 == directory_mode


def test_the_root_directory_is_refused():
    with pytest.raises(CheckpointError, match=r"^/ exists\."):
        saving.refuse_existing("/")
    with pytest.raises(CheckpointError, match=r"^/ is not a checkpoint"):
        saving.refuse_existing("/", overwrite=True)
