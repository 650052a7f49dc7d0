"""The plugin through which plain `from_pretrained` rebuilds compressed layers from `config.json`.

`registration` imports this module while transformers is being imported, right after `quantizers.auto`;
it may import nothing of transformers that comes later.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from lpcompress.errors import CheckpointError, LpCompressError
from lpcompress.nn import BareWeight, FactoredMatrix, build, is_compressed_module, spec_of
from lpcompress.surgery import swapping
from lpcompress.surgery.folding import fold_permutations
from lpcompress.surgery.layer import Layer
from lpcompress.surgery.offloading import stored_tensor
from lpcompress.surgery.resizing import follow_resizing, restore_resizing
from lpcompress.version import __version__

QUANT_METHOD = "lpcompress"
FORMAT_VERSION = 1
ALIGNMENT = 64  # bytes, of the memory that torch allocates itself


@register_quantization_config(QUANT_METHOD)
class LpCompressConfig(QuantizationConfigMixin):
    """The `quantization_config` of a compressed checkpoint.

    Parameters
    ----------
    layers : dict
        Name relative to the base model -> what `nn.build` needs, and how it came about (method, p).
    format_version : int
        Raised when older packages can no longer read what is written.
    lpcompress_version : str
        The version that wrote the checkpoint.
    """

    def __init__(
        self,
        layers: dict[str, dict[str, Any]] | None = None,
        format_version: int = FORMAT_VERSION,
        lpcompress_version: str = __version__,
        **extra: Any,
    ) -> None:
        if type(format_version) is not int or not 1 <= format_version <= FORMAT_VERSION:
            raise CheckpointError(
                f"the checkpoint's format_version must be at most {FORMAT_VERSION} for lpcompress {__version__}. Got"
                f" {format_version!r}, written by lpcompress {lpcompress_version}: pip install --upgrade lpcompress."
            )
        if not isinstance(layers, dict | None):
            raise CheckpointError(f"'layers' of the quantization_config must be a mapping. Got {layers!r}.")
        self.__dict__.update(extra)
        self.quant_method = QUANT_METHOD
        self.format_version = format_version
        self.lpcompress_version = lpcompress_version
        self.layers = layers or {}

    def refresh(self, model: nn.Module) -> None:
        """Write down the sizes that the layers of `model` have now; forget layers that are dense again."""
        present = {}
        for name, layer in swapping.locate(model, self.layers).items():
            if layer is None:  # a layer of a head that this model does not have
                present[name] = self.layers[name]
            elif layer.is_compressed:
                present[name] = {**self.layers[name], **spec_of(layer.module)}
        self.layers = present


@register_quantizer(QUANT_METHOD)
class LpCompressQuantizer(HfQuantizer):
    """Rebuilds the compressed layers before the weights are loaded, and checks them afterwards."""

    quantization_config: LpCompressConfig

    def __init__(self, quantization_config: LpCompressConfig, **kwargs: Any) -> None:
        if not kwargs.get("pre_quantized", True):
            raise LpCompressError(
                "quantization_config=LpCompressConfig(...) cannot compress a dense checkpoint while it loads."
                " Load it plainly, then call lpcompress.compress(model, ratio=...)."
            )
        super().__init__(quantization_config, **kwargs)
        self.bare: list[str] = []  # relative names of the bare weights that are rebuilt

    def _process_model_before_weight_loading(self, model: Any, **kwargs: Any) -> Any:
        layers = swapping.locate(model, self.quantization_config.layers)
        if layers and not any(layers.values()):
            raise CheckpointError(
                f"the checkpoint's compressed layers {', '.join(layers)} must be layers of the model."
                f" This {type(model).__name__} has none of them; load the checkpoint with the class in its config.json."
            )
        for name, layer in layers.items():
            if layer is None:
                continue
            plain = layer.module
            try:
                module = build(self.quantization_config.layers[name], plain)
            except LpCompressError as error:
                raise CheckpointError(f"config.json, quantization_config.layers[{name!r}]: {error}") from None
            layer.replace(module)
            if isinstance(plain, BareWeight):
                self.bare.append(name)
        swapping.retie(model)
        return model

    def _process_model_after_weight_loading(self, model: Any, **kwargs: Any) -> Any:
        for name, module in model.named_modules():
            if is_compressed_module(module):
                require_loaded(name, module)
                align(module)
        follow_resizing(model)
        model.is_quantized = False  # plain torch modules: .half() and the rest are fine
        return model

    def _dequantize(self, model: Any, dtype: torch.dtype | str | None = None) -> Any:
        swapping.densify(model)
        restore_resizing(model)
        if str(dtype).removeprefix("torch.") not in (str(model.config.dtype).removeprefix("torch."), "None"):
            model.to(getattr(torch, dtype) if isinstance(dtype, str) else dtype)  # asked for: not the default
        return model

    def get_state_dict_and_metadata(self, model: Any, *args: Any, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Bring the sizes up to date; `save_pretrained` calls this before it writes config.json.

        The codes of a bare weight are stored under the weight's own name, so that a loader without this package
        fails on the size there too.
        """
        model.config.quantization_config.refresh(model)
        codes = {f"{name}.weight": name for name in swapping.bare_names(model)}
        if not codes:
            return None, {}
        state = {codes.get(key, key): tensor for key, tensor in model.state_dict().items()}
        bare = {name: stored_tensor(model.get_submodule(name), "weight") for name in codes.values()}
        return state | bare, {}

    def get_weight_conversions(self) -> list[Any]:
        """Find the codes of bare weights under the weights' own names."""
        from transformers.core_model_loading import WeightRenaming

        renamings = [WeightRenaming(f"{name}$", f"{name}.weight") for name in self.bare]
        return [*super().get_weight_conversions(), *renamings]

    def is_serializable(self, *args: Any, **kwargs: Any) -> bool:
        """`save_pretrained` works."""
        return True

    @property
    def is_trainable(self) -> bool:
        """Codes and bases are ordinary parameters."""
        return True

    @property
    def is_qat_trainable(self) -> bool:
        """Trainer needs no adapters."""
        return True

    @property
    def is_compileable(self) -> bool:
        """`torch.compile` works."""
        return True


