"""The command line; nothing else. JAX is imported only once a command has been parsed."""

import argparse
import contextlib
import io
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple, NoReturn

import metastar
from metastar import signals
from metastar.errors import UserError, did_you_mean, ending

_EXAMPLE = "configs/metastar.py:point_robot_sparse,quick"
_INFERENCE = (
    "encoder or bank: how codes are inferred, in place of the config's inference.choice "
    "(docs/methods.md, section 8)"
)


class _Parser(argparse.ArgumentParser):
    """Reports a wrong argument as every other mistake of the user's is reported."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `metastar COMMAND ...`; exit status 2 is a user's mistake, 128 + n is signal n."""
    try:
        with signals.caught():
            return _run(list(sys.argv[1:] if argv is None else argv))
    except BaseException as error:
        status, sentence = ending(error)
        if status is None:
            raise
        if sentence:
            with contextlib.suppress(OSError):
                print(f"metastar: {sentence}", file=sys.stderr)
        return status


def _run(argv: list[str]) -> int:
    """Runs a command; what it prints goes out line by line, in what letters there are."""
    if sys.stdout is None:  # it was closed before the start
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, as long as the process lives
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace", line_buffering=True)
    try:
        status = _dispatch(argv)
    except BaseException:
        with contextlib.suppress(OSError):
            _flush()
        raise
    _flush()
    return status


def _flush() -> None:
    try:
        sys.stdout.flush()
    except OSError:  # Python would try again at exit, and complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def _dispatch(argv: list[str]) -> int:
    from metastar import config
    from metastar.training import program_cache

    parser, names = _parsers()
    for word in argv:
        if not word.isascii() and word != word.encode(errors="replace").decode():
            raise UserError(f"argument {word!r} is not UTF-8; rename what it names")
        if "\0" in word:
            raise UserError(f"argument {word!r} has a NUL character, which no name has; drop it")
    if argv and not argv[0].startswith("-") and argv[0] not in names:
        raise UserError(f"unknown command {argv[0]!r}{did_you_mean(argv[0], names)}")
    args, overrides = parser.parse_known_args(argv)
    if args.command == "bench":
        program_cache.keep_none()
    else:
        program_cache.keep()
    args.typed = shlex.join(["metastar", *argv])
    if getattr(args, "config", None) is not None:
        args.source = args.config
        args.config = config.load(args.config, overrides)
    elif overrides:
        raise UserError(f"unknown argument {overrides[0]!r}; see metastar {args.command} --help")
    return args.run(args) or 0


def _parsers() -> tuple[argparse.ArgumentParser, list[str]]:
    """The parser of command lines, and the names of the commands."""
    from metastar.config.launch import OVERRIDES

    parser = _Parser(
        prog="metastar",
        description="Offline meta-reinforcement learning with world models.",
        epilog=f"Start with: metastar train --config={_EXAMPLE} --workdir=runs/first",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=metastar.__version__)
    parsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands = _commands()
    for name, command in commands.items():
        description = command.run.__doc__ or ""  # python -OO has none
        own = parsers.add_parser(
            name,
            help=description[:1].lower() + description[1:-1],
            description=description,
            epilog=OVERRIDES if command.config else None,
            allow_abbrev=False,
        )
        own.set_defaults(run=command.run)
        if command.config:
            own.add_argument(
                "--config",
                required=name != "bench",  # its plots need none
                metavar="PATH.py:FAMILY[,PRESET]",
                help=f"config file, family and preset, for instance {_EXAMPLE}",
            )
        if command.workdir:
            required = name != "train"  # a dry run writes nothing
            own.add_argument("--workdir", required=required, metavar="DIR", help=command.workdir)
        command.options(own)
    return parser, list(commands)


class _Command(NamedTuple):
    """A command: its help is the docstring of what runs it."""

    run: Callable  # parsed arguments -> exit status, or None for 0
    options: Callable = lambda command: None  # adds its own to a parser
    config: bool = False  # takes --config and overrides of its fields
    workdir: str = ""  # what --workdir is, if it takes one


def _commands() -> dict[str, _Command]:
    """All commands by name, in the order in which --help lists them."""
    from metastar.tools.bench import options as bench
    from metastar.tools.render import options as render
    from metastar.tools.sweep import options as sweep

    run, new = "folder of a run", "folder of the run: config, checkpoints, metrics, results, report"
    return {
        "doctor": _Command(_doctor),
        "collect": _Command(_collect, _collect_options, config=True),
        "config": _Command(_config, config=True),
        "train": _Command(_train, _train_options, config=True, workdir=new),
        "evaluate": _Command(_evaluate, _evaluate_options, workdir=run),
        "report": _Command(_report, workdir=run),
        "compare": _Command(_compare, _compare_options),
        "audit": _Command(_audit, _audit_options, workdir=run),
        "bench": _Command(_bench, bench.add, config=True),
        "sweep": _Command(_sweep, sweep.add),
        "data": _Command(_data, _data_options),
        "render": _Command(_render, render.add),
    }


def _doctor(args) -> int:
    """Print versions, devices and simulators, and how to fix what is missing."""
    from metastar.tools import doctor

    return doctor.main()


def _config(args) -> None:
    """Print every field of a config: value, range, the file that it belongs to, and meaning."""
    from metastar import config

    print(config.describe(args.config))


