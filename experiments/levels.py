"""How far the learners of a robot's data set came: the table of `docs/families.md`.

    time metastar collect --config=configs/metastar.py:hopper_friction,quick
    python experiments/levels.py data/hopper_friction_quick --seconds=641
    python experiments/levels.py  # the table alone

The second writes `experiments/results/levels/<family>.json`. `--seconds` is what `time` said, on
`--cores` cores, which may have had other work.
"""

import argparse

import cells
import numpy as np

from metastar import files
from metastar.data import store
from metastar.tools.card.summary import Summary, summarize
from metastar.tools.report import tables
from metastar.training import provenance

OUT = cells.RESULTS / "levels"
LABEL = "levels"
PAGE = cells.DOCS / "families.md"
PARTS = 5  # of a learner's episodes, in the order in which they were played
LEARNERS = ("sac", "td3")


def measure(path: str, seconds: float, cores: int) -> dict:
    """What one data set holds, means over all of its tasks."""
    _, manifest, fields = store.verify(path)
    summary = summarize(fields, manifest.policies, manifest.stages, window=1)
    return {
        "command": f"python experiments/levels.py {path} --seconds={seconds:g} --cores={cores}",
        "commit": provenance.commit(),
        "made_with": manifest.versions,
        "collect": manifest.config["collect"],
        "family": manifest.family,
        "tasks": len(fields["episodes"]),
        "transitions": len(fields["reward"]),
        "seconds": seconds,
        "cores": cores,
        "obs_sha256": manifest.files["obs"]["sha256"],
        "returns": {
            policy: by_part(played(summary, number), PARTS if policy in LEARNERS else 1)
            for number, policy in enumerate(manifest.policies)
        },
        "stages": {
            source.name: float(summary.returns[summary.source == k].mean())
            for k, source in enumerate(summary.sources)
        },
    }


def played(summary: Summary, policy: int) -> np.ndarray:
    """Mean return over tasks of a policy's episodes, in the order in which it played them: [E]."""
    of = np.array([source.policy for source in summary.sources] + [-1])[summary.source]
    here = [returns[row == policy] for row, returns in zip(of, summary.returns)]
    shortest = min(map(len, here))
    return np.mean([returns[:shortest] for returns in here], axis=0)


def by_part(returns: np.ndarray, parts: int) -> list[float]:
    """Means over equal parts of the episodes."""
    return [float(part.mean()) for part in np.array_split(returns, parts)]


def table() -> str:
    """The table, from the result files alone."""
    rows = [
        (
            *("family", "transitions", "minutes", "cores", "uniform actions"),
            *("SAC, by fifth of its episodes", "TD3", "better halves"),
        )
    ]
    for file in sorted(OUT.glob("*.json")):
        found = files.read_json(file, "make it again")
        curves = (
            ", ".join(f"{mean:z.0f}" for mean in found["returns"].get(learner, ())) or "–"
            for learner in LEARNERS
        )
        halves = (found["stages"].get(f"{learner} expert") for learner in LEARNERS)
        rows.append(
            (
                f"`{found['family']}`",
                f"{found['transitions']:,}".replace(",", " "),
                f"{found['seconds'] / 60:.0f}",
                str(found["cores"]),
                f"{found['returns']['random'][0]:z.0f}",
                *curves,
                ", ".join("–" if mean is None else f"{mean:z.0f}" for mean in halves),
            )
        )
    return tables.markdown(rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", help="folder of a data set")
    parser.add_argument("--seconds", type=float, help="that its collection took")
    parser.add_argument("--cores", type=int, default=1, help="that it might use")
    args = parser.parse_args()
    if args.data:
        if args.seconds is None:
            parser.error("--seconds is missing: what the collection took")
        found = measure(args.data, args.seconds, args.cores)
        OUT.mkdir(parents=True, exist_ok=True)
        files.write_json(OUT / f"{found['family']}.json", found)
    tables.insert(PAGE, LABEL, table())
    print(table())


if __name__ == "__main__":
    main()
