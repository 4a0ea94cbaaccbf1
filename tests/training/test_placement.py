"""Programs on several devices: four of the host's, in a process that has them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import make_config
from metastar import config
from metastar.errors import UserError
from metastar.main import main
from metastar.training import placement, runs

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def found():
    return on_four_devices("bc")


def on_four_devices(name):
    """What `on_four_devices.py` found, with a method's debug config beside the small method."""
    root = HERE.parents[1]
    paths = [str(root / "src"), str(HERE.parent)]
    env = os.environ | {"JAX_NUM_CPU_DEVICES": "4", "PYTHONPATH": os.pathsep.join(paths)}
    config_of = f"{root}/configs/{name}.py:point_robot_sparse,debug"
    words = [sys.executable, HERE / "on_four_devices.py", config_of]
    done = subprocess.run(words, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stderr.splitlines()[-1])


def test_two_runs_a_device_are_bitwise_those_of_one_device_without_a_collective(found):
    assert found["devices"] == 4
    assert found["runs"] == {"far": 0.0, "bitwise": True, "collectives": 0, "flops": 1.0}


def test_one_run_a_device_agrees_to_rounding(found):
    assert found["a run each"]["far"] <= 1e-5 and found["a run each"]["collectives"] == 0


def expect_rounding(real):
    assert real["far"] <= 1e-5 and real["collectives"] == 0 and real["flops"] == 1.0


def test_a_method_as_it_is_agrees_with_one_device_to_rounding(found):
    expect_rounding(*found["real"])


@pytest.mark.slow
def test_metastar_agrees_with_one_device_to_rounding():
    expect_rounding(*on_four_devices("metastar")["real"])


@pytest.mark.parametrize("mesh", ["tasks", "both"])
def test_tasks_on_several_devices_agree_to_rounding_and_gradients_are_added_up(found, mesh):
    assert 0 < found[mesh]["far"] <= 1e-5 or found[mesh]["bitwise"]
    assert found[mesh]["collectives"] > 0


def test_a_killed_program_goes_on_with_another_mesh_and_ends_bitwise(found):
    assert found["moved"]


def test_meshes_that_do_not_divide_or_exceed_are_refused(found):
    runs_of, devices, tasks = found["refused"]
    assert runs_of == "mesh.run is 4 and the program has 6 runs; it must divide them"
    assert devices.startswith("mesh.run x mesh.task asks for 8 devices and JAX sees 4; lower them")
    assert tasks.startswith("mesh.task is 4 and a batch has 2 tasks")


def test_too_many_devices_are_refused_before_anything_is_made(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    number = 2 * len(jax.devices())
    configs = HERE.parents[1] / "configs"
    words = [f"--config={configs}/bc.py:point_robot,debug", "--config.num_seeds=64"]
    assert main(["train", *words, "--workdir=w", f"--config.mesh.run={number}"]) == 2
    assert f"asks for {number} devices" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_mesh_is_no_part_of_what_a_run_is(tmp_path):
    one, other = (make_config.base(mesh__run=k, num_seeds=4) for k in (1, 2))
    assert config.to_dict(one) == config.to_dict(other)
    for cfg in (one, other):
        with runs.opened(cfg, tmp_path / "w"):
            pass
    assert placement.make(one.mesh, 4) is placement.ONE
    with pytest.raises(UserError, match=r"mesh\.run is 0 but must lie in"):
        config.validate(make_config.base(mesh__run=0))
