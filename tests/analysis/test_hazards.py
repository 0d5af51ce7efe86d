"""What a batch job dies of is named, with the line that says so."""

import pytest

from caravan.analysis.hazards import HazardKind, module_hazards
from caravan.analysis.python import read_module
from tests.analysis.repositories import profile_of, script


def kinds(code: str) -> set[HazardKind]:
    return {kind for kind, _, _ in module_hazards(read_module("t.py", code))}


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("input('go? ')", HazardKind.INTERACTIVE),
        ("import pdb\npdb.set_trace()", HazardKind.INTERACTIVE),
        ("import click\nclick.confirm('sure?')", HazardKind.INTERACTIVE),
        ("uvicorn.run(app)", HazardKind.NEVER_ENDS),
        ("while True:\n    step()", HazardKind.NEVER_ENDS),
        ("from huggingface_hub import login\nlogin()", HazardKind.LOGIN),
        ("wandb.login()", HazardKind.LOGIN),
        ("wandb.init(project='x')", HazardKind.TRACKER_ACCOUNT),
        ("plt.show()", HazardKind.VIEWER),
        ("cv2.imshow('a', b)", HazardKind.VIEWER),
        ("mp.spawn(main, nprocs=2)", HazardKind.SPAWNS),
        ("subprocess.run(['torchrun', 'x.py'])", HazardKind.SPAWNS),
        ("os.system('sbatch job.sh')", HazardKind.SCHEDULER),
        ("ex = submitit.AutoExecutor('x')", HazardKind.SCHEDULER),
        ("ray.init(address='auto')", HazardKind.SCHEDULER),
        ("model.push_to_hub('a/b')", HazardKind.HUB_PUSH),
        ("open('log.txt', 'w')", HazardKind.WRITES),
        ("torch.save(m, '/data/m.pt')", HazardKind.WRITES),
        ("load_dataset('a/b')", HazardKind.DOWNLOADS),
        ("MNIST('x', download=True)", HazardKind.DOWNLOADS),
        ("p = '/home/me/data'", HazardKind.ABSOLUTE_PATH),
    ],
)
def test_each_kind_has_its_line(code, kind):
    found = [(k, where) for k, _, where in module_hazards(read_module("t.py", code)) if k is kind]
    assert found
    assert all(where.file == "t.py" and where.line >= 1 for _, where in found)


@pytest.mark.parametrize(
    "code",
    [
        "while True:\n    if done:\n        break",
        "def batches():\n    while True:\n        yield 1",
        "while True:\n    try:\n        step()\n    except StopIteration:\n        raise",
        "for b in tqdm(batches):\n    step(b)",
        "open('data.txt')\nopen(path, 'w')",
        "app.run(main)",
    ],
)
def test_what_ends_reads_or_follows_its_options_is_none(code):
    assert kinds(code) == set()


def test_hazards_of_the_command_and_its_script(tmp_path):
    files = {
        "train.py": script(""),
        "go.sh": "sudo sysctl x\nwhile true; do\n  python train.py\ndone\n",
        "README.md": "Train\n```\nhuggingface-cli login\nbash go.sh\n```\n"
        "The training code of the big one will be released.\n",
    }
    found = {h.kind: h for h in profile_of(tmp_path, files, "Train it").hazards}
    assert {"never-ends", "needs-root", "login", "trains-elsewhere", "saves-nothing"} <= found.keys()
    assert [(e.file, e.line) for e in found["needs-root"].evidence] == [("go.sh", 1)]
    assert list(found) == [k.value for k in HazardKind if k.value in found]


def test_a_model_that_is_written_as_text_or_bytes_is_saved(tmp_path):
    for call in ("write_text('[1]')", "write_bytes(b'1')"):
        files = {"train.py": script("", main=f"    path.{call}\n")}
        files["train.py"] = files["train.py"].replace("optimizer.step()", f"optimizer.step()\n        path.{call}")
        assert "saves-nothing" not in {h.kind for h in profile_of(tmp_path, files, "Train it").hazards}


def test_what_saves_is_not_accused(tmp_path):
    files = {"train.py": script("", main="    torch.save(1, path)\n")}
    files["train.py"] = files["train.py"].replace(
        "optimizer.step()", "optimizer.step()\n        torch.save(model, path)"
    )
    assert "saves-nothing" not in {h.kind for h in profile_of(tmp_path, files, "Train it").hazards}
