"""The environment of an entry, put together from what the readers find: files, lines, versions, system packages.

Pure, over `Sources`. Which dependency files count for the entry is decided elsewhere and handed in; what becomes of the
findings in a plan is not known here.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from posixpath import basename, dirname, join, normpath
from typing import Final

from caravan.analysis.cuda_signs import cuda_signs, gpu_only
from caravan.analysis.dockerfiles import read_dockerfile
from caravan.analysis.findings import Module
from caravan.analysis.install_docs import ASIDE, Told, told_near, with_own, with_told
from caravan.analysis.needs import brought, missing_packages
from caravan.analysis.requirements import Declaration, declaration, locked, names_of
from caravan.analysis.sources import Sources
from caravan.analysis.system import INSTALLED, is_needed, system_packages
from caravan.values.distributions import distribution, normal, requirement_name
from caravan.values.environment import Dockerfile, ImportNeed, PythonWish, RepoEnvironment, SystemPackage, Wanted
from caravan.values.places import SourceLine
from caravan.values.repo import Launcher

MAX_DECLARED: Final = 300
_LOCKS: Final = ("uv.lock", "poetry.lock", "pdm.lock")
_GROUPS: Final = re.compile(r"(?i)^(?:main|train\w*|finetun\w*|gpu|cuda)$")
# conda's name → the index's, where they differ; what stands here and is None comes with another one or with the image.
_CONDA_NAMES: Final[dict[str, str | None]] = {
    "pytorch": "torch",
    "pytorch-gpu": "torch",
    "pytorch-cuda": None,
    "pytorch-mutex": None,
    "cudatoolkit": None,
    "cuda-toolkit": None,
    "cuda": None,
    "cudnn": None,
    "pip": None,
    "setuptools": None,
    "wheel": None,
    "matplotlib-base": "matplotlib",
    "opencv": "opencv-python-headless",
    "py-opencv": "opencv-python-headless",
    "faiss-gpu": "faiss-gpu-cu12",
    "pytables": "tables",
    "dataclasses": None,
    "tensorboardx": "tensorboardX",
    "python-lmdb": "lmdb",
    "huggingface_hub": "huggingface-hub",
}
_CONDA_SYSTEM: Final = {
    "ffmpeg": "ffmpeg",
    "ninja": "ninja-build",
    "gcc": "gcc",
    "gxx": "g++",
    "gcc_linux-64": "gcc",
    "gxx_linux-64": "g++",
    "git": "git",
    "git-lfs": "git-lfs",
    "libsndfile": "libsndfile1",
    "openmpi": "openmpi-bin",
    "sox": "sox",
    "cmake": "cmake",
    "graphviz": "graphviz",
}


def read_environment(
    files: Sequence[str], modules: Sequence[Module], launcher: Launcher, docker: str | None, sources: Sources
) -> RepoEnvironment:
    """The environment. `files`: the dependency files for the entry; `modules`: its own, then those that it reaches."""
    read = [declaration(p, sources.text(p) or "") for p in files]
    folder = dirname(modules[0].path) if modules else ""
    told = with_own(told_near(folder, sources), frozenset(normal(d.name) for d in read if d.name))
    requirements = _requirement_files(read)
    own, own_lines, notes = _own(read, told, modules, launcher, requirements, sources)
    pip, more = _lines(read, requirements, own, sources)
    plain = [w for d in read if _is_plain(d.path) for w in d.lines]
    declared = tuple(dict.fromkeys((*plain, *own_lines, *pip)))[:MAX_DECLARED]
    image = _dockerfile(docker, sources)
    indexes = tuple(i for d in read for i in d.indexes) + told.indexes
    hidden = own is not None and any(d.computed and not d.lines for d in read)
    missing = () if hidden else missing_packages(modules, names_of(declared), sources)
    missing = (*missing, *_launchers(launcher, names_of((*declared, *_requirements_of(missing))), modules))
    missing, documented, skipped = with_told(missing, told, _imported(modules), names_of(declared))
    pip, declared = (*pip, *documented), (*declared, *documented)
    added = list(_requirements_of(missing))
    setups = [p for p in files if basename(p) == "setup.py"] if own else []
    asked = system_packages((*declared, *added), sources, [m.path for m in modules[:10]], setups)
    return RepoEnvironment(
        requirements=requirements,
        own=own,
        pip=pip,
        declared=declared,
        missing=missing,
        pythons=tuple(_pythons(read, told, image, folder, sources)),
        cuda=cuda_signs(declared, indexes, read, image),
        gpu_only=gpu_only((*declared, *added)),
        system=_once((*(image.apt if image else ()), *told.apt, *_conda_system(read), *asked)),
        indexes=tuple(dict.fromkeys(indexes))[:20],
        dockerfile=image,
        notes=tuple(dict.fromkeys((*notes, *more, *skipped)))[:20],
    )


def _requirement_files(read: Sequence[Declaration]) -> tuple[str, ...]:
    """The requirements files that are installed, without those that another one includes."""
    plain = [d for d in read if _is_plain(d.path)]
    included = {normpath(join(dirname(d.path), i)) for d in plain for i in d.includes}
    built = {normpath(join(dirname(d.path), i)) for d in read if not _is_plain(d.path) for i in d.includes}
    return tuple(d.path for d in plain if d.path not in included) + tuple(
        sorted(built - included - {d.path for d in plain})
    )


def _is_plain(path: str) -> bool:
    return path.endswith((".txt", ".in"))


def _requirements_of(missing: Iterable[ImportNeed]) -> Iterator[Wanted]:
    return (Wanted(line=n.requirement, where=n.where) for n in missing if n.requirement)


def _imported(modules: Sequence[Module]) -> frozenset[str]:
    return frozenset(i.module.partition(".")[0] for m in modules for i in m.imports if not i.level)


def _launchers(launcher: Launcher, named: frozenset[str], modules: Sequence[Module]) -> Iterator[ImportNeed]:
    """The program that starts the entry, where nothing brings it."""
    tool = {Launcher.ACCELERATE: "accelerate", Launcher.DEEPSPEED: "deepspeed", Launcher.NOTEBOOK: "papermill"}
    name = tool.get(launcher)
    if name and name not in brought(named) and modules:
        where = SourceLine(file=modules[0].path, line=0, text=f"is started by {name}")
        yield ImportNeed(module=name, requirement=name, where=where)


def _own(
    read: Sequence[Declaration],
    told: Told,
    modules: Sequence[Module],
    launcher: Launcher,
    requirements: Sequence[str],
    sources: Sources,
) -> tuple[str | None, tuple[Wanted, ...], tuple[str, ...]]:
    """The repository's own package where it is installed, with what it brings; and remarks."""
    builds = [d for d in read if d.builds]
    if not builds:
        return None, (), ()
    folder = dirname(builds[0].path)
    beside = [d for d in builds if dirname(d.path) == folder]
    lists = bool(requirements) or any(d.conda or d.path.endswith((".yml", ".yaml")) for d in read)
    if lists and launcher is not Launcher.CLI and not told.editable and not _is_imported(folder, modules, sources):
        return None, (), ()
    known = {e: lines for d in beside for e, lines in d.extras.items()}
    used = {requirement_name(distribution(n) or "") or normal(n) for n in _imported(modules)}
    wanted = [e for e in told.extras if e in known and not ASIDE.search(e)]
    wanted = [e for e in wanted if _GROUPS.match(e)] or [e for e in wanted if names_of(known[e]) & used]
    lines = [w for d in beside for w in d.lines] + [w for e in wanted for w in known[e]]
    place = f"./{folder}" if folder else "."
    if not re.fullmatch(r"[\w./-]+", place):
        return None, tuple(lines), (f"the package in {folder} has a name that pip takes for something else",)
    return place + (f"[{','.join(wanted)}]" if wanted else ""), tuple(lines), ()


