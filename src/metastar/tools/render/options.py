"""The arguments of `metastar render`, apart from what reads them, since help imports no JAX."""

import argparse

from metastar.tools.arguments import whole_number


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments to the parser of the command."""
    parser.add_argument("--workdir", metavar="RUN", help="a run: its agent on held-out tasks")
    parser.add_argument("--family", metavar="NAME", help="a task family: random actions")
    parser.add_argument(
        "--policy",
        metavar="NAME",
        help="agent, behavior (recorded episodes) or random; or a run that plays --family",
    )
    parser.add_argument("--data", metavar="DIR", help="a data set, for behavior without a run")
    parser.add_argument(
        "--source",
        metavar="NAME",
        help="whose recorded episodes: a name of the data card (default: learners at stage expert)",
    )
    parser.add_argument(
        "--task",
        metavar="INDEX",
        type=whole_number,
        nargs="+",
        action="extend",
        default=[],
        help="tasks to show (default: a few, spread over the task parameter)",
    )
    parser.add_argument("--out", metavar="DIR", help="folder to write to (default: RUN/render)")
    parser.add_argument("--format", choices=("gif", "mp4"), default="gif", help="of the film")
