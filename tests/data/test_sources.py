"""Sources are the pairs that occur, in the order of the tables, each with one name."""

import numpy as np

from metastar.data.sources import Source, sources

POLICIES, STAGES = ("random", "sac", "td3"), ("random", "medium", "expert")


def test_pairs_that_occur_by_policy_then_stage():
    policy = np.array([[2, 0, 1], [1, 1, 0]])
    stage = np.array([[0, 0, 2], [1, 2, 0]])
    assert sources(POLICIES, STAGES, policy, stage) == [
        Source("random", 0, 0),
        Source("sac medium", 1, 1),
        Source("sac expert", 1, 2),
        Source("td3 random", 2, 0),  # a policy at the stage "random" is not the policy "random"
    ]


def test_one_source_and_no_episode():
    assert sources(POLICIES, STAGES, np.zeros((2, 3), int), np.zeros((2, 3), int)) == [
        Source("random", 0, 0)
    ]
    assert sources(POLICIES, STAGES, np.zeros((2, 0), int), np.zeros((2, 0), int)) == []
