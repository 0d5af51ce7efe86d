"""Signs that versions do not fit: of packages, of Python, or of what a package index has. Only data.

A library that trips over another library is a conflict; code of the user's that trips over itself is none. Which of
both it was, the frame above the exception tells.
"""

from typing import Final

from caravan.diagnosis.sign import Origin, Sign, row
from caravan.diagnosis.signs.names import LIBRARIES
from caravan.values.failure import FailureClass

_F = FailureClass
_LOG: Final = Origin.LOG
_FIT: Final = _F.PACKAGE_VERSION_CONFLICT
_AFTER: Final = (_F.USER_CODE_BUG, _F.MISSING_PYTHON_PACKAGE, _F.TRAINING_CONFIG_INVALID, _F.CHECKPOINT_UNUSABLE)
_CODE: Final = (_F.USER_CODE_BUG, _F.TRAINING_CONFIG_INVALID)

_FRAME: Final = r"^\s+File \"[^\"]*(?:site|dist)-packages/"
_PIP: Final = r"^(?:#\d+ [\d.]+ )?(?:\s*)(?:ERROR|error)"
_REQ: Final = r"[A-Za-z][\w.-]*(?:\[[\w,-]+\])?(?:\s*[<>=!~]=?=?\s*[\w.*+!,<>=~ -]*[\w*])?"
# Names of classes and functions that well-known libraries define: who passes what they don't take has another one.
_KNOWN: Final = (
    r"(?:\w*TrainingArguments|(?:SFT|DPO|PPO|KTO|ORPO|GRPO|RLOO|CPO|Reward|Seq2Seq)?(?:Trainer"
    r"|Config)|Lora\w*Config|BitsAndBytesConfig|GenerationConfig"
    r"|\w+For(?:CausalLM|ConditionalGeneration|SequenceClassification|TokenClassification"
    r"|QuestionAnswering|MaskedLM)|Auto\w+|\w+Tokenizer(?:Fast)?|Accelerator|AcceleratorState"
    r"|DataLoader|Dataset|load_dataset|hf_hub_download|snapshot_download|from_pretrained"
    r"|EarlyStopping|ModelCheckpoint|LightningModule"
    r"|prepare_model_for_(?:kbit|int8)_training|get_peft_model|Adam\w*|SGD|GradScaler|autocast"
    r"|ReduceLROnPlateau|FullyShardedDataParallel|DistributedDataParallel"
    r"|Wandb\w*|WandbLogger|TensorBoardLogger|DeepSpeed\w*|torch_dtype|LLM|SamplingParams|EngineArgs)"
)
# Names that the standard library has in some versions of Python only: any other one is a slip of who imports it.
_ABSTRACT: Final = (
    r"Awaitable|Callable|Collection|Container|Coroutine|Generator|Hashable|ItemsView|Iterable|Iterator|KeysView"
    r"|Mapping(?:View)?|Mutable(?:Mapping|Sequence|Set)|Reversible|Sequence|Set|Sized|ValuesView"
)
_TYPES: Final = (
    r"Annotated|assert_(?:never|type)|Concatenate|dataclass_transform|Final|final|get_(?:args|origin)|get_overloads|Literal"
    r"|LiteralString|Never|NotRequired|OrderedDict|override|ParamSpec(?:Args|Kwargs)?|Protocol|ReadOnly|Required|Self"
    r"|TypeAlias(?:Type)?|TypedDict|TypeGuard|TypeIs|TypeVarTuple|Unpack|io|re|ByteString"
)
_OF_PYTHON: Final = (
    rf"(?:{_ABSTRACT})' from 'collections'|(?:{_TYPES})' from 'typing'|(?:StrEnum|EnumType|verify|member)' from 'enum'"
    r"|UTC' from 'datetime'|gcd' from 'fractions'|(?:getargspec|formatargspec|getmoduleinfo)' from 'inspect'"
    r"|(?:TaskGroup|Runner|timeout|coroutine|async|to_thread)' from 'asyncio'"
    r"|(?:cache|cached_property)' from 'functools'"
    r"|(?:pairwise|batched)' from 'itertools'|(?:chdir|nullcontext|aclosing)' from 'contextlib'"
    r"|(?:metadata|resources)' from 'importlib'|KW_ONLY' from 'dataclasses'|(?:NoneType|UnionType)' from 'types'"
)

