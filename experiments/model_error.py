"""What a world model predicts of a robot: open-loop errors on withheld tasks, change by change.

    python experiments/model_error.py --argument=cheetah_vel,quick --cell=all --updates=6000
    python experiments/model_error.py --argument=cheetah_vel,quick --cell=mlp --updates=6000
    python experiments/model_error.py --argument=cheetah_vel,quick

The first trains the world model of one of `CELLS`, by the pretraining phase alone, and measures it;
the second the plain MLP that the table has beside it, on as many transitions. The third writes the
table of all result files in `experiments/results/model_error_<argument>/` to `docs/log.md`. Six
training tasks are withheld and take the place of the test tasks. Call it from the root of the
checkout; the data set must be there.
"""

import argparse
import json
import shlex
import time
from functools import partial
from pathlib import Path

import cells
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import FrozenConfigDict
from open_loop import REAL, WINDOWS, mean_of, measure_codes, measure_model, windows
from sweeps.pays import ALL, CHANGES

from metastar import config, files
from metastar.collection import collect
from metastar.data import store
from metastar.data.normalize import view_whitener
from metastar.data.sampler import sample_transitions
from metastar.models.nets.mlp import MLP
from metastar.ops.optim import gradient_step, make_optimizer
from metastar.ops.task_parameters import join_parameters
from metastar.tools.report import tables
from metastar.training import provenance, runs, workdir
from metastar.training.loop import fit
from metastar.training.schedule import decayed
from metastar.types import DataSpec

PAGE = cells.DOCS / "log.md"
WITHHELD = 6
SHOWN = (1, 4, 8)  # imagined steps that the table shows
PLAIN, HIDDEN, PLAIN_LR = "mlp", (128, 128), 1e-3
TOLD = "mlp_told"  # the same MLP with the parameters of the task among its inputs
NARROW = {"world_model.code_dim": 3}  # codes as those of the dense point robot
CONDITIONED = {"world_model.condition": "concat"}
# Where rewards have an edge: squared errors, of about the same weight, since there a likelihood
# trusts them less and learns them less; and the rate of Point-Robot's models.
SQUARED = {"world_model.variance_power": 1.0, "world_model.recon_weight": 120.0}
FAST = {"world_model.pretrain_lr": 3e-3}
CELLS = {  # fields by name
    "default": {},
    **CHANGES,
    "all": ALL,
    "narrow": {**ALL, **NARROW},
    "conditioned": {**ALL, **CONDITIONED},
    "conditioned_narrow": {**ALL, **CONDITIONED, **NARROW},
    "squared": SQUARED,
    "fast": FAST,
    **{f"code_of_{num}": {"world_model.code_dim": num} for num in (4, 5, 16)},
    **{
        f"all_but_{name}": {path: x for path, x in ALL.items() if path not in fields}
        for name, fields in CHANGES.items()
    },
}


COLUMNS = (
    "cell",
    "seeds",
    "updates",
    "rows",
    "CPU s",
    "observations",
    "one draw",
    "reward",
    "decoded",
    "next",
    "deviation",
    "nats",
    "ratio",
    "task R²",
    "source",
)


def label_of(argument: str) -> str:
    return f"model_error_{data_of(argument)}"


def data_of(argument: str) -> str:
    """The name of a recipe's data set."""
    family, _, preset = argument.partition(",")
    return f"{family}_{preset or 'default'}"


def make_config(args: argparse.Namespace) -> FrozenConfigDict:
    """The config of a cell, without updates of an agent."""
    recipes = Path(__file__).parents[1] / "configs/metastar.py"
    fields = {
        "data.validation_tasks": WITHHELD,
        "data.dir": f"data/{data_of(args.argument)}",
        "train.pretrain_updates": args.updates,
        "train.updates": 0,
        "sampler.pretrain_batch": args.batch,
        "num_seeds": args.seeds,
    }
    cfg = config.load_preset(f"{recipes}:{args.argument}")
    return FrozenConfigDict(config.change(cfg, {**fields, **CELLS.get(args.cell, {})}))


