"""What lies beside the weights goes from one checkpoint into the next."""

import json
import os

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from lpcompress import hub
from lpcompress.checkpoints import companions, loading, saving
from lpcompress.errors import CheckpointError
from lpcompress.evaluation.demo import bundled_model

SIZES = {"vocab_size": 40, "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 12}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{i}" for i in range(35))]
COMPANIONS = {  # a directory of sentence-transformers, and whatever else people put beside weights
    "modules.json": '[{"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]\n',
    "1_Pooling/config.json": '{"pooling_mode_mean_tokens": true}',
    "2_Dense/config.json": '{"in_features": 8}',
    "2_Dense/model.safetensors": "weights of the module",
    "3_Normalize/config.json": "{}",
    "sentence_bert_config.json": '{"max_seq_length": 7}',
    "config_sentence_transformers.json": "{}",
    "preprocessor_config.json": "{ }",
    "chat_template.jinja": "{{ messages }}",
    "additional_chat_templates/tools.jinja": "{{ tools }}",
    "LICENSE": "free\r\n",
    "vocab.txt": "\n".join(WORDS),
    "tokenizer_config.json": '{"tokenizer_class":   "BertTokenizer", "do_lower_case": true}',
}
SILENT = (
    "README.md",
    ".gitattributes",
    ".cache/x",
    "model.safetensors.index.json",
    "finetuning.json",
    "lpcompress.json",
)
NAMED = {
    "tf_model.h5": "weights",
    "training_args.bin": "state of a training run",
    "adapter_config.json": "an adapter, which is not part of the model",
    "onnx/": "weights in another format",
    "small/": "a folder with weights of its own",
}


def write(directory, texts):
    for name, text in texts.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(text.encode())


def contents(directory, names):
    return {name: (directory / name).read_bytes().decode() for name in names}


@pytest.fixture
def sentences(tmp_path):
    """Directory of a tiny model with companions, and with files that must not be copied."""
    torch.manual_seed(0)
    BertModel(BertConfig(**SIZES)).save_pretrained(tmp_path / "sentences")
    more = ("tf_model.h5", "training_args.bin", "adapter_config.json", "onnx/model.onnx", "small/model.safetensors")
    write(tmp_path / "sentences", COMPANIONS | dict.fromkeys([*SILENT, *more, "small/tokenizer.json"], "not this"))
    return tmp_path / "sentences"


@pytest.mark.filterwarnings("always")
def test_compress_and_densify_bring_the_companions(run, sentences, tmp_path):
    code, out, err = run("compress", sentences, "--method", "svd", "--out", tmp_path / "out", "--json")
    assert code == 0, err
    written = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    assert written == COMPANIONS.keys() - {"LICENSE"} | {
        "config.json",
        "model.safetensors",
        "README.md",
        "lpcompress.json",
    }
    assert contents(tmp_path / "out", COMPANIONS) == COMPANIONS
    assert "not this" not in (tmp_path / "out" / "README.md").read_text()
    assert json.loads(out)["left_out"] == NAMED
    [line] = [line for line in err.splitlines() if "not copied" in line]
    assert all(name in line for name in NAMED)
    code, _, err = run("densify", tmp_path / "out", tmp_path / "dense")
    assert (code, err) == (0, "")  # nothing was left out
    assert contents(tmp_path / "dense", COMPANIONS) == COMPANIONS
    assert not (tmp_path / "dense" / "lpcompress.json").exists()
    for directory in ("out", "dense"):  # vocab.txt is the only vocabulary
        assert AutoTokenizer.from_pretrained(tmp_path / directory)("word0 word9")["input_ids"] == [2, 5, 14, 3]


def test_the_real_sentence_model_keeps_pooling_norm_and_length():
    files = [path for path in bundled_model().rglob("*") if path.is_file()]
    chosen, left_out = companions.select({path.relative_to(bundled_model()).as_posix(): 1 for path in files})
    wanted = {"modules.json", "1_Pooling/config.json", "sentence_bert_config.json", "tokenizer.json", "vocab.txt"}
    assert wanted <= set(chosen)
    assert not {"config.json", "model.safetensors", "README.md", ".gitattributes"} & set(chosen)
    assert left_out == {}


