"""Hubs, trackers and networks: what they say to a program that has no right, no token, or no patience."""

from bench.scenario import Expected, Scenario
from bench.scenarios.machines import inventory
from bench.scenarios.trainers import argparse_trainer, click_trainer, line, readme, reviews, rings
from caravan.values.failure import FailureClass as F

GATED = '''
class GatedRepoError(OSError):
    """Said by the hub."""


def fetch(repository):
    if not os.environ.get("HF_TOKEN"):
        raise GatedRepoError(
            "401 Client Error. (Request ID: Root=1-66a1)\\n\\nCannot access gated repo for url "
            f"https://huggingface.co/{repository}/resolve/main/config.json.\\nAccess to model {repository} is "
            "restricted. You must have access to it and be authenticated to access it. Please log in."
        )

'''
NOWHERE = '''
class RepositoryNotFoundError(OSError):
    """Said by the hub."""


def fetch(repository):
    raise RepositoryNotFoundError(
        "404 Client Error. (Request ID: Root=1-77b2)\\n\\nRepository Not Found for url: "
        f"https://huggingface.co/{repository}/resolve/main/config.json.\\nPlease make sure you specified the correct "
        "`repo_id` and `repo_type`."
    )

'''
LIMITED = '''
class HfHubHTTPError(OSError):
    """Said by the hub."""


def fetch(url):
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        raise HfHubHTTPError(
            f"{error.code} Client Error: {error.reason} for url: {url.replace(os.environ['HUB'], 'https://huggingface.co')}\\n"
            "We had to rate limit you, please retry later or log in."
        ) from error

'''
AWAY = """
def fetch(url):
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.read().decode()
    except OSError as error:
        raise ConnectionError(f"('Connection aborted.', {error!r})") from error

"""
TRACKED = """
if args.report_to == "wandb" and os.environ.get("WANDB_MODE") not in ("offline", "disabled"):
    if not os.environ.get("WANDB_API_KEY"):
        raise wandb_errors.UsageError("api_key not configured (no-tty). call wandb.login(key=[your_api_key])")
"""
ERRORS = "class UsageError(Exception):\n    pass\n\n\nUsageError.__module__ = 'wandb.errors'\n"

SCENARIOS = (
    Scenario(
        "gated-model",
        F.HF_GATED_AUTH,
        Expected.ESCALATED,
        line(
            "python train.py --base-model meta-llama/Llama-3.2-1B",
            IMPORTS="import os",
            BEFORE=GATED,
            OPTIONS='parser.add_argument("--base-model", default="meta-llama/Llama-3.2-1B")',
            START="fetch(args.base_model)",
        ),
        inventory(),
    ),
    Scenario(
        "gated-model-in-a-config",
        F.HF_GATED_AUTH,
        Expected.ESCALATED,
        rings(
            "epochs: 4\nencoder: google/gemma-3-4b-pt",
            BEFORE=GATED,
            FIELDS='encoder: str = "google/gemma-3-4b-pt"',
            START="fetch(config.encoder)",
        ),
        inventory(),
    ),
    Scenario(
        "model-that-the-hub-lacks",
        F.HUB_NOT_FOUND,
        Expected.ESCALATED,
        line(
            "python train.py --base-model acme/tiny-slope-2b",
            BEFORE=NOWHERE,
            OPTIONS='parser.add_argument("--base-model", default="acme/tiny-slope-2b")',
            START="fetch(args.base_model)",
        ),
        inventory(),
    ),
    Scenario(
        "hub-that-is-busy",
        F.HUB_RATE_LIMITED,
        Expected.FIXED,
        {
            "README.md": readme("Reviews", "python finetune.py --num-epochs 12"),
            "finetune.py": click_trainer(
                IMPORTS="import os\nimport urllib.error\nimport urllib.request",
                BEFORE=LIMITED,
                START='print(len(fetch(os.environ["HUB"] + "/busy/reviews/train.csv")), "bytes", flush=True)',
            ),
            "reviews.jsonl": reviews()["reviews.jsonl"],
        },
        inventory(),
        sets=("env.HUB=@SERVER@",),
        changed=("wait",),
        outputs=("classifier.npy",),
    ),
    Scenario(
        "network-that-comes-back",
        F.NETWORK_UNREACHABLE,
        Expected.FIXED,
        line(
            IMPORTS="import os\nimport urllib.request",
            BEFORE=AWAY,
            START='print(len(fetch(os.environ["ROWS"] + "/late/rows.csv")), "bytes", flush=True)',
        ),
        inventory(),
        sets=("env.ROWS=@SERVER@",),
        changed=("wait",),
        outputs=("model.json",),
        within=3,
    ),
    Scenario(
        "tracker-without-a-login",
        F.WANDB_LOGIN_MISSING,
        Expected.FIXED,
        {
            "README.md": readme("Slope", "python train.py --report-to wandb --epochs 50"),
            "train.py": argparse_trainer(
                IMPORTS="import os",
                BEFORE="import wandb_errors\n",
                OPTIONS='parser.add_argument("--report-to", default="none", choices=["none", "wandb"])',
                START=TRACKED,
            ),
            "wandb_errors.py": ERRORS,
            "points.csv": line()["points.csv"],
        },
        inventory(),
        changed=("env", "training.report_to", "command"),
        outputs=("model.json",),
    ),
)
