"""System packages that an entry needs: by what is installed, imported and kept in git-lfs. Pure.

Names are apt's on Debian and Ubuntu, where the images that trainings come from are made.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from caravan.analysis.sources import Sources
from caravan.values.environment import SystemPackage, Wanted
from caravan.values.places import SourceLine

# Distribution → apt packages, by the build and run notes of each project.
COMPILED: Final = "it compiles code on the spot"
BY_DISTRIBUTION: Final[Mapping[str, tuple[tuple[str, ...], str]]] = {
    "apex": (("g++", "ninja-build"), COMPILED),
    "causal-conv1d": (("g++", "ninja-build"), COMPILED),
    "deepspeed": (("g++", "ninja-build"), "its operators are compiled at the first use"),
    "detectron2": (("g++", "git"), COMPILED),
    "fairseq": (("g++",), COMPILED),
    "flash-attn": (("g++", "ninja-build"), COMPILED),
    "mamba-ssm": (("g++", "ninja-build"), COMPILED),
    "mpi4py": (("libopenmpi-dev", "openmpi-bin", "gcc"), "it is built over MPI"),
    "horovod": (("libopenmpi-dev", "openmpi-bin", "g++", "cmake"), "it is built over MPI"),
    "pycocotools": (("gcc",), "older versions are compiled"),
    "pyaudio": (("portaudio19-dev", "gcc"), "it is built over PortAudio"),
    "pysoundfile": (("libsndfile1",), "it loads libsndfile"),
    "soundfile": (("libsndfile1",), "it loads libsndfile"),
    "librosa": (("libsndfile1", "ffmpeg"), "it reads sound by libsndfile and ffmpeg"),
    "torchaudio": (("ffmpeg",), "it reads most formats by ffmpeg"),
    "pydub": (("ffmpeg",), "it calls ffmpeg"),
    "moviepy": (("ffmpeg",), "it calls ffmpeg"),
    "ffmpeg-python": (("ffmpeg",), "it calls ffmpeg"),
    "openai-whisper": (("ffmpeg",), "it calls ffmpeg"),
    "opencv-python": (("libgl1", "libglib2.0-0"), "it loads libGL and glib"),
    "opencv-contrib-python": (("libgl1", "libglib2.0-0"), "it loads libGL and glib"),
    "pyopengl": (("libgl1",), "it loads libGL"),
    "open3d": (("libgl1", "libgomp1"), "it loads libGL"),
    "gitpython": (("git",), "it calls git"),
    "pytorch3d": (("g++", "ninja-build"), COMPILED),
    "torch-scatter": (("g++",), COMPILED),
    "torch-sparse": (("g++",), COMPILED),
    "torch-cluster": (("g++",), COMPILED),
    "lightgbm": (("libgomp1",), "it loads libgomp"),
    "pygraphviz": (("graphviz", "libgraphviz-dev", "gcc"), "it is built over graphviz"),
    "mujoco-py": (("libosmesa6-dev", "libgl1", "gcc", "patchelf"), "it is built over OSMesa"),
}
INSTALLED: Final = "installed there"
"""Why a package is there that a Dockerfile or a README names."""
_USEFUL: Final = re.compile(
    r"(?:lib(?!python|cuda|cudnn|nccl|nv|cublas|rdmacm|ibverbs)[\w.+-]+|[\w.+-]+-dev|build-essential|gcc|g\+\+|clang|cmake|make"
    r"|ninja-build|git|git-lfs|ffmpeg|sox|openmpi-bin|wget|curl|unzip|aria2|graphviz|espeak(?:-ng)?|gfortran|patchelf)"
)
_CALLED: Final = {"ffmpeg": "ffmpeg", "ffprobe": "ffmpeg", "sox": "sox", "git": "git", "git-lfs": "git-lfs"}
_CALLS: Final = re.compile(r"""["'](ffmpeg|ffprobe|sox|git-lfs|git|wget|curl|unzip|aria2c)[ "']""")
_EXTENSION: Final = re.compile(
    r"\b(CUDAExtension|CppExtension|CMakeExtension|BuildExtension|Extension|load_inline)\s*\("
)


def is_needed(name: str) -> bool:
    """Whether a package that somebody has in their image is one that programs need, and no tool for people at it.

    CUDA, drivers and Python are the image's own matter.
    """
    return bool(_USEFUL.fullmatch(name)) and not re.match(r"(?:lib)?(?:python|cuda|cudnn|nvidia|nccl|tensorrt)", name)


def system_packages(
    lines: Iterable[Wanted], sources: Sources, modules: Iterable[str], setups: Iterable[str]
) -> tuple[SystemPackage, ...]:
    """What the installed packages, the entry's modules, its setup files and git-lfs ask for; each package once."""
    found: dict[str, SystemPackage] = {}
    for package in (*_installed(lines), *_called(modules, sources), *_extensions(setups, sources), *_lfs(sources)):
        found.setdefault(package.name, package)
    return tuple(found.values())


def _installed(lines: Iterable[Wanted]) -> Iterator[SystemPackage]:
    from packaging.requirements import Requirement

    from caravan.values.distributions import normal

    for wanted in lines:
        required = Requirement(wanted.line)
        names, why = BY_DISTRIBUTION.get(normal(required.name), ((), ""))
        yield from (SystemPackage(name=n, why=f"{required.name}: {why}", where=wanted.where) for n in names)
        if (required.url or "").startswith("git+"):
            yield SystemPackage(name="git", why=f"{required.name} is fetched by git", where=wanted.where)


def _called(modules: Iterable[str], sources: Sources) -> Iterator[SystemPackage]:
    """Programs that the code starts as processes."""
    for path in modules:
        text = sources.text(path) or ""
        if not re.search(r"\bsubprocess\b|\bos\.system\b|\bPopen\b", text):
            continue
        for number, line in enumerate(text.split("\n"), start=1):
            match = _CALLS.search(line) if re.search(r"system|run|call|Popen|check_|cmd|command", line) else None
            if match:
                where = SourceLine(file=path, line=number, text=line.strip()[:300])
                yield SystemPackage(name=_CALLED.get(match[1], match[1]), why="the code starts it", where=where)


def _extensions(setups: Iterable[str], sources: Sources) -> Iterator[SystemPackage]:
    for path in setups:
        text = sources.text(path) or ""
        match = _EXTENSION.search(text)
        if match:
            number = text.count("\n", 0, match.start()) + 1
            where = SourceLine(file=path, line=number, text=match[0])
            yield SystemPackage(name="g++", why="the repository compiles an extension", where=where)
            yield SystemPackage(name="ninja-build", why="the repository compiles an extension", where=where)


def _lfs(sources: Sources) -> Iterator[SystemPackage]:
    text = sources.text(".gitattributes") or ""
    for number, line in enumerate(text.split("\n"), start=1):
        if "filter=lfs" in line and not line.lstrip().startswith("#"):
            where = SourceLine(file=".gitattributes", line=number, text=line.strip()[:300])
            yield SystemPackage(name="git-lfs", why="files of the repository are kept in git-lfs", where=where)
            return
