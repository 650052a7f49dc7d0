"""Tiny random models of the architectures of transformers: default configurations whose sizes are shrunk by name."""

import re
from collections.abc import Callable
from typing import Any

import torch
import transformers
from transformers.models.auto import configuration_auto, modeling_auto

VOCABULARY, WIDTH, WIDER, HEADS, LAYERS, IMAGE = 128, 32, 48, 2, 2, 64
LARGEST = 4_000_000  # parameters: more means that a size was not shrunk

TASKS = (  # of the automatic classes; each gives at most one class of an architecture
    "MODEL",
    "MODEL_FOR_MASKED_LM",
    "MODEL_FOR_CAUSAL_LM",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM",
    "MODEL_FOR_SEQUENCE_CLASSIFICATION",
    "MODEL_FOR_IMAGE_CLASSIFICATION",
    "MODEL_FOR_OBJECT_DETECTION",
    "MODEL_FOR_IMAGE_TEXT_TO_TEXT",
    "MODEL_FOR_AUDIO_CLASSIFICATION",
    "MODEL_FOR_CTC",
    "MODEL_FOR_SPEECH_SEQ_2_SEQ",
)


def at_most(largest: int) -> Callable[[int], int]:
    """Return the function that cuts a number off at `largest`."""
    return lambda value: min(value, largest)


def as_it_is(value: int) -> int:
    """Return `value`."""
    return value


SHRINK: tuple[tuple[str, Callable[[int], int]], ...] = (  # the first pattern that fits a setting's whole name counts
    (r".*(kernel|stride|groups|ratio|rates|dilation|buckets|interval|period|theta|_index|_base).*", as_it_is),
    (r"num_feat_extract_layers", as_it_is),  # as many as there are kernels
    (r".*vocab_size.*|n_vocab|codebook_size|num_embeddings|.*num_labels|num_classes", at_most(VOCABULARY)),
    (r".*(n|num|attention|kv|key_value|query|key|value)_heads?(_per_stage)?|n_head|heads", at_most(HEADS)),
    (r"qk_(rope|nope)_head_dim|rotary_dim", at_most(8)),
    (r".*(head_dim|dim_head|d_kv|head_size)", at_most(WIDTH // HEADS)),
    (r".*(_layers|n_layer|depth|depths|blocks|repeats|layers)", at_most(LAYERS)),
    (r".*experts", at_most(4)),
    (r".*(experts_per_tok|top_k|topk|n_group|topk_group|k_experts|codebooks|quantizers)", at_most(2)),
    (r".*(image_size|crop_size|img_size)", at_most(IMAGE)),
    (r".*patch_size", at_most(16)),
    (r".*window.*", at_most(8)),
    (r".*position.*|n_ctx|n_positions|context_length", at_most(128)),
    (r".*(intermediate|ffn|inner|mlp|d_ff).*", at_most(WIDER)),
    (r".*(lora_rank|state_size|d_state|time_step_rank|num_queries|.*_tokens|latents)", at_most(16)),
    (r".*(hidden|width|embd|emb|dim|dims|size|sizes|channels|d_model|rank|features|filters|proj)", at_most(WIDTH)),
)
RESNET = {
    "model_type": "resnet",
    "embedding_size": 16,
    "hidden_sizes": [16, 16, 24, 32],
    "depths": [1, 1, 1, 1],
    "out_features": ["stage4"],
}
OWN_BACKBONE = {"use_timm_backbone": False, "backbone": None, "backbone_config": RESNET}  # timm need not be installed
ODD: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("detr", "conditional_detr", "dab-detr", "table-transformer"), OWN_BACKBONE),
    "bit": {"num_groups": 4},
}


def model_types() -> list[str]:
    """Return every type of model that an automatic class of `TASKS` knows."""
    tables = (getattr(modeling_auto, f"{task}_MAPPING_NAMES") for task in TASKS)
    return sorted(set().union(*tables))


def classes_of(model_type: str) -> list[str]:
    """Return the classes of a type of model, the base model first."""
    found: dict[str, None] = {}
    for task in TASKS:
        names = getattr(modeling_auto, f"{task}_MAPPING_NAMES").get(model_type, ())
        found |= dict.fromkeys((names,) if isinstance(names, str) else names[:1])
    return list(found)


def tiny_config(model_type: str) -> Any:
    """Return the default configuration of a type of model, with all sizes shrunk."""
    cls = configuration_auto.CONFIG_MAPPING[model_type]
    return cls(**shrunk(cls().to_dict(), {}) | ODD.get(model_type, {}))


def shrunk(settings: dict[str, Any], tokens: dict[int, int]) -> dict[str, Any]:
    """Return the settings that become smaller, those of nested configurations too.

    Parameters
    ----------
    settings : dict
    tokens : dict of int to int
        Ids of special tokens beyond the vocabulary -> their new ids; filled here.
    """
    smaller = {}
    for name, value in settings.items():
        if isinstance(value, dict) and "model_type" in value:
            smaller[name] = {"model_type": value["model_type"], **shrunk(value, tokens)}
        elif re.fullmatch(r".*token_(id|index)", name) and isinstance(value, int) and value >= VOCABULARY:
            smaller[name] = tokens.setdefault(value, VOCABULARY - 1 - len(tokens))
        else:
            new = shrink(name, value)
            if new != value:
                smaller[name] = new
    return smaller


def shrink(name: str, value: Any) -> Any:
    """Return the small value of a setting; others than numbers and lists of them stay as they are."""
    if isinstance(value, list | tuple):
        return [shrink(name, each) for each in value]
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        return value
    return next((smaller(value) for pattern, smaller in SHRINK if re.fullmatch(pattern, name)), value)


def tiny_model(name: str, config: Any, seed: int = 0) -> Any:
    """Return a random model of the class `name`, in evaluation mode.

    Raises
    ------
    ValueError
        If it has more than `LARGEST` parameters.
    """
    cls = getattr(transformers, name)
    with torch.device("meta"):
        n_parameters = sum(parameter.numel() for parameter in cls(config).parameters())
    if n_parameters > LARGEST:
        raise ValueError(f"a size is not shrunk: {n_parameters:,} parameters")
    torch.manual_seed(seed)
    return cls(config).eval()
