"""Whether a repository's code could share a training with other nodes: it reads its rank, or a library does that.

By words alone, over all of its code: what is found there may still not be used by the entry point, but where nothing is
found each node would train all of it by itself. It knows no plan and no cluster.
"""

import re
from collections.abc import Iterable
from typing import Final

from caravan.analysis.tree import MAX_TEXT, SourceTree
from caravan.values.errors import UsageError

_CODE: Final = (".py", ".ipynb", ".sh", ".bash", ".slurm", ".sbatch", ".jl", ".r", ".c", ".cc", ".cpp", ".cu", ".rs")

# Libraries that many trainings import, and launchers, which read RANK, MASTER_ADDR and their like by themselves.
_BY_THEMSELVES: Final = (
    *("accelerate", "deepspeed", "fairscale", "horovod", "ignite", "lightning", "lightning_fabric"),
    *("mmengine", "mpi4py", "pytorch_lightning", "ray", "transformers", "trl"),
)
_PROGRAMS: Final = frozenset({*_BY_THEMSELVES, "mpirun", "mpiexec", "srun", "torchrun"})
_PLAIN: Final = frozenset(
    {"python", "python3", "bash", "sh", "env", "make", "julia", "Rscript", "jupyter", "papermill"}
)
"""Programs that run a file of the repository, which then has to say so itself."""

_READS: Final = re.compile(
    r"\b(?:RANK|WORLD_SIZE|NODE_RANK|LOCAL_RANK|GROUP_RANK|NNODES|MASTER_ADDR|MASTER_PORT|TF_CONFIG|NOMAD_ALLOC_INDEX)\b"
    r"|\b(?:SLURM_|OMPI_|PMI_|CARAVAN_(?:NODE|MASTER)_)[A-Z]"
    r"|\binit_process_group\b|\b(?:torch|jax|paddle)\.distributed\b|\bfrom torch import .*\bdistributed\b"
    r"|\bimport horovod|\bhvd\.|\btf\.distribute\b|\bMultiWorkerMirrored|\bDistributedDataParallel\b"
    r"|\btorchrun\b|\bmpirun\b|\bMPI\.COMM_WORLD\b"
    r"|--n?nodes\b|--num[-_]nodes\b|--num[-_]machines\b|\bn(?:um_|um-)?nodes\s*[=:]"
    rf"|^\s*(?:from|import)\s+(?:{'|'.join(_BY_THEMSELVES)})\b"
)
_NOTEBOOK_LINE: Final = re.compile(r'^\s*"(.*?)(?:\\n)?",?\s*$')


def shares_its_work(tree: SourceTree, command: Iterable[str]) -> bool:
    """Whether the code, or the words of its command, say that a training of it can span several nodes.

    What can't be read says nothing.
    """
    words = list(command)
    names = {re.split(r"[.:]", word.rsplit("/", 1)[-1])[0] for word in words[:2]}
    if names & _PROGRAMS or any(_READS.search(word) for word in words):
        return True
    if _is_installed(words, tree):
        return True
    return any(_reads(_text(tree, entry.path)) for entry in tree.files() if entry.path.lower().endswith(_CODE))


def _is_installed(words: list[str], tree: SourceTree) -> bool:
    """Whether the command is an installed program: neither a file of the repository nor a command that it declares.

    Nothing here says what such a trainer does on several nodes; most share their work.
    """
    first = words[0] if words else ""
    if first in _PLAIN or not re.fullmatch(r"[A-Za-z][\w-]*", first) or len(words) < 2:
        return False
    if any(entry.path.rpartition("/")[2].partition(".")[0] == first for entry in tree.files()):
        return False
    declared = re.compile(rf"""(?m)(?:^|["'])\s*{re.escape(first)}\s*["']?\s*=""")
    return not any(declared.search(_text(tree, path)) for path in ("pyproject.toml", "setup.py", "setup.cfg"))


def _reads(text: str) -> bool:
    return any(_READS.search(line) for line in map(_line, text.splitlines()) if not line.lstrip().startswith("#"))


def _line(line: str) -> str:
    """A line of code; in a notebook it is a text of a list."""
    match = _NOTEBOOK_LINE.match(line)
    return match[1] if match else line


def _text(tree: SourceTree, path: str) -> str:
    try:
        return tree.read_bytes(path, limit=MAX_TEXT).decode("utf-8", "replace")
    except UsageError:  # the tree notes it
        return ""
