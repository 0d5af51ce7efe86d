"""Command lines, configurations and entry points that are not what the program takes."""

from bench.scenario import Expected, Scenario
from bench.scenarios.machines import inventory
from bench.scenarios.trainers import POINTS, argparse_trainer, line, reviews, rings
from caravan.values.failure import FailureClass

ARGS, CONFIG = FailureClass.CLI_ARGS_INVALID, FailureClass.TRAINING_CONFIG_INVALID
ENTRY = FailureClass.ENTRYPOINT_NOT_FOUND

HUGGING = """
parser.add_argument("--eval_strategy", default="no", choices=["no", "steps", "epoch"])
parser.add_argument("--save_strategy", default="steps", choices=["no", "steps", "epoch"])
parser.add_argument("--load_best_model_at_end", action="store_true")
"""
STRATEGIES = """
if args.load_best_model_at_end and args.eval_strategy != args.save_strategy:
    raise ValueError(
        "--load_best_model_at_end requires the save and eval strategy to match, but found\\n- Evaluation "
        f"strategy: {args.eval_strategy}\\n- Save strategy: {args.save_strategy}"
    )
"""
DIVIDES = """
if config.batch_size % config.micro_batch_size:
    raise ValueError(
        f"batch_size ({config.batch_size}) must be divisible by micro_batch_size ({config.micro_batch_size})"
    )
"""

SCENARIOS = (
    Scenario(
        "option-renamed-since",
        ARGS,
        Expected.FIXED,
        reviews("python finetune.py --epochs 15 --lr 0.3"),
        inventory(),
        changed=("command", "flags", "training"),
        outputs=("classifier.npy",),
    ),
    Scenario(
        "option-with-underscores",
        ARGS,
        Expected.FIXED,
        line("python train.py --data points.csv --batch_size 4 --learning_rate 0.05"),
        inventory(),
        changed=("command", "flags", "training"),
        outputs=("model.json",),
    ),
    Scenario(
        "option-of-an-old-version",
        ARGS,
        Expected.FIXED,
        line("python train.py --epochs 40 --legacy-sampler --data points.csv"),
        inventory(),
        changed=("command", "flags", "training"),
        outputs=("model.json",),
    ),
    Scenario(
        "value-that-is-no-choice",
        ARGS,
        Expected.FIXED,
        reviews("python finetune.py --num-epochs 10 --schedule cosin"),
        inventory(),
        changed=("command", "flags", "training"),
        outputs=("classifier.npy",),
    ),
    Scenario(
        "option-that-is-required",
        ARGS,
        Expected.ESCALATED,
        line(OPTIONS='parser.add_argument("--fold-key", required=True, help="key of the cross-validation folds")'),
        inventory(),
        asks="fold",
    ),
    Scenario(
        "strategies-that-differ",
        CONFIG,
        Expected.FIXED,
        line(
            "python train.py --eval_strategy epoch --save_strategy steps --load_best_model_at_end",
            OPTIONS=HUGGING,
            START=STRATEGIES,
        ),
        inventory(),
        changed=("command", "flags", "training"),
        outputs=("model.json",),
    ),
    Scenario(
        "batches-that-do-not-divide",
        CONFIG,
        Expected.FIXED,
        rings("epochs: 12\nbatch_size: 30\nmicro_batch_size: 8", FIELDS="micro_batch_size: int = 8", START=DIVIDES),
        inventory(),
        changed=("config_overlays", "training"),
        outputs=("weights.npz",),
    ),
    Scenario(
        "config-key-misspelt",
        CONFIG,
        Expected.ESCALATED,
        rings("epochs: 12\nbatch_size: 16\nlearning_rat: 0.2"),
        inventory(),
        also=(FailureClass.USER_CODE_BUG, FailureClass.CLI_ARGS_INVALID),
    ),
    Scenario(
        "config-section-missing",
        CONFIG,
        Expected.ESCALATED,
        {**rings(), "config.yaml": "model:\n  hidden: 8\noptim:\n  epochs: 12\n"},
        inventory(),
        also=(FailureClass.USER_CODE_BUG, FailureClass.UNKNOWN),
    ),
    Scenario(
        "script-that-moved",
        ENTRY,
        Expected.FIXED,
        {
            "README.md": "# Slope\n\n    python train_model.py --epochs 50\n",
            "jobs/train_model.py": argparse_trainer(),
            "points.csv": POINTS,
        },
        inventory(),
        changed=("command", "workdir"),
        outputs=("model.json",),
        also=(FailureClass.DATA_PATH_MISSING,),
    ),
    Scenario(
        "module-below-src",
        ENTRY,
        Expected.FIXED,
        {
            "README.md": "# Slope\n\n    python -m slopefit.train --data points.csv --epochs 50\n",
            "src/slopefit/__init__.py": "",
            "src/slopefit/train.py": argparse_trainer(),
            "points.csv": POINTS,
        },
        inventory(),
        changed=("command", "workdir", "env.PYTHONPATH", "setup"),
        outputs=("model.json",),
        also=(FailureClass.MISSING_PYTHON_PACKAGE,),
    ),
    Scenario(
        "shell-script-in-another-directory",
        ENTRY,
        Expected.FIXED,
        {
            "README.md": "# Slope\n\n    bash scripts/run.sh\n",
            "scripts/run.sh": '#!/bin/bash\nset -e\npython ../core/train.py --data ../points.csv --epochs 40 "$@"\n',
            "core/train.py": argparse_trainer(),
            "points.csv": POINTS,
        },
        inventory(),
        changed=("workdir", "command"),
        outputs=("model.json",),
        also=(FailureClass.DATA_PATH_MISSING,),
    ),
)
