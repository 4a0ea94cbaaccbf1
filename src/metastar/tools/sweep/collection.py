"""The blocks of the data sets that a sweep lacks, as cells ahead of those that train on them.

A data set whose config cuts it into groups of `collect.tasks_at_once` tasks is made by one cell a
group, `metastar collect --tasks=FIRST-LAST`, and merged by the first training that needs it. Any
other, so that of a shared learner, is made by that training, in one process.
"""

import re
from pathlib import Path

from metastar.collection import blocks, collect
from metastar.data import store
from metastar.tools.sweep import cell as cell_files
from metastar.tools.sweep import grid
from metastar.tools.sweep.grid import Cell, Sweep


def with_blocks(cells: list[Cell], sweep: Sweep) -> list[Cell]:
    """Puts ahead of the cells of a sweep the blocks that these lack and then wait for.

    None are lacking of a data set that is there, or on which only finished cells were trained. A
    block has the config of the first cell that needs it; the merge refuses it for another one.

    Raises:
        UserError: a family draws no such tasks; what is among the blocks of a data set is none, or
            two of them share tasks; two cells would have one name; a result file is refused.
    """
    made: dict[Path, list[Cell]] = {}
    for cell in cells:
        data = collect.directory_of(cell.cfg)
        cut = cell.cfg.collect.tasks_at_once and not (data / store.MANIFEST).exists()
        if cut and data not in made and not cell_files.is_done(cell, sweep):
            made[data] = [_block(cell, data, ids) for ids in _lacking(cell, data)]
    ahead = [block for own in made.values() for block in own]
    needs = {data: tuple(block.name for block in own) for data, own in made.items()}
    after = [
        cell._replace(needs=cell.needs + needs.get(collect.directory_of(cell.cfg), ()))
        for cell in cells
    ]
    grid.expect_own_names([*ahead, *after], sweep)
    return [*ahead, *after]


def _lacking(cell: Cell, data: Path) -> list[range]:
    """The groups of tasks that no block holds."""
    _, split = collect.draw_tasks(cell.cfg)
    num_tasks = sum(map(len, split.values()))
    made = blocks.found(data).values()
    groups = blocks.groups(num_tasks, cell.cfg.collect.tasks_at_once)
    return [ids for ids in groups if not any(set(ids) <= set(other) for other in made)]


def _block(cell: Cell, data: Path, ids: range) -> Cell:
    tasks = blocks.name_of(ids)
    name = f"{re.sub(r'[^A-Za-z0-9.+-]+', '_', str(data)).strip('_')}_{tasks}"
    own = [word for word in cell.argv[1:] if not word.startswith("--workdir=")]
    argv = ("collect", *own, f"--tasks={tasks}")
    folder = blocks.folder_of(data) / tasks
    return Cell(name, name, "", argv, cell.cfg, folder, then=(), is_block=True)
