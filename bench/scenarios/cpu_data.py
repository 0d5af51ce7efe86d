"""Data, checkpoints and outputs that are not there, not readable, or not where they are looked for."""

from bench.scenario import Expected, Scenario
from bench.scenarios.machines import inventory, node
from bench.scenarios.trainers import POINTS, REVIEWS, line, reviews, rings
from caravan.values.failure import FailureClass

PATH, FORMAT = FailureClass.DATA_PATH_MISSING, FailureClass.DATASET_FORMAT_ERROR
CHECKPOINT, OUTPUTS = FailureClass.CHECKPOINT_UNUSABLE, FailureClass.OUTPUTS_MISSING

COLUMN = """
table = [row for row in csv.DictReader(open(args.data, newline=""))]
if args.target_column not in table[0]:
    raise ValueError(
        f"--target-column value '{args.target_column}' not found in the dataset. Set it to one of: "
        + ", ".join(table[0])
    )
"""
RESUME = """
if args.resume_from:
    with open(args.resume_from, "rb") as file:
        state = pickle.load(file)
    print("continued at epoch", state["epoch"], flush=True)
"""
NOTES = """
with open("logs/curve.csv", "a") as notes:
    notes.write(f"{epoch},{train_loss}\\n")
"""


def without(files: dict[str, str], name: str) -> dict[str, str]:
    return {path: text for path, text in files.items() if path != name}


SCENARIOS = (
    Scenario(
        "data-in-another-folder",
        PATH,
        Expected.FIXED,
        {
            **{k: v for k, v in line("python train.py --data data/points.csv").items() if k != "points.csv"},
            "datasets/v1/points.csv": POINTS,
        },
        inventory(),
        changed=("command", "dataset", "workdir"),
        outputs=("model.json",),
    ),
    Scenario(
        "data-of-the-authors-machine",
        PATH,
        Expected.ESCALATED,
        without(line("python train.py --data /home/lena/datasets/slope/points-2019.csv"), "points.csv"),
        inventory(),
    ),
    Scenario(
        "data-that-is-nowhere",
        PATH,
        Expected.ESCALATED,
        {
            k: v
            for k, v in reviews("python finetune.py --train-file corpus/train.jsonl").items()
            if k != "reviews.jsonl"
        },
        inventory(),
    ),
    Scenario(
        "folder-for-logs-not-made",
        PATH,
        Expected.FIXED,
        reviews("python finetune.py --num-epochs 8", EPOCH=NOTES),
        inventory(),
        changed=("setup.cmd",),
        outputs=("classifier.npy",),
    ),
    Scenario(
        "column-of-another-name",
        FORMAT,
        Expected.FIXED,
        line(
            "python train.py --target-column targets",
            OPTIONS='parser.add_argument("--target-column", default="target")',
            START=COLUMN,
        )
        | {"points.csv": POINTS.replace("x,y\n", "x,y,target\n").replace(".5\n", ".5,1\n")},
        inventory(),
        changed=("command", "dataset", "training.options", "flags"),
        outputs=("model.json",),
        also=(FailureClass.CLI_ARGS_INVALID,),
    ),
    Scenario(
        "lines-that-are-no-json",
        FORMAT,
        Expected.ESCALATED,
        {**reviews(), "reviews.jsonl": REVIEWS + '{"text": "cut in the mid\n'},
        inventory(),
    ),
    Scenario(
        "key-that-rows-lack",
        FORMAT,
        Expected.ESCALATED,
        {**reviews(), "reviews.jsonl": REVIEWS.replace('"label"', '"stars"')},
        inventory(),
        also=(FailureClass.USER_CODE_BUG,),
    ),
    Scenario(
        "checkpoint-that-is-damaged",
        CHECKPOINT,
        Expected.FIXED,
        {
            **line(
                "python train.py --epochs 60 --resume-from snapshots/last.pkl",
                IMPORTS="import pickle",
                OPTIONS='parser.add_argument("--resume-from", default=None, help="checkpoint to continue with")',
                START=RESUME,
            ),
            "snapshots/last.pkl": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 100\n",
        },
        inventory(),
        changed=("command", "training.resume_from", "resume", "flags"),
        outputs=("model.json",),
    ),
    Scenario(
        "checkpoint-that-is-not-there",
        CHECKPOINT,
        Expected.FIXED,
        line(
            "python train.py --epochs 60 --resume-from snapshots/epoch-40.pkl",
            IMPORTS="import pickle",
            OPTIONS='parser.add_argument("--resume-from", default=None, help="checkpoint to continue with")',
            START=RESUME,
        ),
        inventory(),
        changed=("command", "training.resume_from", "resume", "flags"),
        outputs=("model.json",),
        also=(PATH,),
    ),
    Scenario(
        "saves-only-when-told",
        OUTPUTS,
        Expected.FIXED,
        line(
            "python train.py --epochs 40",
            OPTIONS='parser.add_argument("--save-model", action="store_true", help="write the trained weights")',
            SAVE='if not args.save_model:\n    print("done, nothing is saved without --save-model")\n    return',
        ),
        inventory(),
        changed=("command", "training.options", "flags"),
        outputs=("model.json",),
    ),
    Scenario(
        "never-saves",
        OUTPUTS,
        Expected.ESCALATED,
        rings(SAVE="return"),
        inventory(),
    ),
    Scenario(
        "data-on-a-volume-that-is-asked-for",
        PATH,
        Expected.ESCALATED,
        without(line("python train.py --data /data/points.csv"), "points.csv"),
        inventory(
            node(host_volumes={"datasets": {"path": "/data", "read_only": True, "files": {"points.csv": POINTS}}}),
        ),
    ),
)
