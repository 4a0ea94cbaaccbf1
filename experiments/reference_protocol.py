"""The reference's own protocol on Cheetah-Vel at its own sizes, for as long as one can wait.

    python experiments/reference_protocol.py --minutes 50

Trains preset `paper` of MetaSTAR for that many minutes and stops it at a checkpoint; the same
command again goes on from there, up to the reference's 200 000 updates. Then evaluates, copies the
`results.json`, with the curve during the training, to
`experiments/results/cheetah_vel_paper/metastar_<updates>_updates.json`, and writes its table to
`docs/results.md`.

What deviates from the reference, all of it named in `DEVIATIONS`: one learner that is told the
task makes the data in place of one for each task, a fifth of them; and the pretraining is a tenth.
Networks, observation, batch, losses, rates and their order are the reference's, up to what README
lists for every preset.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from metastar import files
from metastar.evaluation import results
from metastar.tools.report import tables

HERE = Path(__file__).parent
OUT = HERE / "results/cheetah_vel_paper"
PAGE = HERE.parent / "docs/results.md"
CONFIG = "--config=configs/metastar.py:cheetah_vel,paper"
PRETRAIN = 1000
DEVIATIONS = {
    # The learner of the preset "quick": those of the reference still stand after 5 000 updates.
    "collect.shared_learner": True,
    "collect.sac.hidden": "256,256",
    "collect.sac.lr": 1e-3,
    "collect.sac.alpha": 0.05,
    "collect.sac.tau": 0.01,
    "collect.updates_per_iteration": 400,
    "collect.random_episodes": 10,
    "collect.iterations": 30,
    "collect.episodes_per_iteration": 6,
    "train.pretrain_updates": PRETRAIN,
}
# How often to look and to save, and how much to average over; the reference draws one window.
HABITS = {
    "data.dir": "data/cheetah_vel_reference",
    "train.chunk": 25,
    "train.eval_every": 250,
    "train.checkpoint_every": 250,
    "eval.windows": 4,
    "eval.curve_windows": 1,
    "eval.zero_shot_streams": 2,
}
PUBLISHED = ((50_000, -43, -75), (200_000, -33, -58))  # joint updates, few-shot, zero-shot
STOPPED = 128 + 15  # what a run answers that was told to save and stop


def metastar(*words: str) -> list[str]:
    return [sys.executable, "-m", "metastar", *words]


def train(workdir: Path, minutes: float) -> None:
    """Makes the data, then trains for some minutes from wherever an earlier call stopped."""
    config = [CONFIG, *(f"--config.{k}={v}" for k, v in {**DEVIATIONS, **HABITS}.items())]
    subprocess.run(metastar("collect", *config), check=True)
    with subprocess.Popen(metastar("train", f"--workdir={workdir}", *config)) as run:
        try:
            status = run.wait(minutes * 60)
        except subprocess.TimeoutExpired:
            run.terminate()
            status = run.wait()
    if status not in (0, STOPPED):
        sys.exit(f"the training ended with status {status} and without a new checkpoint")
    subprocess.run(metastar("evaluate", f"--workdir={workdir}"), check=True)


def curve(workdir: Path) -> list[dict]:
    """Returns during the training, one context and one stream for each test task."""
    rows = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [
        {"updates": row["step"] - PRETRAIN}
        | {name: row[f"eval/{name}"] for name in ("few_shot", "zero_shot")}
        for row in rows
        if "eval/few_shot" in row and row["step"] >= PRETRAIN
    ]


def text(found: dict) -> str:
    """The table of one result file, from that file alone."""
    rows = [("joint updates", "few-shot", "zero-shot")]
    points = found["curve"]
    for point in points[:: max(1, len(points) // 8)]:
        rows.append(_row(point["updates"], point["few_shot"], point["zero_shot"]))
    ends = [results.translate(found)["protocols"][name] for name in ("few_shot", "zero_shot")]
    scores = [f"**{x['mean']:.1f}** ({x['ci95'][0]:.1f} to {x['ci95'][1]:.1f})" for x in ends]
    rows.append((f"**{found['updates'] - PRETRAIN}**, four windows, two streams", *scores))
    rows += [_row(f"*reference, {updates:,}*", *scores) for updates, *scores in PUBLISHED]
    bounds = found["bounds"]
    return (
        f"{tables.markdown(rows)}\n\nUniform actions {bounds['random']:.1f}, best stage of the "
        f"data {bounds['behavior_best']:.1f}. {PRETRAIN} pretraining updates and "
        f"{found['updates'] - PRETRAIN} joint ones in {found['wall_seconds'] / 60:.0f} minutes on "
        f"{found['device']}; {len(found['tasks']['ids'])} test tasks, 95 % intervals over tasks "
        "and windows.\n"
    )


def _row(updates, *scores: float) -> tuple[str, ...]:
    return (str(updates), *(f"{score:.1f}" for score in scores))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, required=True, help="of training, in this call")
    parser.add_argument("--workdir", type=Path, default=Path("runs/cheetah_vel_reference"))
    args = parser.parse_args()
    train(args.workdir, args.minutes)
    found = results.read(args.workdir) | {"deviations": DEVIATIONS, "curve": curve(args.workdir)}
    OUT.mkdir(parents=True, exist_ok=True)
    file = OUT / f"metastar_{found['updates']}_updates.json"
    files.write_json(file, found)
    tables.insert(PAGE, "cheetah_vel_paper", text(found))
    print(text(found))


if __name__ == "__main__":
    main()
