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


def cpu_seconds() -> float:
    """Return the CPU seconds of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def peak_of(process: int) -> int:
    """Wait for a process to end; return its peak memory in bytes.

    `ru_maxrss` would not do: it begins with the memory of the parent, which has made the checkpoint.
    """
    peak, status = 0, Path(f"/proc/{process}/status")
    while lines := [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]:
        peak = int(lines[0].split()[1]) * 1024
        time.sleep(0.05)
    return peak


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
        began, used = time.perf_counter(), cpu_seconds()
        process = subprocess.Popen([*command, *args.options], stdout=subprocess.PIPE, text=True)
        peak = peak_of(process.pid)
        layer = json.loads(process.communicate()[0])["layers"][0]
        seconds, used = time.perf_counter() - began, cpu_seconds() - used
    console.print(f"compress {' '.join(args.options)}: {seconds:.0f} s, {used:.0f} s of CPU, ", end="")
    console.print(f"checkpoint {size / 1e6:.0f} MB, peak memory {peak / 1e6:.0f} MB = {peak / size:.2f} x", end="")
    console.print(f" the checkpoint; method {layer['method']}")


if __name__ == "__main__":
    main()
