"""Expected information about the task under the model: go where tasks have different rewards."""

import jax
import jax.numpy as jnp

from metastar.evaluation import belief
from metastar.evaluation.strategy import Strategy
from metastar.types import Adaptation, Array, EnvSpec, Method, StepIn

DEFAULTS = {}

NEEDS_MODEL = True
CANDIDATES, HORIZON = 8, 10
MARGIN = 0.1  # nats that another task must promise above the present target


def make(method: Method, spec: EnvSpec) -> Strategy:
    """Acts as in the training task that promises most information about the present task.

    Candidates are the present target, as in `posterior`, and `CANDIDATES - 1` tasks drawn from the
    posterior p. From the present state each is played for `HORIZON` steps in the model, with the
    policy and the next states of its own code; `expected_information` is what the rewards on that
    path would tell. The target changes only for a candidate that promises `MARGIN` more. Acts on
    the own code once that is `known`.

    Expected information gain as the value of an experiment: Lindley 1956 (Annals of Mathematical
    Statistics 27, 986-1005); of an action in reinforcement learning: Houthooft et al. 2016 (VIME,
    arXiv 1605.09674).
    """
    model = method.task_model

    def promised(params, seen, code, key):
        """Nats [] that acting on `code` [Z] promises."""

        def step(carry, _):
            obs, inner = carry
            zero = jnp.zeros(())
            now = StepIn(obs, jnp.zeros(spec.action_dim), zero, obs, jnp.zeros((), bool))
            action, inner = method.policy.act(params, Adaptation(code), inner, now, key, True)
            action = jnp.clip(action, -1, 1)
            after = model.next_obs(params, obs, action, code[None])
            everywhere = jnp.broadcast_to(after, (seen.bank.shape[0], *obs.shape))
            reward = model.reward(params, obs, action, everywhere, seen.bank)
            return (after[0], inner), reward / model.likelihood_std

        start = seen.obs, method.policy.init(params, Adaptation(code))
        _, reward = jax.lax.scan(step, start, length=HORIZON)
        return expected_information(seen.log_posterior, reward)

    def choose(params, seen, target, key):
        key_first, key_drawn, key_act = jax.random.split(key, 3)
        drawn = jax.random.categorical(key_drawn, seen.log_posterior, shape=(CANDIDATES - 1,))
        first = jax.random.categorical(key_first, seen.log_posterior)
        pursued = jnp.where(target < 0, first, belief.next_plausible(seen, target))
        candidate = jnp.append(pursued, drawn)
        promise = jax.vmap(promised, in_axes=(None, None, 0, None))(
            params, seen, seen.bank[candidate], key_act
        )
        best = candidate[jnp.argmax(promise.at[0].add(MARGIN))]
        return jnp.where(belief.known(seen), seen.own_code, seen.bank[best]), best

    return Strategy(lambda bank: jnp.array(-1), choose, belief.informative)


def expected_information(log_posterior: Array, reward: Array) -> Array:
    """Expected decrease of the posterior's entropy from the rewards of H steps, nats: [].

    `H(p) - sum_j p_j H(p_i exp(-E_ij) / Z_j)`, where `E_ij = sum_t min((m_jt - m_it)^2 / 2, c)` is
    the evidence against task i if task j is the true one and its rewards are those predicted, and
    c = `belief.MAX_EVIDENCE`. At most H(p), and 0 where all tasks have the same rewards.

    Args:
        log_posterior: [K].
        reward: [H, K] predicted for each task, divided by `TaskModel.likelihood_std`.

    >>> half = jnp.log(jnp.array([0.5, 0.5]))
    >>> told = expected_information(half, 99 * jnp.array([[0.0, 1.0]] * 9))  # log 2
    >>> round(float(told), 4), float(expected_information(half, jnp.ones((9, 2))))
    (0.6931, 0.0)
    """
    against = jnp.minimum(0.5 * (reward[:, :, None] - reward[:, None, :]) ** 2, belief.MAX_EVIDENCE)
    after = jax.nn.log_softmax(log_posterior[None] - against.sum(0), axis=-1)  # [true, K]
    left = jnp.exp(log_posterior) @ belief.entropy(after)
    return belief.entropy(log_posterior) - left