def train_model(args: argparse.Namespace) -> dict:
    """Trains the seeds of a cell in one program and measures each."""
    cfg = make_config(args)
    data_set = collect.data_set(cfg)
    tasks = store.tasks_of(data_set, cfg)
    spec = store.data_spec(tasks.manifest, tasks.train)
    method = runs.make_method(cfg, spec)
    method = method._replace(phases=method.phases[:1])
    began = time.process_time()
    with runs.opened(cfg, f"runs/{label_of(args.argument)}/{name_of(args)}") as (_, found):
        for run in found:
            workdir.write_spec(run.workdir, spec)
        loops = fit(found, method, tasks.train, [method.hp] * len(found)).loops
    seconds = time.process_time() - began
    test, seeds = store.load(data_set, "test", cfg), []
    for loop in loops:
        params = method.export(loop.state)
        errors = measure_model(cfg, params["world_model"], spec, test)
        seeds.append({"errors": errors, "codes": measure_codes(cfg, method, params, data_set)})
    return {"rows": rows_of(cfg, spec), "cpu_seconds": seconds, "seeds": seeds}


def train_mlp(args: argparse.Namespace) -> dict:
    """Trains (s, a) -> (change of s, reward) on as many transitions and measures it.

    The cell `TOLD` sees the parameters of the task too: no code can tell its rewards more.
    """
    cfg = make_config(args)
    data_set = collect.data_set(cfg)
    tasks = store.tasks_of(data_set, cfg)
    spec = store.data_spec(tasks.manifest, tasks.train)
    whiten_view = view_whitener(cfg.sampler.normalize_obs, spec)
    net, optimizer = MLP(HIDDEN, spec.obs_dim + 1), make_optimizer()
    each, unit = (
        2 * cfg.world_model.context_len,
        jnp.array([1.0] * spec.obs_dim + [spec.reward_std]),
    )

    def told(data):
        """[N, P], without columns where it is not told."""
        return join_parameters(data.task)[:, : None if args.cell == TOLD else 0]

    def predict(params, obs, action, task):
        out = net.apply({"params": params}, jnp.concatenate([obs, action, task], -1)) * unit
        return out + jnp.concatenate([obs, jnp.zeros_like(obs[..., :1])], -1)

    def loss(params, rows, task):
        truth = jnp.concatenate([rows.next_obs, rows.reward[..., None]], -1)
        task = jnp.repeat(task[:, None], each, axis=1)
        return jnp.mean(((predict(params, rows.obs, rows.action, task) - truth) / unit) ** 2), {}

    @jax.jit
    def train(params, data):
        def update(state, i):
            key_task, key = jax.random.split(jax.random.fold_in(jax.random.key(1), i))
            num = rows_of(cfg, spec) // each
            task_id = jax.random.choice(key_task, spec.num_tasks, (num,), replace=False)
            rows = whiten_view(sample_transitions(data, task_id, key, each))
            lr = decayed({"lr": PLAIN_LR}, {"lr": True}, "cosine", i, args.updates)["lr"]
            return gradient_step(loss, optimizer)(*state, lr, rows, told(data)[task_id])[:2], None

        first = params, optimizer.init(params)
        return jax.lax.scan(update, first, jnp.arange(args.updates))[0][0]

    inputs = spec.obs_dim + spec.action_dim + told(tasks.train).shape[-1]
    started = net.init(jax.random.key(0), jnp.zeros((1, inputs)))
    began = time.process_time()
    params = jax.block_until_ready(train(started["params"], tasks.train))
    seconds = time.process_time() - began
    test = store.load(data_set, "test", cfg)
    view, whole = windows(test, whiten_view)
    task = jnp.repeat(told(test), WINDOWS, axis=0)
    truth = jnp.concatenate([view.next_obs, view.reward[..., None]], -1)[:, REAL:]

    def step(obs, action):
        predicted = predict(params, obs, action, task)
        return predicted[..., :-1], predicted

    actions = view.action[:, REAL:].swapaxes(0, 1)
    path = jax.lax.scan(step, view.obs[:, REAL], actions)[1].swapaxes(0, 1)
    constant = truth.at[..., -1].add(-truth[whole][..., -1].mean())
    found = {"predicted": path - truth, "constant": constant}
    errors = jax.tree.map(partial(mean_of, whole, spec.reward_std), found)
    errors = jax.tree.map(np.ndarray.tolist, jax.device_get(errors))
    return {"rows": rows_of(cfg, spec), "cpu_seconds": seconds, "seeds": [{"errors": errors}]}


