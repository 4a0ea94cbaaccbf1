"""The arguments of `metastar sweep`, apart from what reads them, since help imports no JAX."""

import argparse

from metastar.tools.arguments import count, minutes


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments to the parser of the command."""
    parser.add_argument(
        "words",
        metavar="[status] FILE.py[:ARGUMENT]",
        nargs="+",
        help="the sweep file; with status before it, only print the table of what there is, also "
        "for the folder of its runs",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with all that an earlier call left"
    )
    parser.add_argument(
        "--only-failed", action="store_true", help="start again what failed, and nothing else"
    )
    parser.add_argument(
        "--minutes",
        type=minutes,
        metavar="M",
        default=float("inf"),
        help="start no further cell after that time; --resume goes on (default: no limit)",
    )
    parser.add_argument(
        "--jobs",
        type=count,
        metavar="N",
        help="cells at once (default: as cores and memory allow)",
    )
    parser.add_argument(
        "--on",
        metavar="NAME",
        default="local",
        help="where the cells run: local, slurm or ray (docs/scaling.md; default: local)",
    )
    parser.add_argument(
        "--search",
        type=count,
        metavar="N",
        default=0,
        help="draw N settings of the file's search for each cell, and find the best",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the line of every cell")
