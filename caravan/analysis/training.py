"""What the code of one module says about training: whether it trains, by what method, what it loads, logs and needs.

Pure, over a parsed module. Each finding is (text, place).
"""

import ast
import re
from collections.abc import Iterator
from typing import Final

from caravan.analysis.findings import Call, Module
from caravan.analysis.python import dotted, keyword, text_of, value_of
from caravan.values.repo import SourceLine

Finding = tuple[str, SourceLine]

_OPTIMIZER: Final = re.compile(r"(?:^|[._])(?:optim\w*|opt|adam\w*|sgd|scaler|engine|model_engine)$", re.IGNORECASE)
_TRAINER: Final = re.compile(
    r"Trainer(?!(?:Config|Callback|State|Control|Arg(?:ument)?s|Params|Hooks?)\w*$)\w*$|^Accelerator$|^Learner$"
)
_TRAINER_STARTS: Final = re.compile(r"(?:^|[._])\w*(?:trainer|learner|runner)\w*\.(?:train|fit|fit_one_cycle)$", re.I)
_FITS: Final = frozenset(
    {"fit_one_cycle", "fine_tune", "train_supervised", "train_unsupervised", "train_and_evaluate", "learn"}
)
_BOOSTERS: Final = frozenset({"xgb", "xgboost", "lgb", "lightgbm"})
_GRADIENTS: Final = ("value_and_grad", "GradientTape", "apply_gradients", "minimize", "train_on_batch")
_TRAIN_OPTIONS: Final = frozenset({"input_fn", "max_steps", "epochs", "data", "max_epochs", "num_epochs", "n_epochs"})
_TRAIN_NAME: Final = re.compile(
    r"^(?:train|fit|fine_?tune|pre_?train)(?:$|_(?!(?:val_)?(?:test_)?(?:split|loader|data\w*|dl|ds|df|set|config\w*|args|cfg|iter|size"
    r"|files?|path|dir|sampler|batch\w*|images?|labels?|transforms?\w*|texts?|x|y)$))",
    re.IGNORECASE,
)
_LAUNCHER_SETS: Final = frozenset(
    (
        "RANK",
        "LOCAL_RANK",
        "WORLD_SIZE",
        "LOCAL_WORLD_SIZE",
        "NODE_RANK",
        "GROUP_RANK",
        "MASTER_ADDR",
        "MASTER_PORT",
        "CUDA_VISIBLE_DEVICES",
        "SLURM_PROCID",
        "SLURM_LOCALID",
        "SLURM_NTASKS",
        "SLURM_JOB_ID",
        "SLURM_NODELIST",
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "HOME",
        "PATH",
        "USER",
        "PWD",
        "TMPDIR",
        "PYTHONPATH",
    )
)
_METRIC: Final = re.compile(
    r"(?i)\b((?:train(?:ing)?|val(?:id(?:ation)?)?|eval|test)[ _/-])?"
    r"(loss|perplexity|ppl|accuracy|acc|bleu|rouge\w*|f1|reward|mAP\w*|grad_norm"
    r"|tokens[_/ ](?:per[_ ])?s(?:ec(?:ond)?)?)\b"
)
_NOT_METRICS: Final = frozenset({"step", "epoch", "iteration", "iter", "global_step", "time"})


def training_signs(module: Module) -> list[tuple[float, str, SourceLine]]:
    """(weight, what, where): signs that running this module's code trains a model. Weights add up; 2 is convincing."""
    found: dict[str, tuple[float, str, SourceLine]] = {}
    for call in module.calls:
        sign = _sign(call)
        if sign:
            found.setdefault(sign[1], (*sign, module.at(call.line)))
    for name, function in module.functions.items():
        if name == "training_step":
            found.setdefault("training_step", (1.5, "defines a training step", module.at(function.lineno)))
        elif _TRAIN_NAME.match(name):
            found.setdefault("function", (0.7, f"defines {name}()", module.at(function.lineno)))
    return list(found.values())


def _sign(call: Call) -> tuple[float, str] | None:
    owner, given = call.name.rpartition(".")[0], {k.arg for k in call.node.keywords}
    if call.last == "backward" or call.last in _GRADIENTS:
        return 2.0, "computes gradients"
    if call.last == "step" and _OPTIMIZER.search(owner):
        return 2.0, "steps an optimizer"
    if _starts(call, given):
        return 2.5, "starts a trainer"
    if call.last == "train" and owner and (_TRAIN_OPTIONS & given or owner in _BOOSTERS):
        return 2.5, "starts a training"
    if call.last in _FITS and owner and (call.node.args or given):
        return 2.0, f"calls {call.last}()"
    if call.last == "update" and owner and {"sgd", "losses"} & given:
        return 2.0, "updates a pipeline"
    if call.last == "fit" and owner and call.node.args:
        return 2.0, "fits a model"
    if _TRAINER.search(call.last):
        return 1.0, f"makes a {call.last}"
    if call.name in ("jax.grad", "jax.value_and_grad", "optax.apply_updates", "deepspeed.initialize"):
        return 2.0, f"calls {call.name}"
    return (1.0, f"calls {call.name}()") if _TRAIN_NAME.match(call.last) and call.last != "train" else None