def require_loaded(name: str, module: Any) -> None:
    """Raise CheckpointError unless the checkpoint held every tensor of a compressed layer, undamaged.

    transformers only warns of missing tensors and leaves noise in them. Offloaded tensors cannot be judged.
    """
    tensors = module.state_dict(keep_vars=True)
    if hasattr(module, "_hf_hook") or any(tensor.is_meta for tensor in tensors.values()):
        return
    missing = [leaf for leaf, tensor in tensors.items() if not getattr(tensor, "_is_hf_initialized", False)]
    if missing:
        raise CheckpointError(
            f"the checkpoint must hold {', '.join(f'{name}.{leaf}' for leaf in missing)}, which it lacks (or has in"
            " another shape): it is incomplete. Copy it again, or compress the model again."
        )
    module.check(name)


def align(module: nn.Module) -> None:
    """Move tensors away from the odd addresses at which a mapped file has them.

    Some matrix products round differently depending on the address of their operands. Once moved, a loaded model gives
    the same numbers as the one that was saved.
    """
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.device.type == "cpu" and tensor.data_ptr() % ALIGNMENT:
            tensor.data = tensor.data.clone()


def replace_layers(model: Any, replacements: Mapping[Layer, tuple[FactoredMatrix, dict[str, Any]]]) -> None:
    """Replace layers of `model` in place, so that `model.save_pretrained` writes a compressed checkpoint.

    Parameters
    ----------
    model : PreTrainedModel
    replacements : mapping of Layer to (FactoredMatrix, dict)
        Layer of `model` -> the module from `nn.from_factorization`, and how it came about (method, p), which is
        written to `config.json`.

    Raises
    ------
    LpCompressError
        If the model is quantized by another method; nothing is replaced then.
    """
    config = getattr(model.config, "quantization_config", None) or LpCompressConfig()
    if not isinstance(config, LpCompressConfig):
        raise LpCompressError(
            f"the model must not be quantized by another method. Got a {type(config).__name__}; start from the dense"
            " model."
        )
    for layer, (module, _) in replacements.items():
        layer.replace(module)
    fold_permutations(model)
    for layer, (module, provenance) in replacements.items():
        config.layers[swapping.relative_name(model, layer.name)] = {**provenance, **spec_of(module)}
    swapping.retie(model)
    follow_resizing(model)
    model.tie_weights()
    model.config.quantization_config = config
    model.hf_quantizer = LpCompressQuantizer(config, pre_quantized=True)
