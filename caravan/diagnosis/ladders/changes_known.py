"""What libraries have added and taken away, by version, as their release notes say it: facts against version conflicts.

Only data. A bound is on the safe side of the change: further back than the first version without a thing that was
deprecated for long, so that it holds for the thing and for what came with it.
"""

from typing import Final

GONE: Final[dict[tuple[str, str], str]] = {
    ("PIL.Image", "ANTIALIAS"): "Pillow<10",
    ("Pillow", "getsize"): "Pillow<10",
    ("datasets", "load_metric"): "datasets<3",
    ("huggingface_hub", "HfFolder"): "huggingface_hub<1.0",
    ("huggingface_hub", "Repository"): "huggingface_hub<1.0",
    ("huggingface_hub", "cached_download"): "huggingface_hub<0.26",
    ("jax", "tree_map"): "jax<0.6",
    ("jinja2", "escape"): "jinja2<3.1",
    ("keras.preprocessing", "text"): "keras<3",
    ("markupsafe", "soft_unicode"): "markupsafe<2.1",
    ("numpy", "Inf"): "numpy<2",
    ("numpy", "NaN"): "numpy<2",
    ("numpy", "bool"): "numpy<1.24",
    ("numpy", "cast"): "numpy<2",
    ("numpy", "complex"): "numpy<1.24",
    ("numpy", "float"): "numpy<1.24",
    ("numpy", "float_"): "numpy<2",
    ("numpy", "in1d"): "numpy<2.4",
    ("numpy", "int"): "numpy<1.24",
    ("numpy", "object"): "numpy<1.24",
    ("numpy", "product"): "numpy<2",
    ("numpy", "str"): "numpy<1.24",
    ("numpy", "string_"): "numpy<2",
    ("numpy", "trapz"): "numpy<2.4",
    ("numpy", "unicode_"): "numpy<2",
    ("pandas", "append"): "pandas<2",
    ("pandas", "iteritems"): "pandas<2",
    ("peft", "prepare_model_for_int8_training"): "peft<0.10",
    ("pytorch_lightning.utilities.distributed", ""): "pytorch-lightning<1.8",
    ("scipy.integrate", "simps"): "scipy<1.14",
    ("scipy.integrate", "trapz"): "scipy<1.14",
    ("scipy.linalg", "triu"): "scipy<1.13",
    ("torch._six", ""): "torch<2",
    ("torchtext.legacy", ""): "torchtext<0.12",
    ("torchvision.transforms.functional_tensor", ""): "torchvision<0.17",
    ("transformers", "AdamW"): "transformers<4.49",
    ("transformers", "LlamaFlashAttention2"): "transformers<4.48",
    ("transformers", "TFTrainer"): "transformers<4.38",
    ("trl", "DataCollatorForCompletionOnlyLM"): "trl<0.20",
    ("trl", "create_reference_model"): "trl<0.20",
    ("werkzeug.urls", "url_quote"): "werkzeug<3",
}
"""(module, what it had; "" the module itself) → the requirement that still has it."""

CAME: Final[dict[tuple[str, str], str]] = {
    ("accelerate", "clear_device_cache"): "accelerate>=1.3",
    ("accelerate", "is_mlu_available"): "accelerate>=0.29",
    ("accelerate", "keep_torch_compile"): "accelerate>=1.3",
    ("huggingface_hub", "split_torch_state_dict_into_shards"): "huggingface_hub>=0.23",
    ("torch", "float8_e4m3fn"): "torch>=2.1",
    ("torch.library", "custom_op"): "torch>=2.4",
    ("torch.nn.attention", "flex_attention"): "torch>=2.5",
    ("torch.nn.attention.flex_attention", ""): "torch>=2.5",
    ("transformers", "BitsAndBytesConfig"): "transformers>=4.30",
    ("transformers", "EncoderDecoderCache"): "transformers>=4.44",
    ("transformers", "HybridCache"): "transformers>=4.42",
    ("transformers", "eval_strategy"): "transformers>=4.41",
    ("transformers", "processing_class"): "transformers>=4.46",
}
"""(module, what it has) → the requirement since which it has it."""

ARGUMENTS: Final[dict[tuple[str, str], str]] = {
    ("Accelerator", "dispatch_batches"): "accelerate<0.28",
    ("Accelerator", "logging_dir"): "accelerate<0.24",
    ("DPOTrainer", "beta"): "trl<0.12",
    ("DPOTrainer", "tokenizer"): "trl<0.12",
    ("PPOConfig", "model_name"): "trl<0.12",
    ("SFTConfig", "max_seq_length"): "trl<0.20",
    ("SFTTrainer", "dataset_text_field"): "trl<0.12",
    ("SFTTrainer", "max_seq_length"): "trl<0.12",
    ("SFTTrainer", "packing"): "trl<0.12",
    ("SFTTrainer", "tokenizer"): "trl<0.12",
    ("Trainer", "checkpoint_callback"): "pytorch-lightning<1.7",
    ("Trainer", "gpus"): "pytorch-lightning<2",
    ("Trainer", "processing_class"): "transformers>=4.46",
    ("Trainer", "progress_bar_refresh_rate"): "pytorch-lightning<1.7",
    ("Trainer", "tokenizer"): "transformers<5",
    ("TrainingArguments", "eval_strategy"): "transformers>=4.41",
    ("TrainingArguments", "evaluation_strategy"): "transformers<4.46",
    ("TrainingArguments", "no_cuda"): "transformers<5",
    ("unwrap_model", "keep_torch_compile"): "accelerate>=1.3",
}
"""(class or function, argument that it refuses) → the requirement whose version takes it."""

MODELS: Final[dict[str, str]] = {
    "cohere": "4.39",
    "deepseek_v3": "4.51",
    "gemma": "4.38",
    "gemma2": "4.42",
    "gemma3": "4.50",
    "gemma3_text": "4.50",
    "gemma3n": "4.53",
    "glm4": "4.51",
    "gpt_oss": "4.55",
    "llama4": "4.51",
    "mistral": "4.34",
    "mistral3": "4.50",
    "mixtral": "4.36",
    "mllama": "4.45",
    "modernbert": "4.48",
    "olmo2": "4.47",
    "phi": "4.37",
    "phi3": "4.41",
    "qwen2": "4.37",
    "qwen2_5_vl": "4.49",
    "qwen2_audio": "4.45",
    "qwen2_moe": "4.40",
    "qwen2_vl": "4.45",
    "qwen3": "4.51",
    "qwen3_moe": "4.51",
    "qwen3_next": "4.57",
    "qwen3_vl": "4.57",
    "smollm3": "4.53",
    "stablelm": "4.38",
    "starcoder2": "4.39",
}
"""A model's type → the first version of transformers that knows it."""

WORDS: Final[tuple[tuple[str, str], ...]] = (
    (r"numpy\.dtype size changed|compiled using NumPy 1\.x|_ARRAY_API not found", "numpy<2"),
    (r"Descriptors cannot(?: not)? be created directly", "protobuf<3.21"),
    (r"Dataset scripts are no longer supported|trust_remote_code.{0,40}not supported anymore", "datasets<4"),
    (r"rope_scaling. must be a dictionary with two fields", "transformers>=4.43"),
    (r"No module named 'pkg_resources'", "setuptools<81"),
    (r"partially initialized module 'charset_normalizer'", "charset-normalizer>=3"),
)
"""What a library prints where two don't fit → the requirement that mends it."""
