"""Signs that a Python package is missing, and of what only looks like it. Only data.

Whether a module that is not found lies in the repository is not known here: its name is told, and who repairs decides.
"""

from typing import Final

from caravan.diagnosis.sign import Origin, Sign, row
from caravan.diagnosis.signs.names import LIBRARIES, NAMESPACES
from caravan.values.failure import FailureClass

_F = FailureClass
_LOG: Final = Origin.LOG
_MISSING: Final = _F.MISSING_PYTHON_PACKAGE

_VERSIONS: Final = _F.PACKAGE_VERSION_CONFLICT

_NAME: Final = r"(?P<package>[A-Za-z][\w.-]*(?:\[[\w,-]+\])?(?:[<>=!~]=?[\w.,<>=!~]+)?)"
_FRAME: Final = r"^\s+File \"[^\"]*(?:site|dist)-packages/"
_FAILED: Final = r"^(?:[\w.]+\.)?(?:ImportError|ModuleNotFoundError|RuntimeError|EnvironmentError|OSError|ValueError): "

PACKAGE_SIGNS: Final[tuple[Sign, ...]] = (
    row(r"^ModuleNotFoundError: No module named '(?P<module>[A-Za-z_]\w*)'\s*$", _LOG, _MISSING, 0.95),
    row(r"\bModuleNotFoundError: No module named '(?P<module>[A-Za-z_]\w*)'(?!; )", _LOG, _MISSING, 0.85),
    row(rf"\bModuleNotFoundError: No module named '(?P<module>{NAMESPACES})\.[\w.]+'", _LOG, _MISSING, 0.9),
    # "python: No module named x" is said of a module that was to be started; a library is a package all the same.
    row(rf"python[\d.]*: No module named (?P<module>{LIBRARIES})(?:\.[\w.]+)?$", _LOG, _MISSING, 0.92),
    row(rf"(?:^|[\s:(])No module named '(?P<module>{LIBRARIES})'", _LOG, _MISSING, 0.8),
    row(rf"\brequires the {_NAME} library but it was not found in your environment", _LOG, _MISSING, 0.95),
    row(rf"{_FAILED}.*\brequires `{_NAME}`", _LOG, _MISSING, 0.9),
    row(
        rf"{_FAILED}.*\b(?:requires?|needs?|depends on) (?:the )?[`'\"]?{_NAME}[`'\"]? (?:python )?(?:package"
        rf"|library|module)\b"
        rf"|{_FAILED}.*\b(?:package|library|module) [`'\"]?{_NAME.replace('package', 'package2')}[`'\"]? (?:is "
        rf"|was )?"
        r"(?:not (?:installed|found|available)|required|missing)"
        rf"|{_FAILED}[`'\"]?{_NAME.replace('package', 'package3')}[`'\"]? (?:is|was) not (?:installed|available)\b",
        _LOG,
        _MISSING,
        0.86,
        _F.USER_CODE_BUG,
    ),
    # A library of the system, for which a package without it exists.
    row(
        r"^ImportError: lib(?:GL|gthread-2\.0|SM|ICE|Xext|Xrender|X11|glib-2\.0"
        r"|xcb)\.so\S*: cannot open shared object",
        _LOG,
        _MISSING,
        0.8,
        _VERSIONS,
        package="opencv-python-headless",
    ),
    row(
        r"^OSError: (?:sndfile library not found|cannot load library 'libsndfile\.so')"
        r"|^OSError: libsndfile\S*: cannot open",
        _LOG,
        _MISSING,
        0.75,
        _VERSIONS,
        package="soundfile",
    ),
    row(r"need to install the following dependencies\['(?P<package>[^']+)'", _LOG, _MISSING, 0.95),
    row(r"\bMissing optional dependency '(?P<package>[^']+)'", _LOG, _MISSING, 0.92, mild=True),
    row(rf"{_FAILED}.*\brequires {_NAME} to be installed", _LOG, _MISSING, 0.92),
    row(rf"{_FAILED}(?:[Nn]either )?`{_NAME}`(?: nor `[\w-]+` is available| is not available)", _LOG, _MISSING, 0.92),
    row(rf"{_FAILED}(?:Install|You need to install) [`'\"]{_NAME}", _LOG, _MISSING, 0.9),
    row(rf"{_FAILED}.*\b[Pp]lease (?:\w+ )?install (?:[`'\"]|(?=[\w.-]+ from http)){_NAME}", _LOG, _MISSING, 0.92),
    row(rf"{_FAILED}.*\b[`'\"]?pip3? install (?:(?:-U|--upgrade|-q) )?[`'\"]?{_NAME}", _LOG, _MISSING, 0.85),
    row(rf"\bPackageNotFoundError: (?:No package metadata was found for )?'?{_NAME}'?", _LOG, _MISSING, 0.9),
    row(rf"\bDistributionNotFound: The '{_NAME}' distribution was not found", _LOG, _MISSING, 0.92),
    # A library defines some names only where another one is installed.
    row(
        r"^NameError: name '(?:Lora\w*|Peft\w*|get_peft_\w+|prepare_model_for_\w+)' is not defined",
        _LOG,
        _MISSING,
        0.9,
        _F.USER_CODE_BUG,
        above=_FRAME,
        package="peft",
    ),
    row(
        r"^NameError: name '(?P<module>wandb|deepspeed|datasets|accelerate|bitsandbytes|peft|trl|vllm|sentencepiece"
        r"|tensorboard|evaluate|sklearn|scipy|pandas|PIL|cv2|librosa|soundfile|timm|einops|apex"
        r"|xformers|triton)' is not",
        _LOG,
        _MISSING,
        0.88,
        _F.USER_CODE_BUG,
        above=_FRAME,
    ),
    row(r"^NameError: name '(?P<symbol>[A-Z]\w+)' is not defined", _LOG, _MISSING, 0.8, _F.USER_CODE_BUG, above=_FRAME),
    row(r"\[E050\] Can't find model '(?P<package>[\w.-]+)'", _LOG, _MISSING, 0.9, _F.HUB_NOT_FOUND, _F.USER_CODE_BUG),
    # The installer's own words, before anything trains.
    row(r"^caravan: the package index (?P<index>\S+) can't be reached", _LOG, _F.NETWORK_UNREACHABLE, 0.96, _VERSIONS),
    # Neighbours that are repaired otherwise.
    row(
        r"the package flash_attn seems to be not installed|No module named '?flash_attn"
        r"|flash_attn\S*\.so\b.*undefined symbol",
        _LOG,
        _F.FLASH_ATTN_UNUSABLE,
        0.95,
        _MISSING,
    ),
    # A build that runs apart from the environment lacks what the environment may have: nothing is known of the cause.
    row(
        r"Getting requirements to build (?:wheel|editable) did not run|when getting requirements to build",
        _LOG,
        _F.UNKNOWN,
        0.0,
        _MISSING,
    ),
)
