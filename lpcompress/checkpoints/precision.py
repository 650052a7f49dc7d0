"""Return tensors to the dtype in which their checkpoint stores them.

transformers loads some tensors of half-precision checkpoints in float32: those that its model code creates as such
(XLNet's attention), and those that it prefers in float32 (T5's `wo`). Saved like that they take twice the space, and
the share that compression removes would not be one of stored bytes.
"""

import re
from typing import Any

import torch

from lpcompress.formats.module import FactoredMatrix
from lpcompress.surgery.offloading import change_stored_dtype, stored_tensor

HALF = (torch.float16, torch.bfloat16)


def keep_integers(model: Any) -> None:
    """Have integers loaded as integers where the model wants float32, as T5 does for every tensor of `wo`.

    Later versions of transformers than 5.0 do so themselves, and have no `dtype_plan` here.
    """
    plan = getattr(model, "dtype_plan", None)
    if plan:
        state = {name: tensor.dtype for name, tensor in model.state_dict().items() if not tensor.is_floating_point()}
        model.dtype_plan = {f"^{re.escape(name)}$": dtype for name, dtype in state.items()} | plan


def restore_precision(model: Any) -> None:
    """Convert the float32 tensors of a half-precision model to its dtype where no value changes.

    A tensor that the checkpoint does store in float32 has digits that half precision lacks, and stays as it is.

    Parameters
    ----------
    model : PreTrainedModel
        Just loaded; tensors may be kept on disk.

    Examples
    --------
    >>> import transformers
    >>> sizes = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 12}
    >>> model = transformers.BertModel(transformers.BertConfig(vocab_size=50, dtype="float16", **sizes)).half()
    >>> dense = model.pooler.dense.float()
    >>> dense.bias.data.fill_(0.1)[0]  # not a number of half precision
    tensor(0.1000)
    >>> restore_precision(model)
    >>> dense.weight.dtype, dense.bias.dtype
    (torch.float16, torch.float32)
    """
    wanted = model.config.dtype
    if wanted not in HALF:
        return
    for module in model.modules():
        for leaf, parameter in module.named_parameters(recurse=False):
            if parameter.dtype != torch.float32:
                continue
            stored = stored_tensor(module, leaf)
            if torch.equal(stored.to(wanted).float(), stored):
                change_dtype(module, leaf, wanted)


def unify_dtypes(layer: FactoredMatrix) -> None:
    """Convert the tensor of a layer that has another name in the file to the dtype of the layer's others.

    Some versions of transformers, 5.17 among them, load it in the dtype of the file, whatever dtype is wanted.
    """
    others = {each.dtype for name, each in layer.named_parameters(recurse=False) if name != layer.weight_name}
    if len(others) == 1 and layer.dtype not in others:
        change_dtype(layer, layer.weight_name, others.pop())


def change_dtype(module: Any, leaf: str, dtype: torch.dtype) -> None:
    """Convert the parameter `leaf` of a module, which may be kept on disk."""
    parameter = module.get_parameter(leaf)
    if parameter.is_meta:
        change_stored_dtype(module, leaf, dtype)
    else:
        parameter.data = parameter.data.to(dtype)
