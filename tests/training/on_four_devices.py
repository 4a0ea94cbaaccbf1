"""Run by `test_placement` in a process of its own, with four devices: prints what it finds.

Its arguments are configs of methods that are compared beside the small one.
"""

import contextlib
import json
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path

import jax
import numpy as np

from fake_method import claimed, make_cfg, make_data, make_method
from metastar import config
from metastar.data import store
from metastar.errors import UserError
from metastar.training import chunk, placement, plan, runs
from metastar.training.flops import matmul_flops
from metastar.training.loop import fit
from metastar.training.runs import Run, stack, unstack

COLLECTIVE = re.compile(r"\b(all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)")


def small():
    """The method of `fake_method`, its data and its traced numbers."""
    return make_method(), make_data(num_tasks=4), {"scale": jax.numpy.ones(())}


def real(source):
    """The same of a method as its config has it, on a few random episodes."""
    cfg = config.load(source)
    data, manifest = plan.sample_data(cfg)
    method = runs.make_method(cfg, store.data_spec(manifest, data))
    return method, data, jax.tree.map(jax.numpy.asarray, method.hp)


def compiled(num, updates, made_of=None, **mesh):
    """States of `num` runs after so many updates; the program's collectives and product FLOP."""
    method, data, hp = made_of or small()
    place = placement.make({"run": 1, "task": 1} | mesh, num)
    keys = stack([jax.random.key(k) for k in range(num)])
    loop = placement.put(chunk.init(method, keys), place.state)
    keys, hp = placement.put((keys, stack([hp] * num)), place.state)
    data = placement.put(data, place.data)
    made = chunk.make_chunk(method.phases[0], 0, 8, 3, Counter(), num, place)
    traced = made.trace(loop, data, keys, hp, np.int32(0), np.int32(0))
    program = traced.lower().compile()
    loop, _ = program(loop, data, keys, hp, np.int32(0), np.int32(updates))
    collectives = len(COLLECTIVE.findall(program.as_text()))
    return unstack(loop, num), collectives, matmul_flops(traced.jaxpr.jaxpr)


def difference(a, b):
    """The largest between two lists of states, and whether they agree bitwise."""
    leaves = [[np.asarray(x, float) for x in jax.tree.leaves(tree)] for tree in (a, b)]
    far = [np.abs(x - y)[x != y].max(initial=0) for x, y in zip(*leaves, strict=True)]
    return float(max(far)), all(np.array_equal(x, y) for x, y in zip(*leaves))


def compare(num, updates, made_of=None, **mesh):
    one, _, flops = compiled(num, updates, made_of)
    spread, collectives, same = compiled(num, updates, made_of, **mesh)
    far, bitwise = difference(one, spread)
    found = {"far": far, "bitwise": bitwise, "collectives": collectives}
    return found | {"flops": same / flops}


class Killed(Exception):
    pass


def trained(path, mesh, killed=False):
    """Four runs of the fake method, from where an earlier call stopped; or killed on the way."""

    def look(state, step):
        if killed and step == 20:
            raise Killed
        return {}

    found = []
    for seed in range(4):
        cfg = make_cfg()
        cfg.seed = seed
        found.append(claimed(Run(cfg, path / str(seed))))
    place, hps = placement.make({"task": 1} | mesh, 4), [{"scale": 1.0}] * 4
    with contextlib.suppress(Killed):
        return fit(found, make_method(24, 0), make_data(), hps, look, place=place).loops


def refused(num, **mesh):
    try:
        compiled(num, 1, **mesh)
    except UserError as error:
        return str(error)


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        whole = trained(path / "a", {"run": 1})
        trained(path / "b", {"run": 2}, killed=True)
        moved = trained(path / "b", {"run": 1})
    found = {
        "devices": len(jax.devices()),
        "runs": compare(8, 7, run=4),
        "a run each": compare(4, 1, run=4),
        "tasks": compare(1, 1, task=2),
        "both": compare(4, 1, run=2, task=2),
        "moved": difference(whole, moved)[1],
        "real": [compare(8, 1, real(source), run=4) for source in sys.argv[1:]],
        "refused": [refused(6, run=4), refused(8, run=8), refused(1, task=4)],
    }
    print(json.dumps(found), file=sys.stderr)


if __name__ == "__main__":
    main()
