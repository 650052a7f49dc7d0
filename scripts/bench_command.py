"""Time and peak memory of the whole command, loading and saving included, by default at RoBERTa-base's size.

    python scripts/bench_command.py [--tokens 250002] [-- --p 1.0 --ratio 0.28]

The checkpoint is created here with random weights and a byte-level BPE tokenizer of the same size (the Hub is not
needed); time and memory do not depend on the weights' values.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from rich.console import Console
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForMaskedLM

SPECIAL = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"}


def tokenizer(tokens: int) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer of at most `tokens` tokens, with made-up merges."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*SPECIAL.values(), *letters]
    known, merges = set(pieces), []
    for left in list(letters) + [a + b for a in letters for b in letters]:
        for right in letters:
            if len(pieces) < tokens and left in known and left + right not in known:
                merges.append((left, right))
                pieces.append(left + right)
                known.add(left + right)
    backend = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, merges, unk_token="<unk>"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, **SPECIAL)


def main() -> None:
    """Create the checkpoint, run the command in its own process, and print its time and peak memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("options", nargs="*", default=["--p", "1.0", "--ratio", "0.28"], help="of `compress`, after --")
    for option, default in {"tokens": 50265, "width": 768, "blocks": 12}.items():
        parser.add_argument(f"--{option}", type=int, default=default, help="default: %(default)s")
    args = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "model", Path(folder) / "out"
        torch.manual_seed(0)
        config = RobertaConfig(
            vocab_size=args.tokens,
            hidden_size=args.width,
            num_hidden_layers=args.blocks,
            num_attention_heads=args.width // 64,
            intermediate_size=4 * args.width,
            max_position_embeddings=514,
            type_vocab_size=1,
        )
        RobertaForMaskedLM(config).save_pretrained(source)
        tokenizer(args.tokens).save_pretrained(source)
        size = (source / "model.safetensors").stat().st_size
        command = [sys.executable, "-m", "lpcompress", "compress", str(source), "--out", str(out), "--json"]
        began = time.perf_counter()
        result = subprocess.run([*command, *args.options], check=True, stdout=subprocess.PIPE, text=True)
        seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        layer = json.loads(result.stdout)["layers"][0]
    console.print(f"compress {' '.join(args.options)}: {seconds:.0f} s, checkpoint {size / 1e6:.0f} MB, ", end="")
    console.print(f"peak memory {peak / 1e6:.0f} MB = {peak / size:.2f} x the checkpoint; method {layer['method']}")


if __name__ == "__main__":
    main()
