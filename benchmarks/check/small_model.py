"""A small model of any architecture, on which a property of the architecture can be tried in a moment.

Ranks refuse a model whose results padding changes (`training.evaluation.require_same_when_padded`). That is a property
of the code and not of the weights, so a small model with random weights shows it before a rank is started.
"""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import Any

from benchmarks.files import BenchmarkError
from benchmarks.spec import FineTune

SIZES = {
    **dict.fromkeys(("hidden_size", "d_model", "word_embed_proj_dim", "attention_hidden_size", "lru_width"), 64),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim", "d_ff", "n_inner"), 128),
    **dict.fromkeys(("num_attention_heads", "decoder_attention_heads", "encoder_attention_heads"), 4),
    **dict.fromkeys(("num_hidden_layers", "decoder_layers", "encoder_layers"), 4),
    **dict.fromkeys(("num_key_value_heads", "n_head_kv"), 4),
    **dict.fromkeys(("head_dim", "rotary_dim"), 16),
    **dict.fromkeys(("num_local_experts", "num_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "n_group", "topk_group"), 1),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "mlp_hidden_size"), 32),
}
"""The size of each part of a small model, by the name under which configurations keep it."""
MAX_PARAMETERS = 100_000_000
"""Weights of a model that is tried: BLOOM's vocabulary of 250,880 takes 16 million at this width."""
SMALL_WINDOW = 4
"""Tokens of a small model's sliding window, which the few tokens of the trial fill as the data fill the real one."""


def require_same_when_padded(content: Any, tokenizer: Any, finetune: FineTune) -> None:
    """Refuse a model whose architecture gives other results where a sequence is padded.

    An architecture that cannot be built small is left to the ranks.

    Args:
        content: the model's configuration.
        tokenizer: its tokenizer.
        finetune: the settings of the training.

    Raises:
        BenchmarkError: padding or cache changes the results.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from benchmarks.training.evaluation import evaluation_of
    from benchmarks.training.evaluation import require_same_when_padded as require_same

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        try:
            sizes = shrunk(content, filled=finetune.max_length + finetune.max_answer_tokens)
            with torch.device("meta"):
                outline = AutoModelForCausalLM.from_config(sizes, trust_remote_code=False)
            if sum(weight.numel() for weight in outline.parameters()) > MAX_PARAMETERS:
                return
            small = AutoModelForCausalLM.from_config(sizes, trust_remote_code=False).float().eval()
            evaluation = evaluation_of(small, tokenizer, finetune, torch.device("cpu"), rank=0, world_size=1)
            require_same(small, evaluation)
        except BenchmarkError:
            raise
        except Exception:  # sizes that do not go together are ours, and each architecture refuses them in its own way
            return


def shrunk(content: Any, filled: int = 0) -> Any:
    """Return a copy of a configuration with small layers, few of them, and the vocabulary as it was.

    Args:
        content: the configuration.
        filled: tokens of the longest sequence; a sliding window of at most as many gets small too.
    """
    small = copy.deepcopy(content)
    text = small.get_text_config(decoder=True)
    layers = text.num_hidden_layers
    for name, size in SIZES.items():
        if isinstance(getattr(text, name, None), int):
            with suppress(AttributeError):  # one that follows from others
                setattr(text, name, min(size, getattr(text, name)))
    if isinstance(kinds := getattr(text, "layer_types", None), list) and len(kinds) == layers:
        text.layer_types = kinds[: text.num_hidden_layers]
    if isinstance(window := getattr(text, "sliding_window", None), int) and window <= filled:
        text.sliding_window = min(SMALL_WINDOW, window)
    return small
