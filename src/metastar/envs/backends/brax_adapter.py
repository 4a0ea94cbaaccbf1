"""A simulator of ours as a `brax.envs.Env`, so that brax's learners and wrappers run on it."""

import contextlib

import jax
import jax.numpy as jnp

from metastar.errors import UserError
from metastar.types import Array, Env

with contextlib.redirect_stdout(None):  # else MJX prints there that NVIDIA's Warp is missing
    from brax.envs import base


def as_brax(env: Env, tasks) -> base.Env:
    """Wraps a simulator in JAX and its tasks in brax's interface.

    Every call of `reset` draws one of the tasks uniformly, and the noise of the start.
    `state.info` holds the task's parameters, "task", and its "physics", which `step` reads, so that
    every stream of a vmapped environment has its own task. Actions are clipped to [-1, 1], as in a
    rollout.

    Use it as `brax.envs.training.wrap(as_brax(env, tasks), env.spec.max_episode_steps)`;
    `experiments/brax_sac_cheetah.py` is an example, with the names that brax 0.14.2 expects and JAX
    0.10 no longer has. Brax differs from our rollouts in four ways:

    - `AutoResetWrapper` repeats a stream's first start instead of calling `reset`, so that a stream
      keeps its task until it is reset from outside.
    - A `done` always ends an episode. A terminal that we only record (`spec.done_ends_episode`
      False) is therefore not passed on.
    - Its learners do not check for NaN, which is what MJX gives when a simulation breaks down.
    - A `randomization_fn` changes a model of brax's own kind, which this environment does not have.

    Args:
        env: the simulator, `make_env(cfg)` with `simulator.backend` "mjx" or a point robot.
        tasks: task parameters, leaves [N, ...]; one row to train on a single task.

    Raises:
        UserError: the simulator runs on the host, or `tasks` is not a table of one length N > 0.
    """
    if env.on_host:
        raise UserError(
            f"brax compiles its environments, and {env.spec.name} is simulated on the host here; "
            "set simulator.backend to 'mjx'"
        )
    lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(tasks)}
    if len(lengths) != 1 or lengths & {(), (0,)}:
        raise UserError(
            "tasks for brax must be a table: every parameter with a leading axis of one length, "
            "1 for a single task"
        )
    return _Adapter(env, jax.tree.map(jnp.asarray, tasks), *lengths.pop())


class _Adapter(base.Env):
    """What `as_brax` returns: one stream of episodes; `pipeline_state` is our `env_state`."""

    def __init__(self, env: Env, tasks, num_tasks: int):
        self._env, self._num_tasks = env, num_tasks
        self._table = {"task": tasks, "physics": env.prepare(tasks)}

    def reset(self, rng: Array) -> base.State:
        key_task, key_noise = jax.random.split(rng)
        index = jax.random.randint(key_task, (), 0, self._num_tasks)
        info = jax.tree.map(lambda leaf: leaf[index], self._table)
        noise = self._env.draw_reset(key_noise)
        env_state, obs = self._env.reset(noise, info["task"], info["physics"])
        return base.State(env_state, obs, jnp.zeros(()), jnp.zeros(()), info=info)

    def step(self, state: base.State, action: Array) -> base.State:
        action = jnp.clip(action, -1, 1)
        info = state.info
        env_state, out = self._env.step(state.pipeline_state, action, info["task"], info["physics"])
        done = out.done & self._env.spec.done_ends_episode
        return state.replace(
            pipeline_state=env_state,
            obs=out.obs,
            reward=out.reward.astype(float),
            done=done.astype(float),
        )

    @property
    def observation_size(self) -> int:
        return self._env.spec.obs_dim

    @property
    def action_size(self) -> int:
        return self._env.spec.action_dim

    @property
    def backend(self) -> str:
        """Not one of brax's own: whatever physics the wrapped simulator has, in JAX."""
        return "metastar"