def _collect_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--tasks",
        metavar="FIRST-LAST",
        help="make these tasks only, a block: whole groups of collect.tasks_at_once tasks",
    )


def _collect(args) -> None:
    """Make the data set of a config, unless it is there, or merge the blocks of it that are."""
    from metastar.collection import collect

    if args.tasks is not None:
        print(f"block: {collect.block(args.config, args.tasks)}")
    else:
        print(f"data set: {collect.ensure(args.config)}")


def _train_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--dry-run",
        action="store_true",
        help="print parameters, memory, FLOPs per update and expected minutes; train nothing",
    )
    several = "of several that train one program (docs/scaling.md)"
    command.add_argument(
        "--coordinator",
        metavar="HOST:PORT",
        help=f"where process 0 listens, {several}; auto: as SLURM or MPI says",
    )
    command.add_argument(
        "--process", type=int, metavar="K", help=f"number of this process {several}"
    )
    command.add_argument("--processes", type=int, metavar="N", help="how many of them there are")


def _train(args) -> None:
    """Collect data, train, evaluate and write a report; the same command again resumes."""
    if not (args.workdir or args.dry_run):
        raise UserError(
            "train needs --workdir=DIR, the folder of the run; see metastar train --help"
        )
    if args.dry_run and args.coordinator:
        raise UserError("a dry run is made by one process; leave out --coordinator")
    from metastar import train
    from metastar.training import hosts

    with hosts.joined(args.coordinator, args.process, args.processes):
        train.train(args.config, args.workdir, dry_run=args.dry_run, command=args.typed)


def _evaluate_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--explore",
        metavar="NAME[,NAME]",
        default="",
        help="add a column each: zero-shot exploring by a strategy, for instance posterior or "
        "bank_swept (docs/methods.md, section 8)",
    )
    command.add_argument(
        "--protocols",
        metavar="NAME[,NAME]",
        default="",
        help="add these protocols to the config's, for instance swapped (docs/methods.md, section "
        "8)",
    )
    command.add_argument(
        "--oracle",
        metavar="RUN",
        help="an oracle's run to show as a bound, in place of the config's eval.oracle",
    )
    command.add_argument("--inference", metavar="CHOICE", help=_INFERENCE)


def _evaluate(args) -> None:
    """Evaluate a run's newest good checkpoint again."""
    from metastar import train
    from metastar.tools.report import report

    strategies, protocols = (
        [name for name in listed.split(",") if name] for listed in (args.explore, args.protocols)
    )
    train.evaluate_workdir(args.workdir, strategies, args.oracle, protocols, args.inference)
    print(report.summary(args.workdir))


def _report(args) -> None:
    """Write a run's report.md and figures again."""
    from metastar.tools.report import report

    report.write(args.workdir)
    print(report.summary(args.workdir))


def _compare_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "runs", metavar="RUN", nargs="+", help="folder of an evaluated run, or its results.json"
    )
    command.add_argument(
        "--out",
        metavar="DIR",
        default="compare",
        help="folder of compare.md and compare.png (default: compare)",
    )


def _compare(args) -> None:
    """Set runs side by side, with intervals over tasks and seeds."""
    from metastar.tools.report import compare

    print(compare.compare(args.runs, args.out))


def _audit_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--against", metavar="RUN", help="a second run on the same tasks, to compare codes with"
    )
    command.add_argument("--inference", metavar="CHOICE", help=_INFERENCE)


def _audit(args) -> None:
    """Measure whether task codes depend on the source of the context."""
    from metastar.tools.audit import audit

    print(audit.audit(args.workdir, args.against, inference=args.inference))


def _bench(args) -> None:
    """Time a part of a run on this device."""
    if args.part == "plot":
        from metastar.tools.bench import plots as bench_plots

        for file in bench_plots.write(args.out):
            print(file)
        return
    if not args.config:
        raise UserError("bench needs --config=PATH.py:FAMILY[,PRESET]; see metastar bench --help")
    from metastar import config
    from metastar.tools.bench import bench

    names = ("out", "sizes", "repeats", "max_steps", "profile", "clock")
    options = {name: getattr(args, name) for name in names}
    systems = {args.source: args.config} if args.against else {}
    systems |= {source: config.load(source, []) for source in args.against}
    print(bench.run(args.part, args.config, **options, command=args.typed, systems=systems))


def _sweep(args) -> None:
    """Run a grid of cells, each a metastar train of its own."""
    from metastar.tools.sweep import command

    print(command.run(args))


def _render(args) -> None:
    """Film a run's agent, recorded episodes or random actions."""
    from metastar.tools.render import render

    names = ("workdir", "family", "policy", "data", "source", "out")
    given = {name: getattr(args, name) for name in names}
    for file in render.render(**given, tasks=args.task, film=args.format):
        print(file)


def _data_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("action", choices=("inspect", "verify"))
    command.add_argument("path", metavar="PATH", help="folder that holds manifest.json")
    command.add_argument(
        "--out", metavar="DIR", help="where inspect writes the figure (default: PATH)"
    )


def _data(args) -> None:
    """Inspect a data set: its card and figure; or verify its hashes."""
    from metastar.tools.card import card

    if args.action == "inspect":
        print(card.inspect(args.path, args.out or args.path))
    else:
        print(card.verify(args.path))
