"""Python packages: missing under another name, in no file, or of a version that does not fit."""

from bench.scenario import Expected, Scenario
from bench.scenarios.machines import inventory
from bench.scenarios.trainers import line, reviews, rings
from caravan.values.failure import FailureClass

MISSING, VERSION = FailureClass.MISSING_PYTHON_PACKAGE, FailureClass.PACKAGE_VERSION_CONFLICT

WHEELS = {
    "opencv-python==4.11.0.86": {"cv2/__init__.py": "def blur(values):\n    return values\n"},
    "opencv-python-headless==4.11.0.86": {"cv2/__init__.py": "def blur(values):\n    return values\n"},
    "beautifulsoup4==4.13.4": {"bs4/__init__.py": "def BeautifulSoup(text, kind):\n    return text\n"},
    "rouge-score==0.1.2": {"rouge_score/__init__.py": "def score(a, b):\n    return 1.0\n"},
    "scikit-learn==1.7.2": {
        "sklearn/__init__.py": "",
        "sklearn/metrics.py": "def accuracy_score(a, b):\n    return float((a == b).mean())\n",
    },
    "quiltwork==0.9.0": {"quiltwork/__init__.py": "def patch(rows, **kept):\n    return rows\n"},
    "quiltwork==0.8.2": {
        "quiltwork/__init__.py": "def patch(rows, **kept):\n    return rows\n\n\ndef stitch(rows):\n    return rows\n"
    },
    "loom-data==2.1.0": {"loom_data/__init__.py": "def weave(rows):\n    return rows\n"},
    "farbod-tensor==0.3.1": {"ftensor/__init__.py": "def cast(rows):\n    return rows\n"},
    "gridfold==1.4.0": {
        "gridfold/__init__.py": "def fold(x):\n    return x\n",
        "METADATA": "Requires-Dist: gridbase<2\n",
    },
    "gridbase==1.9.0": {"gridbase/__init__.py": "VERSION = 1\n"},
    "gridbase==2.2.0": {"gridbase/__init__.py": "VERSION = 2\n"},
}

PLUGIN = "backend = importlib.import_module(args.backend)\nprint('reading with', backend.__name__, flush=True)"
BACKEND = 'parser.add_argument("--backend", default="cv2", help="module that reads the images")'
LATE = """
module = importlib.import_module(config.scorer)
print("scored by", module.__name__, flush=True)
"""

SCENARIOS = (
    Scenario(
        "package-of-another-name",
        MISSING,
        Expected.FIXED,
        line("python train.py --epochs 60", IMPORTS="import importlib", OPTIONS=BACKEND, START=PLUGIN),
        inventory(),
        changed=("setup",),
        outputs=("model.json",),
    ),
    Scenario(
        "package-only-at-the-end",
        MISSING,
        Expected.FIXED,
        rings(
            "epochs: 10\nscorer: sklearn.metrics",
            IMPORTS="import importlib",
            FIELDS='scorer: str = "sklearn.metrics"',
            SAVE=LATE,
        ),
        inventory(),
        changed=("setup",),
        outputs=("weights.npz",),
    ),
    Scenario(
        "package-that-an-environment-names",
        MISSING,
        Expected.FIXED,
        {
            **reviews(
                IMPORTS="import importlib",
                START='loader = importlib.import_module("loom" + "_data")\nprint("loader", loader.__name__)',
            ),
            "environment.yml": "name: reviews\ndependencies:\n  - python=3.11\n  - pip\n  - pip:\n      - click\n"
            "      - numpy\n      - loom-data>=2\n",
        },
        inventory(),
        changed=("setup",),
        outputs=("classifier.npy",),
    ),
    Scenario(
        "package-in-no-file",
        MISSING,
        Expected.ESCALATED,
        line(IMPORTS="import importlib", START='importlib.import_module("f" + "tensor")'),
        inventory(),
    ),
    Scenario(
        "package-its-own-module",
        MISSING,
        Expected.FIXED,
        {
            "README.md": "# Words\n\n    python tools/fit.py --epochs 12\n",
            "tools/fit.py": line(IMPORTS="from shared_parts.words import split", START='split("a b")')["train.py"],
            "src/shared_parts/__init__.py": "",
            "src/shared_parts/words.py": "def split(text):\n    return text.split()\n",
            "points.csv": line()["points.csv"],
        },
        inventory(),
        changed=("env.PYTHONPATH", "setup", "workdir"),
        outputs=("model.json",),
    ),
    Scenario(
        "package-pinned-to-nothing",
        VERSION,
        Expected.FIXED,
        {
            **line("python train.py --epochs 60", IMPORTS="from rouge_score import score"),
            "requirements.txt": "numpy\nrouge-score==0.1.9\n",
        },
        inventory(),
        changed=("setup", "config_overlays"),
        outputs=("model.json",),
    ),
    Scenario(
        "package-too-new",
        VERSION,
        Expected.ESCALATED,
        {
            **rings(IMPORTS="from quiltwork import patch, stitch", START="stitch(patch([]))"),
            "requirements.txt": "numpy\npyyaml\nquiltwork\n",
        },
        inventory(),
    ),
    Scenario(
        "package-pins-that-fight",
        VERSION,
        Expected.ESCALATED,
        {
            **reviews("python finetune.py --num-epochs 10", IMPORTS="from gridfold import fold"),
            "requirements.txt": "numpy\nclick\ngridfold==1.4.0\ngridbase==2.2.0\n",
        },
        inventory(),
        also=(MISSING,),
    ),
)