def rows_of(cfg: FrozenConfigDict, spec: DataSpec) -> int:
    """Transitions of an update."""
    tasks = cfg.sampler.pretrain_batch or spec.num_tasks
    return tasks * cfg.sampler.windows * cfg.world_model.context_len


def name_of(args: argparse.Namespace) -> str:
    return f"{args.cell}_{args.updates}" + f"_{args.batch}" * bool(args.batch)


def table(folder: Path) -> str:
    """One line for each result file, from the files alone; means over seeds."""
    remedy = "make it again"
    found = [(file.stem, files.read_json(file, remedy)) for file in sorted(folder.glob("*.json"))]
    for _, report in list(found):
        errors = report["seeds"][0]["errors"]
        if "constant" in errors:
            alone = [{"errors": {"predicted": errors["constant"]}}]
            found.insert(
                0, ("constant", {"updates": 0, "rows": 0, "cpu_seconds": 0, "seeds": alone})
            )
            break  # it is the same for all
    return tables.markdown([COLUMNS, *(row(name, report) for name, report in found)]) + "\n"


def row(name: str, report: dict) -> tuple[str, ...]:
    seeds = report["seeds"]
    errors = {kind: [seed["errors"][kind] for seed in seeds] for kind in seeds[0]["errors"]}

    def shown(kind: str, part: str = "obs") -> str:
        if kind not in errors:
            return "–"
        mean = np.mean([one[part] for one in errors[kind]], 0)
        return " / ".join(f"{mean[h - 1]:.2f}" for h in SHOWN)

    def mean(kind: str, form: str = "{:.2f}") -> str:
        if kind not in errors:
            return "–"
        return form.format(np.mean([one["obs"] if kind != "nats" else one for one in errors[kind]]))

    def code(kind: str, form: str) -> str:
        if "codes" not in seeds[0]:
            return "–"
        return form.format(np.mean([seed["codes"][kind] for seed in seeds]))

    return (
        name,
        str(len(seeds)),
        str(report["updates"]),
        str(report["rows"]),
        f"{report['cpu_seconds']:.0f}",
        shown("predicted"),
        shown("drawn"),
        shown("predicted", "reward"),
        mean("decoded"),
        mean("next"),
        mean("deviation"),
        mean("nats", "{:.0f}"),
        code("ratio", "{:.4f}"),
        code("task_r2", "{:.3f}"),
        code("source", "{:.0%}"),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--argument", required=True, metavar="FAMILY[,PRESET]")
    parser.add_argument("--cell", default="", choices=("", PLAIN, TOLD, *CELLS))
    parser.add_argument("--updates", type=int, default=6_000)
    parser.add_argument("--batch", type=int, default=0, help="tasks of an update; 0: all")
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    folder = cells.RESULTS / label_of(args.argument)
    if not args.cell:
        content = table(folder)
        tables.insert(PAGE, label_of(args.argument), content)
        print(content)
        return
    found = train_mlp(args) if args.cell in (PLAIN, TOLD) else train_model(args)
    words = [f"--{name}={value}" for name, value in vars(args).items()]
    report = {
        "command": shlex.join(["python", "experiments/model_error.py", *words]),
        "commit": provenance.commit(),
        "versions": provenance.versions(),
        "fields": CELLS.get(args.cell, {}),
        "updates": args.updates,
        **found,
    }
    folder.mkdir(exist_ok=True)
    files.write_json(folder / f"{name_of(args)}.json", report)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