def _starts(call: Call, given: set[str | None]) -> bool:
    """Whether a trainer is started, by its own name, where it is made, or by what it is given."""
    if _TRAINER_STARTS.search(call.name):
        return True
    return call.last in ("train", "fit") and ("resume_from_checkpoint" in given or _on_a_trainer(call))


def _on_a_trainer(call: Call) -> bool:
    """Whether a method is called on what was just made: `DPOTrainer(...).train()`, `Runner.from_cfg(c).train()`."""
    made = call.node.func.value if isinstance(call.node.func, ast.Attribute) else None
    name = dotted(made.func) if isinstance(made, ast.Call) else ""
    return any(_TRAINER.search(part) or part == "Runner" for part in name.split("."))


def adapters(module: Module) -> Iterator[Finding]:
    """`lora`, `qlora` or `4bit` for calls that make a low-rank adapter or load a model in four bits."""
    for call in module.calls:
        if call.last in ("LoraConfig", "AdaLoraConfig"):  # whole, since it says rank and matrices, often on many lines
            yield "lora", module.at(call.line).model_copy(update={"text": ast.unparse(call.node)[:300]})
        elif call.last in ("get_peft_model", "LoraModel"):
            yield "lora", module.at(call.line)
        elif value_of(keyword(call.node, "load_in_4bit")) is True:
            yield "4bit", module.at(call.line)
    for name, function in {**module.functions, **module.classes}.items():
        if re.search(r"(?i)lora|low_?rank", name):
            yield "lora", module.at(function.lineno)


def metrics(module: Module) -> Iterator[Finding]:
    """Names of metrics that the module logs: keys of logged dicts, names given to trackers, words in printed lines."""
    for call in module.calls:
        place = module.at(call.line)
        if call.last in ("log", "log_metrics", "log_dict", "report", "add_scalars"):
            for argument in call.node.args:
                if isinstance(argument, ast.Dict):
                    keys = (text_of(k, module) for k in argument.keys if k)
                    yield from ((k, place) for k in keys if k and k.lower() not in _NOT_METRICS)
        if call.last in ("log", "add_scalar", "log_metric", "scalar", "logkv") and call.node.args:
            name = text_of(call.node.args[0])
            if name and _METRIC.search(name.replace("/", " ").replace("_", " ")) and len(name) < 60:
                yield name, place
        if call.name == "print" or call.last in ("info", "write", "set_description", "set_postfix"):
            yield from ((m, place) for m in _printed(call))


def _printed(call: Call) -> Iterator[str]:
    for argument in call.node.args:
        parts = argument.values if isinstance(argument, ast.JoinedStr) else [argument]
        for part in parts:
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                yield from (m[0].lower().strip() for m in _METRIC.finditer(part.value))
    yield from (k.arg for k in call.node.keywords if k.arg and _METRIC.fullmatch(k.arg))


def environment_names(module: Module) -> Iterator[Finding]:
    """Environment variables that the module can't do without (`os.environ["X"]`), without those launchers set."""
    assigned = {id(t) for line in module.constants.values() if isinstance(line, ast.Assign) for t in line.targets}
    for node in module.subscripts:
        if (
            dotted(node.value) in ("os.environ", "environ")
            and isinstance(node.ctx, ast.Load)
            and id(node) not in assigned
        ):
            name = text_of(node.slice)
            if name and name not in _LAUNCHER_SETS:
                yield name, module.at(node.lineno)


def distributed_signs(module: Module) -> Iterator[Finding]:
    """`ddp`, `fsdp`, `deepspeed`, `accelerate`, `spawn` or `jax` for what the module uses to spread the work."""
    for call in module.calls:
        if call.last in ("DistributedDataParallel", "DDP", "init_process_group"):
            yield "ddp", module.at(call.line)
        elif call.last in ("FullyShardedDataParallel", "FSDP", "fully_shard"):
            yield "fsdp", module.at(call.line)
        elif call.name == "deepspeed.initialize":
            yield "deepspeed", module.at(call.line)
        elif call.last == "Accelerator":
            yield "accelerate", module.at(call.line)
        elif call.name.endswith(("mp.spawn", "multiprocessing.spawn")):
            yield "spawn", module.at(call.line)
