"""The arguments of `metastar bench`, apart from what reads them, since help imports no JAX."""

import argparse

from metastar.tools.arguments import whole_number


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments to the parser of the command."""
    parser.add_argument(
        "part",
        metavar="PART",
        help="update, world_model, imagine, critic, env, eval, infer or seeds; or plot: figures of "
        "--out",
    )
    parser.add_argument(
        "--sizes",
        metavar="AXIS=N,N,...",
        default="",
        help="time the part at each size, for instance horizon=1,2,4 or sampler.meta_batch=8,16",
    )
    parser.add_argument(
        "--against",
        action="append",
        metavar="PATH.py:FAMILY[,PRESET]",
        default=[],
        help="update: another config, timed in the same rounds; once for each",
    )
    parser.add_argument(
        "--repeats",
        type=whole_number,
        metavar="N",
        default=20,
        help="interleaved rounds (default: 20)",
    )
    parser.add_argument(
        "--max-steps",
        type=whole_number,
        metavar="N",
        default=0,
        help="env, eval: steps of an episode at most (default: the family's)",
    )
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="seconds on the wall, or CPU seconds of the process: for one thread on a busy machine",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        default="benchmarks/results",
        help="folder of the results (default: benchmarks/results)",
    )
    parser.add_argument(
        "--profile", action="store_true", help="write a trace of one call of each case"
    )