def _is_imported(folder: str, modules: Sequence[Module], sources: Sources) -> bool:
    """Whether the entry imports the package by a name that only an install puts on the path (a `src` directory, or a
    package beside setup.py that lies above the entry's directory)."""
    here = dirname(modules[0].path) if modules else ""
    names = _imported(modules)
    for top in (folder, f"{folder}/src" if folder else "src"):
        if top == here:
            continue
        if any((f"{top}/{n}" if top else n) + "/__init__.py" in sources.paths for n in names if n):
            return True
    return False


def _lines(
    read: Sequence[Declaration], requirements: Sequence[str], own: str | None, sources: Sources
) -> tuple[tuple[Wanted, ...], tuple[str, ...]]:
    """What no requirements file and no package of the repository brings: of conda, of a project that builds nothing."""
    lines: list[Wanted] = []
    notes: list[str] = []
    for declared in read:
        if declared.path.endswith((".yml", ".yaml")) and not requirements:
            lines += declared.lines
            lines += _of_conda(declared, notes)
        elif not _is_plain(declared.path) and own is None and not requirements:
            lines += declared.lines
        for group, content in declared.groups.items():
            lines += content if _GROUPS.match(group) else ()
    pins = _locks(read, sources)
    direct = [w for d in read if not _is_plain(d.path) for w in d.lines] if own else lines
    if pins and not requirements:
        lines = [*([] if own else lines), *_pinned(direct, pins)] if own else _pinned(lines, pins, keep=True)
        notes.append(f"versions are those of {next(iter(pins.values()))[1].file}, for what the project itself names")
    return tuple({w.line: w for w in lines}.values()), tuple(notes)


