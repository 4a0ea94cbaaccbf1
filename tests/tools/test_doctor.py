"""Doctor names what is missing with a fix, and fails only for what is required."""

import types

import pytest

from metastar.tools import doctor
from metastar.tools.doctor import Finding


def test_packages_are_compared_with_what_is_declared(monkeypatch):
    installed = {"alpha": "1.4", "beta": "0.9"}

    def version(name):
        if name not in installed:
            raise doctor.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(doctor.metadata, "version", version)
    alpha, beta, gamma, ruff = doctor.packages(
        [
            "alpha>=1,<2",
            "beta>=1",
            "gamma>=1",
            'ruff>=0.8; extra == "dev"',
            'jax[cuda12]>=1; extra == "cuda"',
        ]
    )
    assert alpha == Finding("package", "alpha 1.4", "", True)
    assert beta.required and "needs beta>=1" in beta.fix
    assert gamma.required and "make env" in gamma.fix
    assert not ruff.required and ruff.fix == "`pip install 'ruff>=0.8'`"


@pytest.mark.parametrize("required, status", [(True, 1), (False, 0)])
def test_only_a_required_part_fails(monkeypatch, capsys, required, status):
    findings = [Finding("python", "3"), Finding("renderer", "egl", "install it", required)]
    monkeypatch.setattr(doctor, "examine", lambda: iter(findings))
    assert doctor.main() == status
    out = capsys.readouterr().out
    assert "fix: install it" in out and ("required is missing" in out) == required


def test_a_jax_that_does_not_start_is_reported(monkeypatch):
    def devices():
        raise RuntimeError("no backend\nmore")

    monkeypatch.setattr(
        doctor.importlib, "import_module", lambda name: types.SimpleNamespace(devices=devices)
    )
    (finding,) = doctor.devices()
    assert finding.required and finding.fix and "RuntimeError: no backend" in finding.text
    assert "\n" not in finding.text


def test_an_idle_gpu_is_reported(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "found")
    *_, finding = doctor.devices()
    assert "[cuda]" in finding.fix and not finding.required


def test_simulators_of_this_environment_work():
    findings = list(doctor.simulators())
    assert len(findings) == len(doctor.MODELS) + 2
    assert not [f for f in findings if f.fix]


def test_a_renderer_that_hangs_or_fails_is_optional(monkeypatch):
    monkeypatch.setattr(doctor, "RENDERERS", {"no_such_back_end": "install one"})
    (failed,) = doctor.renderers()
    assert failed.fix == "install one" and not failed.required
    (hanging,) = doctor.renderers(timeout=0.01)
    assert "hangs" in hanging.text
