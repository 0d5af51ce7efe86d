"""Names that patterns tell apart: well-known libraries, folders of a repository's own, build tools. Only data."""

from typing import Final

LIBRARIES: Final = (
    "accelerate|apex|axolotl|bitsandbytes|datasets|deepspeed|diffusers|evaluate|fairseq|flax|gensim|huggingface_hub|jax"
    "|jupyter|keras|lightning|llamafactory|megatron|mpi4py|nbconvert|nltk|numpy|onnx|optax|optimum|pandas|papermill|peft"
    "|pip|pytest|pytorch_lightning|ray|scipy|sentence_transformers|sentencepiece|setuptools|sklearn|spacy|tensorboard"
    "|tensorflow|timm|tokenizers|torch|torchaudio|torchvision|transformers|trl|unsloth|uvicorn|vllm|wandb|wheel|xformers"
)
"""Import names of libraries that a training uses or is started by, as alternatives of a pattern."""

NAMESPACES: Final = "azure|google|mpl_toolkits|nvidia|ruamel|sphinxcontrib|zope"
"""First parts that many packages share: that one of them is there does not say that another is."""

OWN_FOLDERS: Final = (
    "common|conf|configs?|core|data_utils|dataloaders?|engine|helpers?|libs?|losses|models?|modules|networks?|options"
    "|preprocess(?:ing)?|project|scripts?|src|tasks|tools|train(?:er|ers|ing)?|utilities|utils?"
)
"""What repositories call their own folders and modules; no package that a training needs is called so."""

TOOLCHAIN: Final = r"nvcc|gcc|g\+\+|cc|c\+\+|clang|cmake|make|ninja|rustc|cargo|hipcc"
"""Programs that build packages."""

PROGRAMS: Final = (
    "aria2c|aws|curl|docker|espeak(?:-ng)?|ffmpeg|ffprobe|gcloud|git|git-lfs|gsutil|java|lspci|nvidia-smi|perl"
    "|pkg-config|rclone|rsync|sox|ssh|swig|tesseract|unzip|wget|zip"
)
"""Programs that a training calls by their bare name, so that a missing file of that name is the program."""
