"""Which distribution provides an import name, for well-known ones. Only data: what is not here is never guessed.

A name in a log is no reason to install what has that name: only these, and what the repository names itself, go
without asking.
"""

import re
import sys
from typing import Final

_SAME_NAME: Final = (
    "accelerate aiohttp albumentations anthropic av bitsandbytes boto3 click colorama comet_ml cython dask "
    "datasets decord diffusers dill docopt einops evaluate fairscale fastapi filelock fire flask flax fsspec ftfy "
    "future gensim gradio gym gymnasium h5py hf_transfer httpx huggingface_hub imageio imgaug importlib_metadata "
    "iopath ipdb jax jaxlib jinja2 jiwer joblib jsonlines jsonschema keras kornia langdetect librosa liger_kernel "
    "lightning lion_pytorch llvmlite lmdb lpips lxml matplotlib mlflow more_itertools msgpack mujoco multiprocess "
    "munch neptune networkx nibabel nltk numba numpy omegaconf onnx onnxruntime openai openpyxl optax optimum "
    "optuna orjson packaging pandas peft plotly polars portalocker prettytable protobuf psutil pyarrow "
    "pycocotools pydantic pydicom pydub pytest pytz ray regex requests resampy rich rouge sacrebleu sacremoses "
    "safetensors scipy seaborn sentencepiece seqeval setuptools simplejson six smart_open soundfile spacy sympy "
    "tabulate tenacity tensorboard tensorflow termcolor tiktoken timm tokenizers toml tomli torch torchaudio "
    "torchdata torchmetrics torchvision tqdm transformers trl typer typing_extensions ujson unidecode wandb "
    "webdataset wget xgboost xxhash yacs zstandard"
)

DISTRIBUTIONS: Final[dict[str, str]] = {
    # The import name is another than the distribution's.
    "Bio": "biopython",
    "Crypto": "pycryptodome",
    "IPython": "ipython",
    "OpenSSL": "pyOpenSSL",
    "PIL": "Pillow",
    "absl": "absl-py",
    "attr": "attrs",
    "box": "python-box",
    "bs4": "beautifulsoup4",
    "cpuinfo": "py-cpuinfo",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "distutils": "setuptools",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "faiss": "faiss-cpu",
    "fitz": "PyMuPDF",
    "git": "GitPython",
    "grpc": "grpcio",
    "hydra": "hydra-core",
    "igraph": "python-igraph",
    "jose": "python-jose",
    "jwt": "PyJWT",
    "Levenshtein": "Levenshtein",
    "lightning_fabric": "lightning-fabric",
    "lm_eval": "lm-eval",
    "magic": "python-magic",
    "markdown": "Markdown",
    "mpl_toolkits": "matplotlib",
    "nacl": "PyNaCl",
    "past": "future",
    "pkg_resources": "setuptools<81",
    "pptx": "python-pptx",
    "psycopg2": "psycopg2-binary",
    "pynvml": "nvidia-ml-py",
    "pytorch_lightning": "pytorch-lightning",
    "qdrant_client": "qdrant-client",
    "requests_toolbelt": "requests-toolbelt",
    "rouge_score": "rouge-score",
    "ruamel": "ruamel.yaml",
    "segmentation_models_pytorch": "segmentation-models-pytorch",
    "sentence_transformers": "sentence-transformers",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "snappy": "python-snappy",
    "socks": "PySocks",
    "tensorboardX": "tensorboardX",
    "tensorflow_datasets": "tensorflow-datasets",
    "tensorflow_probability": "tensorflow-probability",
    "umap": "umap-learn",
    "usb": "pyusb",
    "websocket": "websocket-client",
    "yaml": "PyYAML",
    "zmq": "pyzmq",
    **{name: name.replace("_", "-") for name in _SAME_NAME.split()},
}
"""Import name → requirement."""

BUILT: Final[dict[str, str | None]] = {
    "apex": None,  # on the index that name is another project's
    "causal_conv1d": "causal-conv1d",
    "deepspeed": "deepspeed",
    "detectron2": None,
    "cupy": "cupy",
    "flash_attn": "flash-attn",
    "mamba_ssm": "mamba-ssm",
    "mmcv": "mmcv",
    "MinkowskiEngine": "MinkowskiEngine",
    "osgeo": "GDAL",
    "pytorch3d": "pytorch3d",
    "spconv": "spconv",
    "tinycudann": "tinycudann",
    "torch_cluster": "torch-cluster",
    "torch_geometric": "torch-geometric",
    "torch_scatter": "torch-scatter",
    "torch_sparse": "torch-sparse",
    "transformer_engine": "transformer-engine",
    "triton": "triton",
    "vllm": "vllm",
    "xformers": "xformers",
}
"""Import name → distribution that is built on the spot, or that must fit torch and CUDA exactly; None: not indexed."""

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "accelerate": ("accelerate", "accelerate.commands.accelerate_cli"),
    "autotrain": ("autotrain-advanced", "autotrain.cli.autotrain"),
    "axolotl": ("axolotl", "axolotl.cli.main"),
    "fairseq-train": ("fairseq", "fairseq_cli.train"),
    "ipython": ("ipython", "IPython"),
    "jupyter": ("jupyter-core", "jupyter_core"),
    "lightning": ("lightning", "lightning"),
    "litgpt": ("litgpt", "litgpt"),
    "llamafactory-cli": ("llamafactory", "llamafactory.cli"),
    "papermill": ("papermill", "papermill"),
    "swift": ("ms-swift", "swift.cli.main"),
    "torchrun": ("torch", "torch.distributed.run"),
    "trl": ("trl", "trl.cli"),
    "tune": ("torchtune", "torchtune._cli.tune"),
    "yolo": ("ultralytics", "ultralytics"),
}
"""Console command → the distribution that brings it, and the module that it starts."""

_REQUIREMENT: Final = re.compile(
    r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?P<extras>\[[A-Za-z0-9._, -]+\])?"
    r"\s*(?:(?:===?|[<>!~]=|<|>)\s*[A-Za-z0-9.*+!_-]+\s*(?:,\s*(?:===?|[<>!~]=|<|>)\s*[A-Za-z0-9.*+!_-]+\s*)*)?"
)
_WORD_TABLE: Final = {name.replace("-", "_").casefold(): line for name, line in DISTRIBUTIONS.items()}
_NORMAL: Final = re.compile(r"[-_.]+")


def normal(name: str) -> str:
    """A distribution's name as indexes compare it: lower case, one dash for dashes, dots and underscores."""
    return _NORMAL.sub("-", name).lower()


def requirement_name(line: str) -> str | None:
    """The normal name in a plain requirement line; None for addresses, paths, options and anything else."""
    match = _REQUIREMENT.fullmatch(line.partition(";")[0].strip())
    return normal(match["name"]) if match else None


_KNOWN: Final = frozenset(
    n for n in map(requirement_name, (*DISTRIBUTIONS.values(), *(d for d, _ in COMMANDS.values()))) if n
)
_UNSURE: Final = frozenset(normal(name) for name in BUILT.values() if name)


def is_known(line: str) -> bool:
    """Whether a requirement line names a well-known distribution that installs without a compiler."""
    name = requirement_name(line)
    return name in _KNOWN and name not in _UNSURE


def distribution(module: str) -> str | None:
    """The requirement that provides a well-known import name, or None."""
    return DISTRIBUTIONS.get(module) or BUILT.get(module) or _WORD_TABLE.get(module.replace("-", "_").casefold())


def is_standard(module: str) -> bool:
    """Whether the name is the standard library's: it is missing where Python was built without it."""
    return module in sys.stdlib_module_names and module not in DISTRIBUTIONS