def _locks(read: Sequence[Declaration], sources: Sources) -> dict[str, tuple[str, SourceLine]]:
    for declared in read:
        for name in _LOCKS if not _is_plain(declared.path) else ():
            path = join(dirname(declared.path), name)
            text = sources.text(path) if path in sources.paths else None
            if text and (found := locked(path, text)):
                return dict(found)
    return {}


def _pinned(lines: Iterable[Wanted], pins: dict[str, tuple[str, SourceLine]], *, keep: bool = False) -> list[Wanted]:
    """The lines at the versions of a lock file; with `keep` also those that it has none for."""
    found = []
    for wanted in lines:
        name = requirement_name(wanted.line)
        marked = ";" in wanted.line or "@" in wanted.line
        if name in pins and not marked:
            version, where = pins[name]
            extras = re.search(r"\[[^\]]+\]", wanted.line)
            found.append(Wanted(line=f"{name}{extras[0] if extras else ''}=={version}", where=where))
        elif keep:
            found.append(wanted)
    return found


def _of_conda(declared: Declaration, notes: list[str]) -> Iterator[Wanted]:
    """conda's packages by the names that the index has, where they are known; the others are told."""
    unknown = []
    for name, version, where in declared.conda:
        if name in _CONDA_SYSTEM or name.startswith(("lib", "_", "cuda-", "nvidia-", "vc", "intel-", "mkl")):
            continue
        line = _CONDA_NAMES.get(name, "") if name in _CONDA_NAMES else None
        if name in _CONDA_NAMES and line is None:
            continue
        known = line or distribution(name.replace("-", "_")) or (distribution(name) or "")
        if not known and normal(name) not in _KNOWN_CONDA:
            unknown.append(name)
            continue
        plain = requirement_name(known) or normal(name)
        # conda builds of a version are not on the index by that number for all; two parts of it are enough to say.
        exact = re.fullmatch(r"\d+(?:\.\d+){0,3}", version)
        spec = "" if not exact else f"=={version}" if version.count(".") >= 2 else f"=={version}.*"
        yield Wanted(line=f"{plain}{spec}", where=where)
    if unknown:
        notes.append(f"{declared.path} names what pip may not have: {', '.join(unknown[:8])}")


_KNOWN_CONDA: Final = frozenset({"torchvision", "torchaudio", "numpy", "scipy", "cython", "pyyaml", "scikit-image"})


def _conda_system(read: Sequence[Declaration]) -> Iterator[SystemPackage]:
    for declared in read:
        for name, _, where in declared.conda:
            if name in _CONDA_SYSTEM:
                yield SystemPackage(name=_CONDA_SYSTEM[name], why="conda would bring it", where=where)


def _pythons(
    read: Sequence[Declaration], told: Told, image: Dockerfile | None, folder: str, sources: Sources
) -> Iterator[PythonWish]:
    """Bounds first, then versions that were used, the most telling first."""
    wishes = [w for d in read for w in d.pythons]
    yield from (w for w in wishes if w.required)
    for place in dict.fromkeys((folder, "")):
        path = f"{place}/.python-version" if place else ".python-version"
        text = (sources.text(path) or "").strip() if path in sources.paths else ""
        if match := re.match(r"3\.\d+", text):
            yield PythonWish(specifier=f"=={match[0]}.*", where=SourceLine(file=path, line=1, text=text[:80]))
    yield from (w for w in wishes if not w.required and w.where.file.endswith((".yml", ".yaml", "Pipfile")))
    if image and image.trains and (match := re.search(r"(?:^|/)python:(3\.\d+)", image.base or "")):
        yield PythonWish(specifier=f"=={match[1]}.*", where=image.where)
    yield from told.pythons
    yield from (w for w in wishes if not w.required and w.where.file.endswith((".toml", ".py")))


def _dockerfile(path: str | None, sources: Sources) -> Dockerfile | None:
    text = sources.text(normpath(path)) if path and normpath(path) in sources.paths else None
    return read_dockerfile(normpath(path), text) if path and text else None


def _once(packages: Iterable[SystemPackage]) -> tuple[SystemPackage, ...]:
    found: dict[str, SystemPackage] = {}
    for package in packages:
        if package.why != INSTALLED or is_needed(package.name):
            found.setdefault(package.name, package)
    return tuple(found.values())[:60]
