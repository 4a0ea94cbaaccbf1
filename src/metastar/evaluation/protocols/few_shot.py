"""Few-shot: the task code comes from data of the task and stays fixed.

Source: MetaSTAR (arXiv 2606.00780), evaluation.
"""

from metastar.types import Method, Policy


def given_context(method: Method) -> Policy:
    """The few-shot protocol: the method's own policy, with the adaptation it was given."""
    return method.policy
