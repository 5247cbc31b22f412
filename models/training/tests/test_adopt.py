"""A new model is adopted as a whole: folder, digest in every example, golden files; a model that is adopted changes nothing."""
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "adopt.sh"
DIGESTED = ["config.json", "model.safetensors", "tokenizer.json"]
EXAMPLE = "models:\n  - name: other\n    sha256: {other}\n  - name: demo-asr\n    # a remark\n    sha256: {demo}\ndevice: auto\n"


def model(folder, weights):
    """A complete model folder; returns its digest."""
    (folder / "samples").mkdir(parents=True)
    for name in [*DIGESTED, "README.md", "samples/samples.json"]:
        (folder / name).write_text(weights if name == "model.safetensors" else name)
    sums = {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in [*DIGESTED, "README.md", "samples/samples.json"]}
    (folder / "SHA256SUMS").write_text("".join(f"{s}  {n}\n" for n, s in sums.items()))
    return hashlib.sha256("".join(f"{sums[n]}  {n}\n" for n in DIGESTED).encode()).hexdigest()


@pytest.fixture
def checkout(tmp_path):
    """A checkout with an adopted model, whose generator only writes down that it was called."""
    top = tmp_path / "checkout"
    digest = model(top / "models" / "demo-asr", "old")
    golden = top / "workers" / "torch" / "golden"
    for folder in (top / "models" / "training", top / "examples", golden / "demo-asr"):
        folder.mkdir(parents=True)
    shutil.copy(SCRIPT, top / "models" / "training")
    for name in ("quickstart.yaml", "quickstart-kubernetes.yaml"):
        (top / "examples" / name).write_text(EXAMPLE.format(other="0" * 64, demo=digest))
    (golden / "demo-asr" / "index.json").write_text(f'{{\n "digest": "sha256:{digest}"\n}}\n')
    (golden / "generate.py").write_text("import sys\nopen('called', 'w').write(' '.join(sys.argv[1:]))\n")
    return top


def adopt(checkout, *arguments):
    """Runs the script from somewhere else."""
    run = subprocess.run(["bash", checkout / "models" / "training" / "adopt.sh", *arguments], cwd=checkout.parent, text=True,
                         capture_output=True, env={**os.environ, "PYTHON": shutil.which("python3")})
    return run.returncode, run.stdout + run.stderr


def files(checkout):
    """Everything in it: path -> content."""
    return {f.relative_to(checkout): f.read_bytes() for f in checkout.rglob("*") if f.is_file()}


def test_a_new_model_is_adopted(checkout, tmp_path):
    digest = model(tmp_path / "trained", "new")
    status, said = adopt(checkout, "trained")
    assert status == 0 and digest[:12] in said, said
    assert (checkout / "models" / "demo-asr" / "model.safetensors").read_text() == "new"
    for f in (checkout / "examples").iterdir():
        assert f.read_text() == EXAMPLE.format(other="0" * 64, demo=digest)
    assert (checkout / "called").read_text() == "--only demo-asr"


def test_an_adopted_model_changes_nothing(checkout):
    before = files(checkout)
    assert adopt(checkout)[0] == 0 and adopt(checkout, str(checkout / "models" / "demo-asr"))[0] == 0
    assert files(checkout) == before


@pytest.mark.parametrize("broken, told", [("README.md", "lacks README.md"), ("tokenizer.json", "is not what its SHA256SUMS say")])
def test_half_a_model_is_refused_and_nothing_changes(checkout, tmp_path, broken, told):
    model(tmp_path / "trained", "new")
    (tmp_path / "trained" / broken).write_text("" if broken == "README.md" else "other")
    before = files(checkout)
    status, said = adopt(checkout, "trained")
    assert status == 1 and told in said, said
    assert files(checkout) == before


def test_an_example_without_its_line_is_told(checkout, tmp_path):
    digest = model(tmp_path / "trained", "new")
    (checkout / "examples" / "quickstart.yaml").write_text("models: []\n")
    status, said = adopt(checkout, "trained")
    assert status == 1 and "quickstart.yaml" in said and digest in said