def test_large_files_and_folders_are_named(monkeypatch):
    monkeypatch.setattr(companions, "LARGEST", 2_000_000)
    sizes = {"a.txt": 2_000_001, "b.txt": 2_000_000, "c/1": 1_000_001, "c/2": 1_000_000, "2_Dense/model.safetensors": 5}
    chosen, left_out = companions.select(sizes)
    assert chosen == ["2_Dense/model.safetensors", "b.txt"]
    assert left_out == {"a.txt": "larger than 2 MB", "c/": "larger than 2 MB"}


def test_links_are_followed_to_files_only(tmp_path):
    source, target, elsewhere = (tmp_path / name for name in ("source", "target", "elsewhere"))
    for directory in (source, target, elsewhere):
        directory.mkdir()
    write(elsewhere, {"file": "content", "deep/file": "x"})
    (source / "file").symlink_to(elsewhere / "file")
    (source / "folder").symlink_to(elsewhere)
    (source / "loop").symlink_to(source)
    (source / "broken").symlink_to(elsewhere / "nothing")
    os.mkfifo(source / "pipe")
    with pytest.warns(
        UserWarning, match=r"not copied: broken \(a broken link\); folder/, loop/ \(a link to a folder\)"
    ):
        left_out = companions.copy(str(source), target)
    assert left_out["pipe"] == "not a file"
    assert [(path.name, path.is_symlink(), path.read_text()) for path in target.iterdir()] == [
        ("file", False, "content")
    ]


def test_what_is_written_anew_is_not_replaced(tmp_path):
    write(tmp_path, {"a/generation_config.json": "old", "b/generation_config.json": "new"})
    companions.copy(str(tmp_path / "a"), tmp_path / "b")
    assert (tmp_path / "b" / "generation_config.json").read_text() == "new"


def gpt2(directory):
    """Write a GPT-2 whose only vocabulary file is tokenizer.json, in a layout that transformers would not write."""
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=8, n_layer=1, n_head=2, n_positions=16)).save_pretrained(directory)
    vocabulary = {piece: i for i, piece in enumerate(["<|endoftext|>", *"abcdefghijklm", "ab", "cd", "abcd"])}
    core = Tokenizer(models.BPE(vocabulary, [("a", "b"), ("c", "d"), ("ab", "cd")]))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    made = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|endoftext|>", bos_token="<|endoftext|>")
    made.save_pretrained(directory)
    compact = json.dumps(json.loads((directory / "tokenizer.json").read_text()), indent=None)
    write(directory, {"tokenizer.json": compact, "tokenizer_config.json": '{"tokenizer_class": "GPT2Tokenizer"}'})


def test_a_tokenizer_in_one_file_is_used_and_copied_byte_for_byte(run, tmp_path):
    gpt2(tmp_path / "gpt2")
    ids = AutoTokenizer.from_pretrained(tmp_path / "gpt2")("abcd ab e")["input_ids"]
    assert len(ids) == 3
    code, out, err = run("compress", tmp_path / "gpt2", "--method", "svd", "--out", tmp_path / "out", "--json")
    assert code == 0, err
    assert json.loads(out)["layers"][0]["row_weights"].startswith("zipf")
    assert run("densify", tmp_path / "out", tmp_path / "dense")[0] == 0
    for directory in ("out", "dense"):
        names = ("tokenizer.json", "tokenizer_config.json")
        assert contents(tmp_path / directory, names) == contents(tmp_path / "gpt2", names)
        assert AutoTokenizer.from_pretrained(tmp_path / directory)("abcd ab e")["input_ids"] == ids
        assert not (tmp_path / directory / "vocab.json").exists()


