"""What a transition gives, from the functions of its family: the same on every back end."""

from metastar.envs.family import Family
from metastar.types import StepOut


def outcome(xp, family: Family, profile: str, before, after, action, task) -> StepOut:
    """The observation, reward, terminal and success of steps from `before` to `after`.

    Args:
        xp: `numpy` or `jax.numpy`.
        family: its `observe`, `reward`, `done` and `success` are used.
        profile: of the observation.
        before: states (not observations) of the back end, with leading axes [...].
        after: states that the actions led to, with the same axes.
        action: [..., A].
        task: task parameters, leaves without leading axes or with [...].

    Returns:
        `obs` [..., O]; `reward`, `done` and `success` [...], the last None if the family has none.
    """
    transition = (xp, before, after, action, task)
    obs = family.observe(xp, after, profile)
    reward = family.reward(*transition)
    return StepOut(
        obs=obs,
        reward=reward,
        done=family.done(*transition) if family.done else xp.zeros(reward.shape, bool),
        success=family.success(*transition) if family.success else None,
    )
