"""What failures name in `memory_problems.py`: packages, options, symbols, programs. Names alone."""

PACKAGES = (
    *(
        "einops",
        "peft",
        "bitsandbytes",
        "deepspeed",
        "xformers",
        "sentencepiece",
        "datasets",
        "evaluate",
        "rouge_score",
    ),
    *("wandb", "tensorboard", "timm", "librosa", "soundfile", "nltk", "spacy", "sklearn", "cv2", "yaml", "omegaconf"),
    *(
        "hydra",
        "accelerate",
        "trl",
        "tiktoken",
        "jsonlines",
        "seqeval",
        "sacrebleu",
        "torchmetrics",
        "lightning",
        "diffusers",
    ),
    *("optuna", "ray", "mlflow", "fire", "typer", "rich", "pandas", "scipy", "matplotlib", "seaborn"),
)
OPTIONS = (
    *("--use_flash_attn", "--lora_r", "--deepspeed_config", "--bf16", "--gradient_checkpointing", "--max_seq_length"),
    *("--per_device_batch", "--eval_strategy", "--warmup_ratio", "--packing", "--load_in_4bit", "--report_to"),
    *("--save_safetensors", "--num_epochs", "--optim", "--group_by_length", "--neftune_alpha", "--lr_schedule"),
    *("--train_file", "--dataset_name", "--model_id", "--seed_all", "--tf32", "--torch_compile"),
)
SYMBOLS = (
    *("transformers.AdamW", "transformers.BitsAndBytesConfig", "peft.PeftConfigX", "trl.SFTConfig", "trl.DPOConfig"),
    *("datasets.load_metric", "huggingface_hub.cached_download", "torch._six", "accelerate.clear_device_cache"),
    *("transformers.LlamaFlashAttention2", "transformers.HybridCache", "trl.create_reference_model", "diffusers.DiT"),
    *("peft.get_peft_config", "transformers.GenerationMixin", "accelerate.DataLoaderConfiguration", "jinja2.escape"),
)
PROGRAMS = ("gcc", "g++", "cmake", "ninja", "nvcc", "git", "ffmpeg", "cargo", "make", "swig", "pkg-config", "wget")