def test_a_tokenizer_in_memory_is_saved(tmp_path):
    gpt2(tmp_path / "gpt2")
    model, tokenizer = loading.load(str(tmp_path / "gpt2"))
    saving.save(model, tokenizer, tmp_path / "out")  # no source is known
    (tmp_path / "gpt2" / "tokenizer.json").unlink()
    saving.save(model, tokenizer, tmp_path / "again", source=str(tmp_path / "gpt2"))  # the source lacks a vocabulary
    for out in ("out", "again"):
        assert loading.load(str(tmp_path / out))[1]("abcd")["input_ids"] == tokenizer("abcd")["input_ids"]


@pytest.fixture
def snapshot(sentences, tmp_path, monkeypatch):
    """A model in a cache that holds only its config and weights; the Hub has the companions too."""
    directory = tmp_path / "hub" / "models--a--b" / "snapshots" / "0123"
    directory.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (directory / name).symlink_to(sentences / name)
    monkeypatch.setattr(hub, "cached", lambda model, file: directory / file if (directory / file).is_file() else None)
    return directory


@pytest.mark.filterwarnings("ignore:a/b. not copied")
def test_small_files_of_a_hub_model_are_downloaded(snapshot, tmp_path, monkeypatch):
    sizes = {name: len(text) for name, text in COMPANIONS.items()}
    others = {"config.json": 9, "model.safetensors": 10**9, "flax_model.msgpack": 10**9, "data.txt": 10**9}
    asked = []

    def download(model, revision, names):
        asked.append((model, revision))
        write(snapshot, {name: COMPANIONS[name] for name in names})

    monkeypatch.setattr(hub, "listing", lambda *_: sizes | others)
    monkeypatch.setattr(hub, "download", download)
    (tmp_path / "target").mkdir()
    left_out = companions.copy("a/b", tmp_path / "target")
    assert left_out == {"data.txt": "larger than 100 MB", "flax_model.msgpack": "weights"}
    assert contents(tmp_path / "target", COMPANIONS) == COMPANIONS
    assert asked == [("a/b", "0123")]


def test_without_the_hub_its_cache_is_copied(snapshot, tmp_path):
    write(snapshot, {"modules.json": "[]"})
    (tmp_path / "target").mkdir()
    with pytest.warns(
        UserWarning, match="a/b: only small files in the local cache are copied. The Hub cannot be reached"
    ):
        companions.copy("a/b", tmp_path / "target")
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["modules.json"]


def test_copied_files_do_not_keep_a_result_from_being_replaced(tiny_model, tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    model = tiny_model()
    model.save_pretrained(source)
    (source / "prompts").mkdir()
    (source / "prompts/query.md").write_text("query: ")
    (source / "notes.md").write_text("trained on tuesday")
    for overwrite in (False, True):
        with saving.new_checkpoint(out, overwrite, [source]) as directory:
            saving.write(directory, model, None, source=str(source))
    assert (out / "prompts/query.md").read_text() == "query: "
    (out / "notes.md").write_text("my own")
    with pytest.raises(CheckpointError, match=r"nothing but a checkpoint.*notes\.md"):
        saving.refuse_existing(out, overwrite=True, sources=[source])


@pytest.mark.parametrize(
    ("named", "kept"),
    [
        ({"AutoModel": "modeling_x.X", "AutoConfig": "configuration_x.X"}, {"AutoModel": "modeling_x.X"}),
        ({"AutoConfig": "configuration_x.X"}, None),
        ({"AutoModel": "org/repository--modeling_y.Y"}, {"AutoModel": "org/repository--modeling_y.Y"}),
        (None, None),
    ],
)
def test_no_config_names_code_that_is_not_there(tmp_path, named, kept):
    model = BertModel(BertConfig(**SIZES))
    if named:
        model.config.auto_map = named
    model.save_pretrained(tmp_path / "dense")
    (tmp_path / "dense" / "modeling_x.py").write_text("")
    loaded, _ = loading.load(str(tmp_path / "dense"))
    saving.save(loaded, None, tmp_path / "out", source=str(tmp_path / "dense"))
    assert json.loads((tmp_path / "out" / "config.json").read_text()).get("auto_map") == kept
