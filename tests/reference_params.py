"""Names of the reference's parameters for ours, and both ways between the two layouts.

The reference stores linear weights as (out, in) and its decoder with ensemble axes of length one;
ours are (in, out). Flat trees use "/" between the levels.
"""

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict


def _linear(ours, theirs, bias=True):
    names = {f"{ours}/kernel": f"{theirs}.weight"}
    return names | ({f"{ours}/bias": f"{theirs}.bias"} if bias else {})


def _norm(ours, theirs):
    return {f"{ours}/scale": f"{theirs}.weight", f"{ours}/bias": f"{theirs}.bias"}


def world_model_names(num_layers):
    stem, head = "storm_transformer", "dist_head"
    names = {
        **_linear("encoder/hidden_0", "state_reward_encoder.fc0"),
        **_linear("encoder/hidden_1", "state_reward_encoder.fc1"),
        **_linear("encoder/output", "state_reward_encoder.last_fc"),
        **_linear("core/stem_0", f"{stem}.stem.0", bias=False),
        **_norm("core/stem_norm_0", f"{stem}.stem.1"),
        **_linear("core/stem_1", f"{stem}.stem.3", bias=False),
        **_norm("core/stem_norm_1", f"{stem}.stem.4"),
        "core/task_token": f"{stem}.cls_token",
        "core/position": f"{stem}.position_encoding.pos_emb.weight",
        **_norm("core/norm", f"{stem}.layer_norm"),
        **_linear("core/task_head", f"{stem}.task_embedding"),
        **_linear("decoder/hidden_0", "state_reward_decoder.hidden_layers.0.0"),
        **_linear("decoder/hidden_1", "state_reward_decoder.hidden_layers.1.0"),
        **_linear("decoder/output", "state_reward_decoder.mean_and_logvar"),
        "decoder/max_logvar": "state_reward_decoder.max_logvar",
        "decoder/min_logvar": "state_reward_decoder.min_logvar",
        **_linear("termination/layer_0", "termination_decoder.backbone.0", bias=False),
        **_norm("termination/norm_0", "termination_decoder.backbone.1"),
        **_linear("termination/layer_1", "termination_decoder.backbone.3", bias=False),
        **_norm("termination/norm_1", "termination_decoder.backbone.4"),
        **_linear("termination/output", "termination_decoder.head.0"),
        **_linear("posterior/mean", f"{head}.post_mean_head"),
        **_linear("posterior/logvar", f"{head}.post_logvar_head"),
        **_linear("prior/mean", f"{head}.prior_mean_head"),
        **_linear("prior/logvar", f"{head}.prior_logvar_head"),
    }
    for i in range(num_layers):
        block, layer = f"core/blocks_{i}", f"{stem}.layer_stack.{i}"
        names |= {
            **_linear(f"{block}/query", f"{layer}.slf_attn.w_qs", bias=False),
            **_linear(f"{block}/key", f"{layer}.slf_attn.w_ks", bias=False),
            **_linear(f"{block}/value", f"{layer}.slf_attn.w_vs", bias=False),
            **_linear(f"{block}/out", f"{layer}.slf_attn.fc", bias=False),
            **_norm(f"{block}/attention_norm", f"{layer}.slf_attn.layer_norm"),
            **_linear(f"{block}/expand", f"{layer}.pos_ffn.w_1"),
            **_linear(f"{block}/contract", f"{layer}.pos_ffn.w_2"),
            **_norm(f"{block}/feed_forward_norm", f"{layer}.pos_ffn.layer_norm"),
        }
    return names


def actor_names(num_hidden):
    names = {**_linear("mean", "last_fc"), **_linear("log_std", "last_fc_log_std")}
    for i in range(num_hidden):
        names |= _linear(f"hidden_{i}", f"fc{i}")
    return names


def critic_names(num_hidden):
    names = _linear("output", "last_fc")
    for i in range(num_hidden):
        names |= _linear(f"hidden_{i}", f"fc{i}")
    return names


def _is_transposed(theirs, ndim):
    return ndim == 2 and theirs.endswith(".weight") and "pos_emb" not in theirs


def from_reference(names, arrays, action_dim=None):
    """Our parameters from the reference's {name: array}; a critic needs `action_dim`.

    The first layer of our critic keeps the weights of state and action apart.
    """
    flat = {}
    for ours, theirs in names.items():
        x = np.asarray(arrays[theirs])
        if _is_transposed(theirs, x.ndim):
            x = x.T
        elif theirs.startswith("state_reward_decoder"):
            x = x[0, 0] if theirs.endswith(".bias") else x[0]
        elif theirs.endswith("cls_token"):
            x = x[0, 0]
        flat[ours] = x
    if action_dim is not None:
        kernel = flat["hidden_0/kernel"]
        flat["hidden_0/kernel"] = kernel[:-action_dim]
        flat["hidden_0_action/kernel"] = kernel[-action_dim:]
    return unflatten_dict(flat, sep="/")


def to_reference(names, params):
    """The inverse: {name of the reference: array}, without its axes of length one."""
    flat = flatten_dict(params, sep="/")
    if "hidden_0_action/kernel" in flat:
        parts = flat["hidden_0/kernel"], flat.pop("hidden_0_action/kernel")
        flat["hidden_0/kernel"] = jnp.concatenate(parts)
    assert set(flat) == set(names)
    ensemble = "state_reward_decoder"
    return {
        names[ours]: x.T
        if _is_transposed(names[ours], x.ndim) and not names[ours].startswith(ensemble)
        else x
        for ours, x in flat.items()
    }


def norm_names(num_hidden):
    """Of a network of LayerNorm and Mish, whose layers SPC's file counts from 0."""
    names = _linear("output", f"{num_hidden}")
    for i in range(num_hidden):
        names |= _linear(f"hidden_{i}", f"{i}") | _norm(f"hidden_{i}_norm", f"{i}.ln")
    return names
