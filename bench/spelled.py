"""Whether an option is spelled in a program's sources: a check of planned commands that knows no parser.

It reads texts and runs nothing. An option counts as known where the sources spell it as a text, name an argument or a
field like it (as parsers that are made of dataclasses and functions do), or, for dotted ones and keys of configs, name
every part of it in code or configs. What a library's own arguments add is listed by name.
"""

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Final

_CODE: Final = (".py", ".c", ".cu", ".cpp", ".cc", ".cuh", ".h", ".go", ".rs", ".jl", ".ipynb")
_CONFIGS: Final = (".yaml", ".yml", ".toml", ".json", ".cfg", ".gin", ".ini", ".conf")
_SCRIPTS: Final = (".sh", ".md", ".rst", ".txt")
_LARGEST: Final = 2_000_000
_SKIPPED: Final = {".git", "node_modules"}

LIBRARY: Final = re.compile(r"\b(?:TrainingArguments|HfArgumentParser|TrlParser|SFTConfig|GRPOConfig|DPOConfig)\b")
"""What the sources name where they take the arguments of transformers' trainers."""

# From the documentation of transformers' TrainingArguments and trl's configs.
TRAINER: Final = frozenset(
    word
    for line in (
        "output_dir overwrite_output_dir do_train do_eval do_predict eval_strategy evaluation_strategy",
        "prediction_loss_only per_device_train_batch_size per_device_eval_batch_size gradient_accumulation_steps",
        "eval_accumulation_steps eval_steps learning_rate weight_decay adam_beta1 adam_beta2 adam_epsilon",
        "max_grad_norm num_train_epochs max_steps lr_scheduler_type lr_scheduler_kwargs warmup_ratio warmup_steps",
        "log_level logging_dir logging_strategy logging_steps logging_first_step save_strategy save_steps",
        "save_total_limit save_safetensors save_only_model no_cuda use_cpu seed data_seed bf16 fp16 tf32",
        "bf16_full_eval fp16_full_eval half_precision_backend local_rank ddp_backend ddp_timeout",
        "dataloader_drop_last dataloader_num_workers dataloader_pin_memory dataloader_persistent_workers run_name",
        "remove_unused_columns label_names load_best_model_at_end metric_for_best_model greater_is_better fsdp",
        "fsdp_config fsdp_transformer_layer_cls_to_wrap deepspeed accelerator_config label_smoothing_factor optim",
        "optim_args adafactor group_by_length length_column_name report_to ddp_find_unused_parameters push_to_hub",
        "hub_model_id hub_strategy hub_token hub_private_repo gradient_checkpointing",
        "gradient_checkpointing_kwargs auto_find_batch_size torchdynamo torch_compile torch_compile_backend",
        "use_liger_kernel neftune_noise_alpha resume_from_checkpoint max_seq_length max_length packing",
        "dataset_text_field dataset_num_proc model_init_kwargs attn_implementation eos_token pad_token",
    )
    for word in line.split()
)


class Sources:
    """The texts of a tree, looked into for names."""

    def __init__(self, tree: Path) -> None:
        self._tree = tree

    def knows(self, program: str, word: str) -> bool:
        """Whether a word of a command is no option, or one that the sources of the program spell."""
        if re.fullmatch(r"-\d[\d.eE+-]*", word):
            return True
        if word.startswith("-"):
            return self._option(program, word.partition("=")[0])
        name, joined, _ = word.partition("=")
        if joined and re.fullmatch(r"[+~]*[A-Za-z_][\w.@/-]*", name):
            return self._parts(name.lstrip("+~").partition("@")[0])
        return True

    def _option(self, program: str, flag: str) -> bool:
        bare = flag.lstrip("-")
        name = bare.replace("-", "_")
        if not bare:
            return True  # `--`: what follows is no option
        if flag in self._literals or any(f in self._literals for f in (f"--{name}", f"--{bare.replace('_', '-')}")):
            return True
        if len(bare) == 1:
            return bare in self._letters
        if name in self._names or name.removeprefix("no_") in self._names:
            return True
        if "." in bare and self._parts(name):
            return True
        if name in TRAINER and LIBRARY.search(self._code):
            return True
        return not self._is_ours(program) and flag in self._documents

    def _parts(self, name: str) -> bool:
        """Whether each part of a dotted name is one in code or configs."""
        parts = [p for p in re.split(r"[./]", name.replace("-", "_")) if p and not p.isdigit()]
        return all(p in self._words for p in parts if p not in ("gin", "config"))

    def _is_ours(self, program: str) -> bool:
        """Whether the program is a file of the tree, and not a command that something else installs."""
        last = program.rsplit("/", 1)[-1]
        return any(path.name == last or path.stem == last for path in self._files(_CODE))

    def _files(self, endings: tuple[str, ...]) -> Iterator[Path]:
        for path in self._tree.rglob("*"):
            wanted = path.suffix.lower() in endings and not _SKIPPED & set(path.parts)
            if wanted and path.is_file() and path.stat().st_size <= _LARGEST:
                yield path

    def _text(self, endings: tuple[str, ...]) -> str:
        return "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in self._files(endings))

    @cached_property
    def _code(self) -> str:
        return self._text(_CODE)

    @cached_property
    def _documents(self) -> str:
        return self._text((*_SCRIPTS, *_CONFIGS))

    @cached_property
    def _literals(self) -> frozenset[str]:
        """Options as the code writes them, between quotes."""
        return frozenset(re.findall(r"""["'](-{1,2}[A-Za-z][\w.-]*)\\?["']""", self._code))

    @cached_property
    def _letters(self) -> frozenset[str]:
        """Single letters that compiled programs compare with (`argv[i][1] == 'b'`)."""
        return frozenset(re.findall(r"==\s*'(\w)'", self._code))

    @cached_property
    def _names(self) -> frozenset[str]:
        """Names that the code gives to arguments, fields and flags (`lr: float`, `def f(lr=1)`, `"lr", default=`)."""
        given = re.findall(r"\b([A-Za-z_]\w*)\s*(?::\s*[A-Z\w\"'\[]|=(?!=))", self._code)
        return frozenset((*given, *re.findall(r"""["']([A-Za-z_][\w-]*)\\?["']\s*,""", self._code)))

    @cached_property
    def _words(self) -> frozenset[str]:
        return frozenset(re.findall(r"\w+", f"{self._code}\n{self._text(_CONFIGS)}"))
