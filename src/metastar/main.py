"""The command line; nothing else. JAX is imported only once a command has been parsed."""

import argparse
import contextlib
import io
import os
import shlex
import sys
from collections.abc import Sequence
from typing import NoReturn

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

    parser, commands = _parsers()
    for word in argv:
        if not word.isascii() and word != word.encode(errors="replace").decode():
            raise UserError(f"argument {word!r} is not UTF-8; rename what it names")
        if "\0" in word:
            raise UserError(f"argument {word!r} has a NUL character, which no name has; drop it")
    if argv and not argv[0].startswith("-") and argv[0] not in commands:
        raise UserError(f"unknown command {argv[0]!r}{did_you_mean(argv[0], commands)}")
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
    from metastar.config.launch import OVERRIDES
    from metastar.tools.bench import options as bench_options
    from metastar.tools.render import options as render_options
    from metastar.tools.sweep import options as sweep_options

    parser = _Parser(
        prog="metastar",
        description="Offline meta-reinforcement learning with world models.",
        epilog=f"Start with: metastar train --config={_EXAMPLE} --workdir=runs/first",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=metastar.__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name, run, text, *, config=False, workdir=None):
        command = commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=OVERRIDES if config else None,
            allow_abbrev=False,
        )
        command.set_defaults(run=run)
        if config:
            command.add_argument(
                "--config",
                required=name != "bench",  # its plots need none
                metavar="PATH.py:FAMILY[,PRESET]",
                help=f"config file, family and preset, for instance {_EXAMPLE}",
            )
        if workdir:
            required = name != "train"  # a dry run writes nothing
            command.add_argument("--workdir", required=required, metavar="DIR", help=workdir)
        return command

    add("doctor", _doctor, "print versions, devices and simulators, and how to fix what is missing")
    collect = add(
        "collect",
        _collect,
        "make the data set of a config, unless it is there, or merge the blocks of it that are",
        config=True,
    )
    collect.add_argument(
        "--tasks",
        metavar="FIRST-LAST",
        help="make these tasks only, a block: whole groups of collect.tasks_at_once tasks",
    )
    add(
        "config",
        _config,
        "print every field of a config: value, range, the file that it belongs to, and meaning",
        config=True,
    )
    train = add(
        "train",
        _train,
        "collect data, train, evaluate and write a report; the same command again resumes",
        config=True,
        workdir="folder of the run: config, checkpoints, metrics, results, report",
    )
    train.add_argument(
        "--dry-run",
        action="store_true",
        help="print parameters, memory, FLOPs per update and expected minutes; train nothing",
    )
    several = "of several that train one program (docs/scaling.md)"
    train.add_argument(
        "--coordinator",
        metavar="HOST:PORT",
        help=f"where process 0 listens, {several}; auto: as SLURM or MPI says",
    )
    train.add_argument("--process", type=int, metavar="K", help=f"number of this process {several}")
    train.add_argument("--processes", type=int, metavar="N", help="how many of them there are")
    workdir = "folder of a run"
    evaluate = add(
        "evaluate", _evaluate, "evaluate a run's newest good checkpoint again", workdir=workdir
    )
    evaluate.add_argument(
        "--explore",
        metavar="NAME[,NAME]",
        default="",
        help="add a column each: zero-shot exploring by a strategy, for instance posterior or "
        "bank_swept (docs/methods.md, section 8)",
    )
    evaluate.add_argument(
        "--protocols",
        metavar="NAME[,NAME]",
        default="",
        help="add these protocols to the config's, for instance swapped (docs/methods.md, section "
        "8)",
    )
    evaluate.add_argument(
        "--oracle",
        metavar="RUN",
        help="an oracle's run to show as a bound, in place of the config's eval.oracle",
    )
    evaluate.add_argument("--inference", metavar="CHOICE", help=_INFERENCE)
    add("report", _report, "write a run's report.md and figures again", workdir=workdir)
    compare = add("compare", _compare, "set runs side by side, with intervals over tasks and seeds")
    compare.add_argument(
        "runs", metavar="RUN", nargs="+", help="folder of an evaluated run, or its results.json"
    )
    compare.add_argument(
        "--out",
        metavar="DIR",
        default="compare",
        help="folder of compare.md and compare.png (default: compare)",
    )
    audit = add(
        "audit",
        _audit,
        "measure whether task codes depend on the source of the context",
        workdir=workdir,
    )
    audit.add_argument(
        "--against", metavar="RUN", help="a second run on the same tasks, to compare codes with"
    )
    audit.add_argument("--inference", metavar="CHOICE", help=_INFERENCE)
    bench = add("bench", _bench, "time a part of a run on this device", config=True)
    bench_options.add(bench)
    sweep = add("sweep", _sweep, "run a grid of cells, each a metastar train of its own")
    sweep_options.add(sweep)
    data = add("data", _data, "inspect a data set: its card and figure; or verify its hashes")
    data.add_argument("action", choices=("inspect", "verify"))
    data.add_argument("path", metavar="PATH", help="folder that holds manifest.json")
    data.add_argument(
        "--out", metavar="DIR", help="where inspect writes the figure (default: PATH)"
    )
    render = add("render", _render, "film a run's agent, recorded episodes or random actions")
    render_options.add(render)
    return parser, list(commands.choices)


def _doctor(args) -> int:
    from metastar.tools import doctor

    return doctor.main()


def _config(args) -> None:
    from metastar import config

    print(config.describe(args.config))


def _collect(args) -> None:
    from metastar.collection import collect

    if args.tasks is not None:
        print(f"block: {collect.block(args.config, args.tasks)}")
    else:
        print(f"data set: {collect.ensure(args.config)}")


def _train(args) -> None:
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


def _evaluate(args) -> None:
    from metastar import train
    from metastar.tools.report import report

    strategies, protocols = (
        [name for name in listed.split(",") if name] for listed in (args.explore, args.protocols)
    )
    train.evaluate_workdir(args.workdir, strategies, args.oracle, protocols, args.inference)
    print(report.summary(args.workdir))


def _report(args) -> None:
    from metastar.tools.report import report

    report.write(args.workdir)
    print(report.summary(args.workdir))


def _compare(args) -> None:
    from metastar.tools.report import compare

    print(compare.compare(args.runs, args.out))


def _audit(args) -> None:
    from metastar.tools.audit import audit

    print(audit.audit(args.workdir, args.against, inference=args.inference))


def _bench(args) -> None:
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
    from metastar.tools.sweep import command

    print(command.run(args))


def _render(args) -> None:
    from metastar.tools.render import render

    names = ("workdir", "family", "policy", "data", "source", "out")
    given = {name: getattr(args, name) for name in names}
    for file in render.render(**given, tasks=args.task, film=args.format):
        print(file)


def _data(args) -> None:
    from metastar.tools.card import card

    if args.action == "inspect":
        print(card.inspect(args.path, args.out or args.path))
    else:
        print(card.verify(args.path))
