"""Defaults, presets, validation and JSON of experiment configs (floor F0: imports no JAX)."""

from ml_collections import ConfigDict


def base() -> ConfigDict:
    """Every field a config has, with the reference's hyper-parameters for Point-Robot.

    Source of the numbers: MetaSTAR (arXiv 2606.00780) and its released code. What only our default
    uses is neutral here (no averaging, no bound, no normalisation).
    """
    return ConfigDict(
        {
            "method": "metastar",
            "family": "point_robot_sparse",
            "preset": "",
            "seed": 0,
            "deterministic": False,  # accelerators: ask XLA for bitwise reproducible kernels
            "data": {
                "dir": "",  # "" is data/<family>_<preset>
                "train_tasks": 30,
                "test_tasks": 10,
                "task_seed": 0,
                # The last k training tasks are withheld and take the place of the test tasks:
                # settings are chosen with k > 0, results are reported with k = 0.
                "validation_tasks": 0,
            },
            "env": {"terminal_at_goal": False},
            "collect": {
                "behavior": "sac",
                "seed": 0,
                "random_episodes": 50,
                "random_action_scale": 1.0,
                "iterations": 300,
                "episodes_per_iteration": 2,
                "updates_per_iteration": 500,
                "batch_size": 256,
                "hidden": (32, 32),
                "lr": 3e-4,
                "gamma": 0.9,
                "alpha": 0.01,
                "tau": 0.005,
            },
            "world_model": {
                "latent_dim": 16,
                "width": 128,
                "num_layers": 2,
                "num_heads": 4,
                "context_len": 30,  # also the number of rows of the position table
                "code_dim": 5,
                "code_bound": "none",  # "none" | "sphere" (unit mean square, as a LayerNorm)
                "attention_dropout": 0.0,
                "mask_joints": True,  # no reconstruction or KL across the joint of two episodes
                "lr": 1e-4,
                "clip_norm": 1000.0,
                "free_bits": 1.0,
                "dyn_weight": 1.0,
                "rep_weight": 0.1,
            },
            "task_losses": {"distance": 1.0, "infonce": 0.0},
            "infonce": {"temperature": 0.1},
            "sampler": {
                "meta_batch": 16,
                "with_replacement": False,
                "hold_updates": 1,  # updates that share one list of tasks
                "windows": 1,  # 2 adds the "positive" view: a second window of the same task
                "batch_size": 256,  # per task, real and imagined together
            },
            "imagine": {"num_rollouts": 8, "context_len": 8, "horizon": 1},
            "agent": {
                "hidden": (128, 128),
                "gamma": 0.9,
                "alpha": 0.01,
                "tau": 0.005,
                "beta": 0.5,
                "num_actions": 10,  # per source of the conservative term: three sources
                "conservative_states": 0,  # per task; 0 is the whole batch
                "actor_lr": 3e-4,
                "critic_lr": 3e-4,
                "actor_average": 0.0,
                "normalize_obs": False,
            },
            "train": {
                "pretrain_updates": 10_000,
                "updates": 200_000,
                "chunk": 200,  # updates per jitted call, row of metrics and progress line
                "validate_every": 50,  # pretraining updates between two validation losses
                "eval_every": 10_000,
                "checkpoint_every": 10_000,
                "keep_checkpoints": 3,
                "lr_decay": "none",  # "none" | "cosine": over each phase, to zero
            },
            "eval": {
                "windows": 20,  # contexts per task and kind of context
                "episodes": 1,  # per context
                "zero_shot_streams": 8,  # independent two-episode histories per task
                "curve_windows": 4,  # contexts per task in the evaluations during training
                "oracle": "",  # workdir of an oracle run whose return is the upper bound
            },
        }
    )
