"""Tiny random models of the architectures of transformers: default configurations whose sizes are shrunk by name."""

import copy
import re
from collections.abc import Callable
from typing import Any

import torch
import transformers
from transformers.models.auto import configuration_auto, modeling_auto

VOCABULARY, WIDTH, WIDER, HEADS, ROTATED, LAYERS, IMAGE = 128, 32, 48, 2, 8, 2, 64
LARGEST = 16_000_000  # parameters: more means that a size was not shrunk

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


DEPTH = ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "decoder_layers")
SHRINK: tuple[tuple[str, Callable[[int], int]], ...] = (  # the first pattern that fits a setting's whole name counts
    (r"upsample_groups", at_most(WIDTH)),
    (r".*(kernel|stride|groups|ratio|rates|dilation|buckets|interval|period|theta|_index|_base).*", as_it_is),
    (r"num_feat_extract_layers", as_it_is),  # as many as there are kernels
    (r".*vocab_size.*|n_vocab|codebook_size|num_embeddings|.*num_labels|num_classes", at_most(VOCABULARY)),
    (r".*(n|num|attention|kv|key_value|query|key|value)_heads?(_per_stage)?|n_head|heads", at_most(HEADS)),
    (r"qk_(rope|nope)_head_dim|rotary_dim", at_most(ROTATED)),
    (r".*(head_dim|dim_head|d_kv|head_size)", at_most(WIDTH // HEADS)),
    (r".*(_layers|n_layer|depth|depths|blocks|repeats|layers)", at_most(LAYERS)),
    (r".*experts", at_most(4)),
    (
        r".*(experts_per_tok|experts_per_token|top_k|topk|moe_k|n_group|topk_group|k_experts|codebooks|quantizers)",
        at_most(2),
    ),
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
ROPE = {"rope_type": "default", "rope_theta": 10000.0}
ROTARY = {"head_dim": WIDTH // HEADS, "rope_parameters": ROPE}
MULTI = {"rope_parameters": ROPE | {"mrope_section": [2, 3, 3]}}  # half a head, among time, height and width
WITH_MULTI = {"text_config": MULTI}
HALF = {"rope_parameters": ROPE | {"mrope_section": [2, 1, 1], "partial_rotary_factor": 0.5}}
ODD: dict[str, dict[str, Any]] = {  # sizes that depend on each other, and settings without a default that works
    **dict.fromkeys(("detr", "conditional_detr", "dab-detr", "table-transformer"), OWN_BACKBONE),
    **dict.fromkeys(("hunyuan_v1_dense", "hunyuan_v1_moe", "hunyuan_vl_text", "ministral"), ROTARY),
    **dict.fromkeys(("glm4v_text", "glm_image_text", "glm_ocr_text", "qwen2_5_vl_text"), MULTI),
    **dict.fromkeys(
        ("glm46v", "glm4v", "glm_image", "glm_ocr", "glmga", "qwen2_5_vl", "qwen2_5_omni_thinker"), WITH_MULTI
    ),
    "glm4v_moe": {"text_config": HALF},
    "glm4v_moe_text": HALF,
    "hunyuan_vl": {"text_config": ROTARY},
    "bamba": {"attn_layer_indices": [1]},
    "bit": {"num_groups": 4},
    "efficientnet": {"hidden_dim": 2560},
    "esm": {"vocab_size": VOCABULARY, "pad_token_id": 1, "mask_token_id": 2},
    "gpt_neo": {"num_layers": LAYERS, "attention_types": [[["global", "local"], 1]]},
    "gemma3n_text": {"num_kv_shared_layers": 0},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    "jamba": {"attn_layer_offset": 1, "attn_layer_period": 2},
    "layoutlmv3": {"coordinate_size": 6, "shape_size": 4},  # four of one and two of the other make the width
    "lilt": {"hidden_size": 48, "channel_shrink_ratio": 4},
    "mamba2": {"num_heads": 4, "head_dim": 16, "n_groups": 1},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "nemotron": {"num_key_value_heads": HEADS},
    "nemotron_h": {"n_groups": 1},
    "recurrent_gemma": {"block_types": ["recurrent", "attention"]},
    "reformer": {"axial_pos_embds_dim": [16, 16], "axial_pos_shape": [8, 16]},
    "xmod": {"default_language": "en_XX"},
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
    return cls(**copy.deepcopy(merged(shrunk(cls().to_dict(), {}), ODD.get(model_type, {}))))  # which it may change


def merged(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return settings with changes, those of nested configurations too."""
    nested = {
        name: merged(settings[name], value)
        for name, value in changes.items()
        if isinstance(value, dict) and isinstance(settings.get(name), dict)
    }
    return settings | changes | nested


def shrunk(settings: dict[str, Any], tokens: dict[int, int]) -> dict[str, Any]:
    """Return the settings that become smaller, those of nested configurations too.

    Parameters
    ----------
    settings : dict
    tokens : dict of int to int
        Ids of special tokens beyond the vocabulary -> their new ids; filled here.
    """
    smaller: dict[str, Any] = {}
    layers = next((n for name in DEPTH if isinstance(n := settings.get(name), int)), 0)
    for name, value in settings.items():
        if name == "head_dim" and "qk_rope_head_dim" in settings:  # only that part is rotated
            smaller[name] = settings["qk_rope_head_dim"] and ROTATED
        elif isinstance(value, dict) and "model_type" in value:
            smaller[name] = {"model_type": value["model_type"], **shrunk(value, tokens)}
        elif isinstance(value, dict) and isinstance(value.get("mrope_section"), list):
            smaller[name] = value | {"mrope_section": sections(value.get("partial_rotary_factor") or 1)}
        elif isinstance(value, list) and len(value) == layers > LAYERS:  # one entry a layer
            smaller[name] = [shrink(name, each) for each in first_of_each(value)]
        elif re.fullmatch(r".*token_(id|index)", name) and isinstance(value, int) and value >= VOCABULARY:
            smaller[name] = tokens.setdefault(value, VOCABULARY - 1 - len(tokens))
        else:
            new = shrink(name, value)
            if new != value:
                smaller[name] = new
    return smaller


def first_of_each(entries: list[Any]) -> list[Any]:
    """Return as many entries as a tiny model has layers, of different kinds if there are several."""
    other = next((each for each in entries if each != entries[0]), entries[0])
    return [entries[0]] * (LAYERS - 1) + [other]


def sections(rotated: float) -> list[int]:
    """Return how the rotated part of a head is divided among time, height and width."""
    half = int(WIDTH // HEADS * rotated) // 2
    return [half - 2 * (3 * half // 8), 3 * half // 8, 3 * half // 8]


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
