"""What `metastar bench eval` and `bench infer` time: playing in a batch or alone, and inferring."""

from collections import Counter
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from metastar.data import contexts
from metastar.data.contexts import folded, steps_of
from metastar.envs.make import make_env
from metastar.evaluation import episodes as play
from metastar.evaluation import evaluate, likelihood
from metastar.evaluation.history import empty_window
from metastar.evaluation.inference import infer_all
from metastar.evaluation.protocol import Given, Protocol
from metastar.tools.bench.cases import Case, of_tasks, rollout_case, shortened
from metastar.tools.bench.setting import Setting
from metastar.training.compilation import compiled
from metastar.training.flops import products, scaled
from metastar.types import Array, Env, StepIn

ALONE_TASKS = 2  # tasks of single environments: one stream each is enough for the time of a step


def cases(setting: Setting, max_steps: int) -> list[Case]:
    """The config's protocols on all tasks in one batch, and on single environments.

    The references play the same networks: "one env at a time" calls functions that are jitted for a
    batch of one, step by step, as a loop over gymnasium environments does; where the simulator is
    in JAX, "one stream at a time" runs whole episodes of one environment in one jitted scan.

    Args:
        setting: the method, with its initial parameters, and its data.
        max_steps: steps of an episode at most; 0 leaves them as they are.
    """
    env = shortened(make_env(setting.cfg), max_steps)
    every = of_tasks(env, setting.all.task)
    alone = of_tasks(env, jax.tree.map(lambda x: x[:1], setting.all.task))  # all take as long
    made = []
    for protocol in evaluate.protocols_of(setting.cfg, setting.inference.method, env.spec):
        made.append(_batch(setting, every, protocol))
        if not env.on_host:
            made.append(_alone(setting, alone, protocol, "one stream at a time"))
        made.append(_alone(setting, stepwise(alone), protocol, "one env at a time"))
    return made


def inferences(setting: Setting) -> list[Case]:
    """One inference from each of `eval.windows` contexts of each task, all in one batch.

    By every `inference.choice` that the method allows; a bank is made beforehand, as it is once for
    each evaluation.
    """
    method, key = setting.method, jax.random.key(setting.cfg.seed)
    num, windows = setting.all.count.shape[0], setting.cfg.eval.windows
    task_id = jnp.broadcast_to(jnp.arange(num)[:, None], (num, windows))
    draw = jax.jit(lambda data, key: contexts.draw(data, task_id, method.context, key))
    given = draw(setting.all, key), setting.all.task, key
    choices = likelihood.DEFAULTS["choice"].allowed
    if method.task_model is None:
        choices = (setting.cfg.inference.choice,)

    def case(choice):
        cfg = likelihood.chosen(setting.cfg, choice)
        own = setting._replace(inference=likelihood.make(cfg.inference, method))
        arguments = params_of(own, key), *given
        program = compiled(jax.jit(lambda *x: infer_all(own.inference.method, *x)), *arguments)
        return Case(
            name=choice,
            unit="inference",
            units=num * windows,
            call=lambda: program.run(*arguments),
            products=products(program.jaxpr),
            compile_seconds=program.seconds,
            xla_flops=program.xla_flops,
            peak_bytes=program.peak_bytes,
        )

    return [case(choice) for choice in choices]


def params_of(setting: Setting, key: Array) -> Any:
    """Initial parameters, as the functions of `setting.inference.method` take them."""
    method = setting.method
    exported = jax.jit(lambda key: method.export(method.init(key)))(key)
    return setting.inference.params(exported, lambda: setting.train)


def stepwise(env: Env) -> Env:
    """A simulator that is called from the host step by step, whatever it runs on."""
    if env.on_host:
        return env
    reset, step = jax.jit(jax.vmap(env.reset)), jax.jit(jax.vmap(env.step))

    def reset_on_host(noise, task, physics):
        state, obs = reset(noise, task, physics)
        return state, jax.device_get(obs)

    def step_on_host(state, action, task, physics):
        state, out = step(state, action, task, physics)
        return state, jax.device_get(out)

    return env._replace(reset=reset_on_host, step=step_on_host, on_host=True)


def _batch(setting: Setting, env: Env, protocol: Protocol) -> Case:
    num_tasks, streams = setting.all.count.shape[0], protocol.streams
    run = play.evaluation(protocol, env, streams)
    arguments = _arguments(setting, protocol, slice(None))
    made = network_products(setting, env, protocol, (num_tasks, streams))
    units = num_tasks * streams * _steps(env, protocol)
    return rollout_case(f"{protocol.title}, all in one batch", env, run, arguments, units, made)


def _alone(setting: Setting, env: Env, protocol: Protocol, how: str) -> Case:
    one = play.evaluation(protocol, env, 1)
    if not env.on_host:
        one = jax.jit(one)
    each = [_arguments(setting, protocol, slice(i, i + 1)) for i in range(ALONE_TASKS)]

    def run():
        return [one(*arguments) for arguments in each]

    made = scaled(network_products(setting, env, protocol, (1, 1)), ALONE_TASKS)
    units = ALONE_TASKS * _steps(env, protocol)
    name = f"{protocol.title}, {how}"
    return rollout_case(name, env._replace(on_host=True), run, (), units, made)


def _arguments(setting: Setting, protocol: Protocol, rows: slice) -> tuple:
    """What an evaluation of some tasks takes."""
    key, *keys = jax.random.split(jax.random.key(setting.cfg.seed), 3)
    params = params_of(setting, key)
    data = jax.tree.map(lambda x: x[rows], setting.all)
    return params, setting.train, Given(data.task, (data,) if protocol.from_data else ()), *keys


def _steps(env: Env, protocol: Protocol) -> int:
    """Steps of one stream."""
    return protocol.episodes * env.spec.max_episode_steps


def network_products(setting: Setting, env: Env, protocol: Protocol, streams: tuple) -> Counter:
    """The matrix products of inferring the task and acting, in [N, W] streams; no simulator's.

    Counted apart from the rollout, where the branch that skips an inference does not show.
    """
    method = setting.inference.method
    params, *_ = _arguments(setting, protocol, slice(None))
    window = empty_window(env.spec, steps_of(method.context))
    context = folded(window, method.context)
    task = jax.tree.map(lambda x: x[0], setting.all.task) if method.privileged else None
    key = jax.random.key(0)
    adaptation = jax.eval_shape(method.infer, params, context, task, key)
    carry = jax.eval_shape(method.policy.init, params, adaptation)
    step = jax.tree.map(lambda x: x[0], (window.obs, window.action, window.reward, window.obs))
    seen = StepIn(*step, first=jnp.array(True), time=jnp.array(0))

    def count(f, *own):
        own = jax.tree.map(lambda x: jax.ShapeDtypeStruct((*streams, *x.shape), x.dtype), own)
        axes = None, *(0 for _ in own)
        over_streams = jax.vmap(jax.vmap(f, in_axes=axes), in_axes=axes)
        return products(jax.make_jaxpr(over_streams)(params, *own).jaxpr)

    infer = count(method.infer, context, task, key)
    act = count(partial(method.policy.act, greedy=True), adaptation, carry, seen, key)
    return scaled(infer, protocol.inferences) + scaled(act, _steps(env, protocol))
