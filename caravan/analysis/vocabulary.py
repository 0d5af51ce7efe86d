"""Names by which scripts call the same things: hyperparameters, models, data, frameworks. Tables of the trade."""

import re
from typing import Final

HYPERPARAMETERS: Final[dict[str, tuple[str, ...]]] = {
    "batch_size": (
        *("per_device_train_batch_size", "per_device_batch_size", "per_gpu_train_batch_size", "micro_train_batch_size"),
        *("train_micro_batch_size_per_gpu", "micro_batch_size", "train_batch_size", "batch_size_training"),
        "batcher.size",
        *("batch_size", "batchsize", "batch_size_per_gpu", "batch_size_per_device", "device_batch_size"),
        *("samples_per_gpu", "imgs_per_gpu", "mini_batch_size", "ims_per_batch", "batch", "bs", "global_batch_size"),
        *("total_batch_size", "b"),
    ),
    "learning_rate": (
        "learning_rate",
        "lr",
        "base_lr",
        "blr",
        "max_lr",
        "peak_lr",
        "init_lr",
        "initial_lr",
        "lr0",
        "base_learning_rate",
    ),
    "epochs": (
        *("num_train_epochs", "num_epochs", "max_train_epochs", "max_epochs", "n_epochs", "nepochs", "epochs", "epoch"),
        *("epoch_num", "num_epoch", "max_epoch", "max_steps", "max_train_steps", "max_iters", "max_iter"),
        *("train_iters", "train_epochs", "total_epochs", "total_timesteps", "total_steps", "total_step", "train_steps"),
        *("num_train_steps", "training_steps", "num_training_steps", "num_iterations", "iterations", "iters", "steps"),
        *("num_updates", "max_updates", "kimg", "num_steps"),
    ),
    "seq_len": (
        *("max_seq_length", "max_seq_len", "max_length", "model_max_length", "seq_length", "seq_len"),
        *("sequence_length", "sequence_len", "block_size", "context_length", "context_len", "cutoff_len", "max_len"),
        *("max_source_length", "source_max_len", "max_target_length", "text_seq_len", "ctx_len", "n_ctx", "imgsz"),
        *("max_tokens_per_sample", "tokens_per_sample", "image_size", "img_size", "input_size", "resolution"),
    ),
    "gradient_accumulation": (
        *("gradient_accumulation_steps", "gradient_accumulation", "grad_accum_steps", "grad_accum", "accum_steps"),
        *("accumulation_steps", "accumulate_grad_batches", "gradient_accumulation_iters", "update_freq", "accumulate"),
        *("accum_iter", "accum_freq", "grad_acc_steps", "accumulate_gradient", "accum_grad", "grad_accumulation_steps"),
    ),
    "output_dir": (
        *("output_dir", "out_dir", "outdir", "save_dir", "work_dir", "workdir", "model_dir", "checkpoint_dir"),
        *("ckpt_dir", "output_directory", "base_output_directory", "output_path", "save_path", "output", "out"),
        *("save", "exp_dir", "logdir", "log_dir", "project", "logs"),
    ),
}
"""Key hyperparameter → the names of its option, the most telling first; dashes and underscores are alike."""

MODEL_NAMES: Final = (
    *("model_name_or_path", "base_model", "pretrained_model_name_or_path", "model_name", "model_id", "base_model_name"),
    *("model_path", "checkpoint", "pretrained", "weights", "init_from", "model", "load_from"),
)
DATASET_NAMES: Final = (
    *("dataset_name", "dataset", "data_path", "train_file", "train_data", "dataset_path", "data_file", "data_files"),
    *("train_path", "training_data", "dataset_config", "data_dir", "dataset_id", "input_file", "data"),
)

CONFIG_KEYS: Final = frozenset(
    {
        *(name for names in HYPERPARAMETERS.values() for name in names if len(name) > 1),
        *MODEL_NAMES,
        *DATASET_NAMES,
        *("gradient_checkpointing", "grad_checkpointing", "use_gradient_checkpointing", "activation_checkpointing"),
        *("enable_activation_checkpointing", "sequence_len", "max_tokens", "dataset_batch_size"),
        *("lora_r", "lora_rank", "rank", "r", "network_dim", "finetuning_type", "adapter", "quantization_bit"),
        *("load_in_4bit", "load_in_8bit", "bf16", "fp16", "tf32", "mixed_precision", "precision", "dtype"),
        *(
            "seed",
            "random_seed",
            "save_total_limit",
            "resume_from_checkpoint",
            "resume_from",
            "report_to",
            "ddp_timeout",
        ),
        *("max_grad_norm", "gradient_clip_val", "grad_clip", "clip_grad_norm", "optim", "optimizer", "optimizer_type"),
        *("dataloader_num_workers", "num_workers", "attn_implementation", "warmup_steps", "warmup_ratio"),
    }
)
"""Keys of configuration files that say how it is trained; dotted keys count by their last part."""

# The first that is imported decides; the specific ones stand before those that they are often imported beside.
FRAMEWORKS: Final = (
    ("jax", ("jax", "flax", "optax", "haiku", "equinox")),
    ("pytorch", ("torch", "pytorch_lightning", "lightning", "transformers", "peft", "trl", "accelerate", "diffusers")),
    ("tensorflow", ("tensorflow", "keras", "tf_keras")),
    ("paddle", ("paddle",)),
    ("mxnet", ("mxnet",)),
    ("mlx", ("mlx",)),
    ("sklearn", ("sklearn", "xgboost", "lightgbm")),
    ("numpy", ("numpy",)),
)
GPU_FRAMEWORKS: Final = frozenset({"jax", "pytorch", "tensorflow", "paddle", "mxnet"})

TRAIN_NAME: Final = re.compile(
    r"(?i)(?:^|[_.-])(?:train(?:er|ing)?|finetun(?:e|ing)|fine[_-]tun(?:e|ing)|sft|pretrain)"
)
OTHER_NAME: Final = re.compile(
    r"(?i)(?:^|[_.-])(?:eval\w*|test\w*|infer\w*|generat\w*|sampl\w*|serv\w*|demo|app|chat|convert\w*|export\w*|prepar\w*"
    r"|preprocess\w*|download\w*|tokenize\w*|bench\w*|predict\w*|plot\w*|visuali[sz]e\w*|setup|conf|merge\w*|upload\w*)"
)
ASIDE: Final = re.compile(
    r"(?i)(?:^|/)(?:tests?|testing|benchmarks?|docs?|scripts/ci|\.github|\.ci)/|(?:^|/)conftest\.py$"
)
OLD: Final = re.compile(r"(?i)(?:^|[/_.-])(?:legacy|old|deprecated|archived?|obsolete|backup|bak)(?:$|[/_.-])")


def plain(name: str) -> str:
    """An option's name without dashes at its front (`$` at a variable's), with underscores."""
    return name.lstrip("-+$").replace("-", "_")
