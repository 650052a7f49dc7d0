"""Digest everything that compression writes for tiny models, to show that another commit changes no byte of it.

    python scripts/digest_outputs.py --out before.json        # on one commit
    python scripts/digest_outputs.py --compare before.json    # on the other: prints differences; exits with 1 if any

The cases: every method with every word of --layers on random models of each architecture; a size of the model, row
weights, calibration and half precision; the command line. For a case that is refused, the error's class is recorded.
Only the public surface is used, so the script runs on any commit. Both runs need the same machine and the same torch,
because other processors round differently. Takes about three minutes on one core.
"""

import argparse
import fnmatch
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# one thread: sums in another order round differently
os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}

import tokenizers
import torch
import transformers
from tokenizers import pre_tokenizers

import lpcompress

TOKENS, WIDTH, HIDDEN, POSITIONS = 200, 32, 48, 32
BERT = {"vocab_size": TOKENS, "hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2}
BERT |= {"intermediate_size": HIDDEN, "max_position_embeddings": POSITIONS}
DISTILBERT = {"vocab_size": TOKENS, "dim": WIDTH, "n_layers": 1, "n_heads": 2, "hidden_dim": HIDDEN}
GPT2 = {"vocab_size": TOKENS, "n_embd": WIDTH, "n_layer": 1, "n_head": 2, "n_inner": HIDDEN, "n_positions": POSITIONS}
XLNET = {"vocab_size": TOKENS, "d_model": WIDTH, "n_layer": 1, "n_head": 2, "d_inner": HIDDEN}
CONVNEXT = {"hidden_sizes": [WIDTH, HIDDEN], "depths": [1, 1], "num_stages": 2, "patch_size": 2}
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {  # family, class, sizes
    "bert": ("Bert", "ForSequenceClassification", BERT),
    "distilbert": ("DistilBert", "ForMaskedLM", DISTILBERT | {"max_position_embeddings": POSITIONS}),
    "roberta": ("Roberta", "ForMaskedLM", BERT),
    "xlnet": ("XLNet", "LMHeadModel", XLNET),
    "gpt2": ("GPT2", "LMHeadModel", GPT2 | {"bos_token_id": 0, "eos_token_id": 0}),
    "convnext": ("ConvNext", "ForImageClassification", CONVNEXT),
}
TOKENIZERS = {"bert": "WordPiece", "distilbert": "WordPiece", "roberta": "BPE", "xlnet": "Unigram", "gpt2": "BPE"}
WORDS = ("embedding", "linear", "attention", "ffn", "all")
IMAGE_WORDS = ("linear", "ffn", "conv", "all")
METHODS: dict[str, dict[str, Any]] = {
    "svd": {"method": "svd"},
    "lp p=1": {"method": "lp", "p": 1.0},
    "messi": {"method": "messi", "clusters": 2},
    "adaptive": {"method": "adaptive"},
    "adaptive p=1.5": {"method": "adaptive", "p": 1.5},
    "coded 28 %": {"method": "coded"},
    "coded 60 %": {"method": "coded", "ratio": 0.6},
    "coded 90 %": {"method": "coded", "ratio": 0.9},
    "auto": {"method": "auto"},
    "sketch": {"method": "sketch"},
}
ALL = {"layers": ["all"]}
OTHERS: dict[str, dict[str, Any]] = {  # TEXT and COUNTS are replaced by paths of files
    "target size": ALL | {"target_size": 0.5},
    "target size, svd": ALL | {"target_size": 0.5, "method": "svd"},
    "max bytes": ALL | {"max_bytes": 50_000},
    "calibration": ALL | {"calibration": "TEXT"},
    "calibration, svd": ALL | {"calibration": "TEXT", "method": "svd"},
    "calibration, target size": ALL | {"calibration": "TEXT", "target_size": 0.5},
    "uniform rows": {"row_weights": "uniform"},
    "counted rows": {"row_weights": "COUNTS", "exponent": 0.7},
    "auto p=1": ALL | {"p": 1.0},
    "messi, seed 1": {"method": "messi", "seed": 1},
    "wildcards": {"layers": ["*.0.*"], "method": "svd", "ratio": 0.5},
}
COMMANDS = {  # output -> what follows `python -m lpcompress`; run in this order
    "command": "compress dense --out command --layers all --method svd",
    "command-shards": "compress dense --out command-shards --max-bytes 60KB --max-shard-size 20KB",
    "command-text": "compress dense --out command-text --calibration text.txt --target-size 0.6 --layers all",
    "plan.yaml": "compress dense --save-plan plan.yaml --target-size 0.5 --layers all",
    "command-plan": "compress dense --out command-plan --config plan.yaml",
    "command-densify": "densify command-plan command-densify",
}
UNLIKE = ("seconds", "peak_rss_bytes", "lpcompress_version", "digests")  # keys that are not compared


def make(name: str, dtype: torch.dtype = torch.float32) -> Any:
    """Return the random model `name`, whose matrices have a few strong directions and a few large entries."""
    family, head, sizes = MODELS[name]
    torch.manual_seed(0)
    model = getattr(transformers, family + head)(getattr(transformers, f"{family}Config")(**sizes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                rows = parameter.flatten(1)
                strong = torch.randn(rows.shape[0], 4) @ torch.randn(4, rows.shape[1])
                parameter.copy_((0.5 * strong + 0.2 * torch.randn(rows.shape) ** 3).view_as(parameter) / WIDTH**0.5)
    model.tie_weights()
    return model.to(dtype)


def tokenizer_of(name: str) -> Any:
    """Return a tokenizer of the model's usual kind for letters and pairs of letters; None for models of images."""
    if name not in TOKENIZERS:
        return None
    letters = "abcdefghijklmn"
    pairs = [(a, b) for a in letters for b in letters]
    pieces = ["<pad>", "<unk>", *letters, *map("".join, pairs)][:TOKENS]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    merges = [pair for pair in pairs if "".join(pair) in vocabulary]
    kinds: dict[str, Callable[[], Any]] = {
        "WordPiece": lambda: tokenizers.models.WordPiece(vocabulary, unk_token="<unk>"),
        "BPE": lambda: tokenizers.models.BPE(vocabulary, merges, unk_token="<unk>"),
        "Unigram": lambda: tokenizers.models.Unigram([(piece, -i / 20) for i, piece in enumerate(pieces)], 1),
    }
    core = tokenizers.Tokenizer(kinds[TOKENIZERS[name]]())
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"pad_token": "<pad>", "unk_token": "<unk>", "model_input_names": ["input_ids", "attention_mask"]}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=core, **names)


def cases() -> Iterator[tuple[str, str, torch.dtype, dict[str, Any]]]:
    """Yield name, model, dtype and options of every case that runs in this process."""
    for model in MODELS:
        words = WORDS if model in TOKENIZERS else IMAGE_WORDS
        for word in words:
            for method, options in METHODS.items():
                yield f"{model}, {word}, {method}", model, torch.float32, {"layers": [word]} | options
        for name, options in OTHERS.items():
            if model in TOKENIZERS or not {"calibration", "row_weights", "seed"} & options.keys():
                yield f"{model}, {name}", model, torch.float32, options
        yield f"{model}, float16", model, torch.float16, ALL
        yield f"{model}, bfloat16, svd", model, torch.bfloat16, ALL | {"method": "svd"}


def sha256(content: bytes) -> str:
    """Return the SHA-256 digest of a file's content."""
    return hashlib.sha256(content).hexdigest()


def without(document: Any, keys: tuple[str, ...]) -> Any:
    """Return a JSON document without the given keys, at any depth."""
    if isinstance(document, dict):
        return {key: without(value, keys) for key, value in document.items() if key not in keys}
    return [without(each, keys) for each in document] if isinstance(document, list) else document


def without_metadata(file: Path) -> bytes:
    """Return the content of a weight file without its metadata, which safetensors writes in an order that it draws."""
    content = file.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header.pop("__metadata__", None)
    return json.dumps(header).encode() + content[end:]


def digests(directory: Path) -> dict[str, str]:
    """Return the digests of a checkpoint: its weight files, the format's part of config.json, and the report."""
    found = {file.name: sha256(file.read_bytes()) for file in sorted(directory.glob("model*.json"))}
    found |= {file.name: sha256(without_metadata(file)) for file in sorted(directory.glob("model*.safetensors"))}
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    documents = {"config.json": config.get("quantization_config")}
    report = directory / "lpcompress.json"
    if report.exists():
        documents[report.name] = json.loads(report.read_text(encoding="utf-8"))
    return found | {name: sha256(json.dumps(without(each, UNLIKE)).encode()) for name, each in documents.items()}


def in_this_process(folder: Path, wanted: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Compress one model after the other; yield name and digests."""
    files = {"TEXT": str(folder / "text.txt"), "COUNTS": str(folder / "counts.txt")}
    for name, model, dtype, options in cases():
        if not fnmatch.fnmatch(name, wanted):
            continue
        given = {key: files.get(value, value) if isinstance(value, str) else value for key, value in options.items()}
        made, out = make(model, dtype), folder / "saved" / name
        try:
            lpcompress.compress(made, tokenizer=tokenizer_of(model), **given)
        except lpcompress.LpCompressError as error:
            yield name, {"error": type(error).__name__}
            continue
        made.save_pretrained(out)
        yield name, digests(out)


def by_command(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Compress a checkpoint with the command line, in `folder`; yield name and digests."""
    make("roberta").save_pretrained(folder / "dense")
    tokenizer_of("roberta").save_pretrained(folder / "dense")
    environment = os.environ | {"PYTHONPATH": str(Path(lpcompress.__file__).parent.parent)}  # the same package as here
    for name, arguments in COMMANDS.items():
        command = [sys.executable, "-m", "lpcompress", *arguments.split()]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{arguments}: {done.stderr}")
        written = folder / name
        yield name, digests(written) if written.is_dir() else {name: sha256(written.read_bytes())}


def run(wanted: str) -> dict[str, dict[str, str]]:
    """Return the digests of all cases whose name matches `wanted`, and the environment that they depend on."""
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    found = {"environment": versions | {"processor": torch.backends.cpu.get_cpu_capability()}}
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sketches warn that they must be trained
        folder = Path(directory)
        counts = [str(draw.randrange(1000)) for _ in range(TOKENS)]
        lines = [" ".join("".join(draw.choices("abcdefghijkl", k=2)) for _ in range(20)) for _ in range(16)]
        (folder / "text.txt").write_text("\n".join(lines), encoding="utf-8")
        (folder / "counts.txt").write_text("\n".join(counts), encoding="utf-8")
        found |= in_this_process(folder, wanted)
        found |= by_command(folder) if fnmatch.fnmatch("command", wanted) else ()
    return found


def main() -> None:
    """Run the cases; write the digests or compare them with those of another run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file to write: case -> file -> SHA-256")
    parser.add_argument("--compare", type=Path, help="JSON file that --out wrote on another commit")
    parser.add_argument("--cases", default="*", help="wildcard over names of cases, default: all")
    args = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    found = run(args.cases)
    print(f"{len(found) - 1} cases of {Path(lpcompress.__file__).parent}")
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    before = json.loads(args.compare.read_text(encoding="utf-8")) if args.compare else found
    names = [name for name in before | found if args.cases == "*" or name in found]
    differing = [name for name in names if before.get(name) != found.get(name)]
    for name in differing:
        print(f"{name}: before {json.dumps(before.get(name))}, now {json.dumps(found.get(name))}")
    print(f"{len(differing)} differ" if args.compare else "nothing compared")
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()