VERSION_SIGNS: Final[tuple[Sign, ...]] = (
    # What installers say.
    row(
        rf"{_PIP}: Could not find a version that satisfies the requirement (?P<want>\S+)(?:.*\(from"
        rf" versions: (?P<versions>[^)]*)\))?",
        _LOG,
        _FIT,
        0.94,
        *_AFTER,
        kind="requirement",
    ),
    row(
        rf"{_PIP}: No matching distribution found for"
        rf" (?P<package>[^\s(]+)",
        _LOG,
        _FIT,
        0.9,
        *_AFTER,
        kind="requirement",
    ),
    row(
        rf"{_PIP}: (?:Cannot install (?P<conflicts>.+?) because these package versions have"
        rf" conflicting dependencies|ResolutionImpossible)"
        r"|\bNo solution found when resolving|\bversion solving failed\b|\bSolverProblemError\b"
        r"|\bUnsatisfiableError\b|\bLibMambaUnsatisfiableError\b"
        r"|\bCould not solve for environment specs|\bhave conflicting dependencies\b"
        r"|\bThe user requested (?P<conflicts2>.+)$"
        r"|\bwe can conclude that .{0,200}(?:are incompatible|requirements are unsatisfiable)"
        r"|\byour requirements are unsatisfiable",
        _LOG,
        _FIT,
        0.94,
        *_AFTER,
        kind="resolver",
    ),
    row(
        r"\b(?:Package '?(?P<package>[\w.-]+)'? )?requires a different Python: (?P<have>[\d.]+) not"
        r" in '?(?P<want>[^']+)"
        r"|\b[Rr]equires-?[Pp]ython\b.{0,60}(?:not (?:satisf|compatible|support)|incompatible)"
        r"|\bis not a supported wheel (?:on|for) this platform"
        r"|\bPackagesNotFoundError\b|\bResolvePackageNotFound\b|\b[Nn]o wheels? (?:with a matching|for|are available)"
        r"|\bhas no wheels with a matching|\bdoesn't have a (?:source distribution|wheel)"
        r"|\bno (?:source distribution|wheel) for the current platform",
        _LOG,
        _FIT,
        0.94,
        *_AFTER,
        kind="python",
    ),
    row(
        r"^(?:\w+\.)*(?:VersionConflict"
        r"|ContextualVersionConflict): \((?P<have>[\w.+-]+ [\w.+-]+).*?Requirement\.parse\('(?P<want>[^']+)'\)",
        _LOG,
        _FIT,
        0.96,
        *_AFTER,
        kind="requirement",
    ),
    row(
        rf"{_PIP}: Could not install packages due to an OSError: .*No such file or directory"
        r"|\berror: externally-managed-environment|\bThis environment is externally managed",
        _LOG,
        _FIT,
        0.85,
        *_AFTER,
        _F.DATA_PATH_MISSING,
        kind="platform",
    ),
    # What libraries say of each other.
    row(
        rf"\bImportError: (?P<want>{_REQ}) is required for a normal functioning of this module, but"
        rf" found (?P<have>[\w=+-]+(?:\.[\w+-]+)*)"
        rf"|\bImportError: .*?\b(?:requires?|needs?) (?:[`'\"]"
        rf"|version )?(?P<want2>[\w.-]+[<>=~]=?[\w.]+).*\b(?:but|found|have|installed)\b",
        _LOG,
        _FIT,
        0.96,
        *_AFTER,
        kind="requirement",
    ),
    row(
        r"\bImportError: cannot import name '(?P<symbol>\w+)' from '(?P<module>[\w.]+)' \((?!unknown"
        r" location)[^)]*(?:site|dist)-packages[^)]*\)",
        _LOG,
        _FIT,
        0.95,
        *_AFTER,
        kind="symbol",
    ),
    row(
        rf"\bcannot import name '(?:{_OF_PYTHON})",
        _LOG,
        _FIT,
        0.94,
        *_AFTER,
        kind="python",
    ),
    row(
        rf"\bcannot import name '(?P<symbol>\w+)' from '(?P<module>(?:{LIBRARIES})[\w.]*)'",
        _LOG,
        _FIT,
        0.94,
        *_AFTER,
        kind="symbol",
    ),
    row(
        r"\bImportError: cannot import name"
        r" '(?P<symbol>\w+)'",
        _LOG,
        _FIT,
        0.88,
        *_AFTER,
        above=_FRAME,
        kind="symbol",
    ),
    row(
        rf"\bNo module named '(?P<module>(?:{LIBRARIES})\.[\w.]+)'(?!; )",
        _LOG,
        _FIT,
        0.93,
        *_AFTER,
        kind="symbol",
    ),
    row(
        r"\bNo module named '(?P<module>[A-Za-z_]\w*\.[\w.]+)'(?!; )",
        _LOG,
        _FIT,
        0.85,
        *_AFTER,
        _F.ENTRYPOINT_NOT_FOUND,
        above=_FRAME,
        kind="symbol",
    ),
    row(
        r"\bNo module named '(?P<module>(?:distutils|imp|asyncore|cgi"
        r"|pipes)(?:\.[\w.]+)?)'",
        _LOG,
        _FIT,
        0.9,
        *_AFTER,
        kind="python",
    ),
    row(
        rf"\bAttributeError: (?:partially initialized )?module '?(?P<module>(?:{LIBRARIES}|collections"
        rf"|inspect|pkgutil|typing|asyncio|ast|distutils|cv2|PIL|google)[\w.]*)'? has no attribute '?(?P<symbol>\w+)",
        _LOG,
        _FIT,
        0.92,
        *_AFTER,
        kind="symbol",
    ),
    row(
        r"\bAttributeError: (?:type object )?'(?P<module>(?!NoneType|str|int|float|list|dict|tuple"
        r"|bool|Tensor|set|function)\w+)'(?: object)? has no attribute '(?P<symbol>\w+)'",
        _LOG,
        _FIT,
        0.78,
        _F.USER_CODE_BUG,
        above=_FRAME,
        kind="symbol",
    ),
    # The frame right above it is a library's: one that calls another one.
    row(
        r"\bTypeError: (?P<symbol>[\w.]+)\(\) (?:got an unexpected keyword argument"
        r"|got multiple values for argument|missing \d+ required positional arguments?:) '(?P<option>\w+)'",
        _LOG,
        _FIT,
        0.88,
        *_CODE,
        above=_FRAME,
        kind="argument",
    ),
    row(
        rf"\bTypeError: (?P<symbol>(?:[\w]+\.)*{_KNOWN}(?:\.[\w]+)?)\(\) got an unexpected keyword"
        rf" argument '(?P<option>\w+)'"
        rf"|\bTypeError: (?:__init__|from_pretrained"
        rf"|__new__)\(\) got an unexpected keyword argument '(?P<option2>\w+)'",
        _LOG,
        _FIT,
        0.9,
        *_CODE,
        kind="argument",
    ),
    row(
        r"\bmodel type `(?P<value>[\w.-]+)` but Transformers does not recognize this architecture"
        r"|\bTransformers version is out of date"
        r"|\bTokenizer class (?P<symbol>\w+) does not exist or is not currently imported"
        r"|\bUnrecognized configuration class|\bUnrecognized model in\b"
        r"|\brope_scaling` must be a dictionary|\brope_scaling must be a dictionary",
        _LOG,
        _FIT,
        0.95,
        *_AFTER,
        _F.HUB_NOT_FOUND,
        package="transformers",
        kind="model",
    ),
    row(
        r"^KeyError: '(?P<value>[a-z][\w-]*)'",
        _LOG,
        _FIT,
        0.9,
        *_AFTER,
        above=r"CONFIG_MAPPING|configuration_auto\.py",
        package="transformers",
        kind="model",
    ),
    row(
        r"\bFailed to import (?P<module>(?:transformers|diffusers|trl|peft"
        r"|datasets)[\w.]*) because of the following error",
        _LOG,
        _FIT,
        0.72,
        _F.USER_CODE_BUG,
        kind="symbol",
    ),
    # Binary interfaces.
    row(
        r"\bnumpy\.(?:dtype|ufunc|ndarray) size changed, may indicate binary incompatibility"
        r"|\bcompiled using NumPy 1\.x cannot be run in"
        r"|\bnumpy\.core\.multiarray failed to import|\bRuntimeError: Numpy is not available|\b_ARRAY_API not found"
        r"|\bmodule compiled against ABI version",
        _LOG,
        _FIT,
        0.94,
        *_AFTER,
        package="numpy",
        kind="abi",
        mild=True,
    ),
    row(
        r"\bcompiled with different CUDA major versions|\boperator torchvision::nms does not exist"
        r"|\bCouldn't load custom C\+\+ ops"
        r"|\bversion `(?P<value>(?:GLIBC|GLIBCXX|CXXABI)_[\d.]+)' not found"
        r"|\.so[\w.]*: undefined symbol: (?P<symbol>\w+)"
        r"|\b(?:ImportError|OSError): (?P<library>lib(?:cudart|cublas|cublasLt|cudnn\w*|nvrtc"
        r"|cusparse|cusolver|cufft|curand|nccl|cupti|nvJitLink|c10|torch\w*)\.so[\w.]*): cannot open shared object"
        r"|\bdetected CUDA version \((?P<have>[\d.]+)\) mismatches the version that was used to"
        r" compile\b|\bCUDAMismatchException\b"
        r"|\bInstalled CUDA version (?P<have2>[\d.]+) does not match the version torch was compiled"
        r" with|\bwas compiled (?:against|for|with) (?:a different|another)",
        _LOG,
        _FIT,
        0.92,
        *_AFTER,
        _F.BUILD_TOOLCHAIN_MISSING,
        kind="abi",
    ),
    row(
        r"Found (?P<library>(?!CUDA\b)\w+) version (?P<have>\d+), but JAX was built against version (?P<want>\d+)"
        r"|\bcuDNN version incompatibility: |\bCUDNN_STATUS_VERSION_MISMATCH\b|\bLoaded runtime CuDNN library: "
        r"(?P<have2>[\d.]+) but source was compiled with: (?P<want2>[\d.]+)"
        r"|\bjaxlib is version (?P<have3>[\d.]+), but "
        r"this version of jax requires|\bjaxlib version (?P<have4>[\d.]+) is newer than and incompatible with jax",
        _LOG,
        _FIT,
        0.93,
        *_AFTER,
        _F.CUDA_DEVICE_UNAVAILABLE,
        kind="abi",
        mild=True,
    ),
    row(
        r"\bCUBLAS_STATUS_INVALID_VALUE\b",
        _LOG,
        _FIT,
        0.6,
        _F.USER_CODE_BUG,
        kind="abi",
    ),
    # JAX and its plugin, and xFormers of another torch than the one that is there.
    row(
        r"\bMismatched PJRT plugin PJRT API version",
        _LOG,
        _FIT,
        0.95,
        *_CODE,
        _F.CUDA_DEVICE_UNAVAILABLE,
        kind="abi",
        package="jaxlib",
    ),
    row(
        r"\bNo operator found for `memory_efficient_attention_\w+` with inputs",
        _LOG,
        _FIT,
        0.8,
        *_CODE,
        kind="abi",
        package="xformers",
    ),
    row(
        r"\bDescriptors cannot(?: not)? be created directly|\bPydanticImportError\b"
        r"|\bPydanticUserError\b.{0,80}(?:v2|removed|deprecated)"
        r"|\bLoading a dataset cached in a LocalFileSystem is not supported"
        r"|\bInvalid pattern: '\*\*' can only be an entire path component"
        r"|\bhas been (?:removed|moved) (?:from|in|to) (?:\w+ )?(?:version |v)?\d"
        r"|\bis no longer supported (?:in|by|since) (?:version |v)?[\w.]+ ?\d"
        r"|\bwas removed in (?:the )?(?:\w+ )?(?:v|version )?\d[\d.]*|\bTorchScript.{0,40}unsupported version",
        _LOG,
        _FIT,
        0.88,
        *_CODE,
        kind="requirement",
    ),
    row(
        r"\bTypeError: '(?:type|ABCMeta|_GenericAlias|function)' object is not subscriptable"
        r"|\bTypeError: unsupported operand type\(s\) for \|: 'type' and"
        r"|\bSyntaxError: .*(?:positional-only|walrus|match statement)"
        r"|\bthis version of (?P<package>[\w-]+) (?:needs|requires) [Pp]ython",
        _LOG,
        _FIT,
        0.82,
        _F.USER_CODE_BUG,
        kind="python",
    ),
    row(
        r"\b(?:RuntimeError|ValueError|AssertionError|ImportError"
        r"|Exception): .*?\b(?P<package>[A-Za-z][\w-]+)(?: version)? ?(?P<want>[<>]=?|=="
        r"|~=) ?[\d.]+\w* (?:is |was )?(?:required|needed)"
        r"|\b(?:RuntimeError|ValueError|AssertionError|ImportError|Exception): .*\b(?:requires?"
        r"|needs?) (?:at least )?[`'\"]?(?P<package2>[A-Za-z][\w-]+)[`'\"]?(?: version)? ?(?:[<>]=?|==|~=|v?\d)"
        r"|\bPlease (?:upgrade|downgrade|update) (?:to |your )?[`'\"]?(?P<package3>[A-Za-z][\w-]+)"
        r"|\bmust be (?:upgraded|downgraded)\b"
        r"|\bDetected an incompatible version of (?P<package4>[\w-]+)|\bincompatible version of [\w-]+ installed",
        _LOG,
        _FIT,
        0.8,
        *_CODE,
        kind="requirement",
    ),
)
