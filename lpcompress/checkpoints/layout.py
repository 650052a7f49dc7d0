"""The order of a weight file: tensors begin where processors read fast, and metadata is always the same.

transformers maps weight files into memory, so a tensor lies in memory as it lies in the file. safetensors orders
tensors by type and name, and the three levels of a coded layer shift all later tensors by 12 bytes. In that order a
BERT-base with a coded embedding takes 1.04 times as long as the dense model; in this one, 1.01.
"""

import json
import os
import shutil
from itertools import accumulate, pairwise
from pathlib import Path

from lpcompress.checkpoints.digests import LENGTH, PIECE, header_of

LINE = 64  # bytes of a line of a processor's cache


def lay_out(file: Path) -> None:
    """Rewrite a weight file: first the tensors that fill whole lines of the cache, then the others.

    The metadata, which safetensors writes in an order that it draws, is sorted. Names and tensors stay as they are.

    Examples
    --------
    >>> import tempfile, torch
    >>> from safetensors.torch import load_file, save_file
    >>> file = Path(tempfile.mkdtemp()) / "model.safetensors"
    >>> save_file({"levels": torch.ones(3), "weight": torch.ones(4, 16)}, file)
    >>> lay_out(file)
    >>> {name: tensor.data_ptr() % 64 for name, tensor in load_file(file).items()}
    {'weight': 0, 'levels': 0}
    """
    new = file.with_name(f"{file.name}.new")
    with file.open("rb") as source, new.open("wb") as target:
        header, begin = header_of(source)
        metadata = dict(sorted(header.pop("__metadata__", {}).items()))
        extents = {name: tensor["data_offsets"] for name, tensor in header.items()}
        # otherwise as before, wide numbers first, so that every tensor begins at a multiple of its numbers' width
        order = sorted(extents, key=lambda name: (_size(extents[name]) % LINE > 0, extents[name]))
        ends = list(accumulate((_size(extents[name]) for name in order), initial=0))
        placed = {
            name: header[name] | {"data_offsets": list(at)} for name, at in zip(order, pairwise(ends), strict=True)
        }
        text = json.dumps({"__metadata__": metadata, **placed}, ensure_ascii=False, separators=(",", ":")).encode()
        text += b" " * (-(LENGTH + len(text)) % LINE)
        target.write(len(text).to_bytes(LENGTH, "little") + text)
        for start, stop in map(extents.__getitem__, order):
            source.seek(begin + start)
            for done in range(start, stop, PIECE):
                target.write(source.read(min(PIECE, stop - done)))
    shutil.copymode(file, new)
    os.replace(new, file)


def _size(extent: list[int]) -> int:
    return extent[1] - extent[0]
