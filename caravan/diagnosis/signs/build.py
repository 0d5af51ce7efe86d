"""Signs that a package can't be compiled because what compiles it is not there. Only data."""

from typing import Final

from caravan.diagnosis.sign import Origin, Sign, row
from caravan.diagnosis.signs.names import TOOLCHAIN
from caravan.values.failure import FailureClass

_F = FailureClass
_LOG: Final = Origin.LOG
_BUILD: Final = _F.BUILD_TOOLCHAIN_MISSING
_AFTER: Final = (
    _F.DATA_PATH_MISSING,
    _F.ENTRYPOINT_NOT_FOUND,
    _F.USER_CODE_BUG,
    _F.PACKAGE_VERSION_CONFLICT,
    _F.FLASH_ATTN_UNUSABLE,
    _F.MISSING_PYTHON_PACKAGE,
    _F.LAUNCHER_MISCONFIGURED,
)
# Tools with what the distributions put before and behind their names.
_TOOL: Final = rf"(?:\w+-linux-gnu(?:eabihf)?-)?(?:{TOOLCHAIN})(?:-\d+)?"

BUILD_SIGNS: Final[tuple[Sign, ...]] = (
    row(
        rf"No such file or directory: '(?P<program>(?:[^']*/)?{_TOOL})'"
        rf"|\berror: command '\S*?(?P<program2>{_TOOL})' failed: No such file"
        rf"|(?:^|: ):?(?P<program3>(?:/[\w./-]+/)?{_TOOL}): (?:command )?not found"
        rf"|\bunable to execute '(?P<program4>{_TOOL})'"
        rf"|\bexec: \"(?P<program5>{_TOOL})\": executable file not found"
        rf"|\bwhich: no (?P<program6>{_TOOL}) in\b|\['which', '(?P<program7>{_TOOL})'\]",
        (Origin.EVENT, _LOG),
        _BUILD,
        0.95,
        *_AFTER,
    ),
    # Whatever it is called: this is what builders of extensions say.
    row(
        r"\bunable to execute '(?:[\w./-]*/)?(?P<program>[\w.+-]+)': No such file"
        r"|^error: command '(?:[\w./-]*/)?(?P<program2>[\w.+-]+)' failed: No such file",
        _LOG,
        _BUILD,
        0.92,
        *_AFTER,
    ),
    row(
        r"\bCUDA_HOME environment variable is not set|\bCUDA_HOME does not exist, unable to compile"
        r"|\bMissingCUDAException\b"
        r"|\bCould not find (?:a )?CUDA[_ ](?:toolkit|HOME|TOOLKIT_ROOT_DIR)|\bCUDA_TOOLKIT_ROOT_DIR not found"
        r"|\b(?:[Ff]ailed to|[Cc]ould not|[Cc]ouldn't|[Cc]annot|[Cc]an't|[Uu]nable to) (?:find|locate) nvcc\b"
        r"|\bnvcc (?:was |could )?not (?:be )?found"
        r"|\bCalledProcessError: Command '\['[^']*/(?:gcc|cc|g\+\+|c\+\+|clang)'"
        r"|\bCould NOT find CUDA\b|\bNo CUDA toolset found"
        r"|\bCUDA_HOME\b.{0,40}(?:not (?:set|found|defined)|undefined|is None)",
        _LOG,
        _BUILD,
        0.95,
        *_AFTER,
        program="nvcc",
        mild=False,
    ),
    # A build that only warned of it, and then fell over what follows.
    row(
        r"setup\.py:\d+: UserWarning: .*\b(?:nvcc|CUDA_HOME)\b.*not (?:found|set)"
        r"|\brequested, but nvcc was not found",
        _LOG,
        _BUILD,
        0.8,
        _F.USER_CODE_BUG,
        _F.PACKAGE_VERSION_CONFLICT,
        mild=True,
        program="nvcc",
    ),
    row(
        r"\bname 'bare_metal_version' is not defined"
        r"|\bTypeError: expected str, bytes or os\.PathLike object, not NoneType",
        _LOG,
        _BUILD,
        0.85,
        _F.USER_CODE_BUG,
        _F.PACKAGE_VERSION_CONFLICT,
        above=r"setup\.py|cpp_extension|CUDA_HOME|CUDAExtension",
        program="nvcc",
    ),
    row(
        r"\b[Nn]inja is required to (?:load|build)|\bUnable to find ninja|\b[Nn]inja (?:not found"
        r"|is not (?:installed|available))"
        r"|\bCMake was unable to find a build program corresponding to \"Ninja\"",
        _LOG,
        _BUILD,
        0.96,
        *_AFTER,
        program="ninja",
    ),
    row(
        r"\b[Ff]ailed to find (?:a )?C compiler|\bNo working C(?:\+\+)? compiler found|\bInvalidCxxCompiler\b"
        r"|\bCMAKE_(?:C|CXX|CUDA)_COMPILER not set|\bMicrosoft Visual C\+\+ [\d.]+ or greater is required"
        r"|\b(?:C|CXX|C\+\+) compiler (?:was |is )?(?:not (?:found|installed|available)|missing)"
        r"|\bNo CMAKE_(?:C|CXX|CUDA)_COMPILER could be found"
        r"|\bno acceptable C compiler found"
        r"|\bC compiler cannot create executables|\bNo C compiler found|\bUnknown compiler\(s\): \[",
        _LOG,
        _BUILD,
        0.96,
        *_AFTER,
        program="gcc",
    ),
    row(
        r"\b(?:CMake must be installed|Could not find \"?cmake\"?|Cannot find CMake executable"
        r"|cmake (?:is )?(?:not (?:found|installed)|required))\b"
        r"|\bPlease install [Cc][Mm]ake\b|\bProblem with the CMake installation",
        _LOG,
        _BUILD,
        0.93,
        *_AFTER,
        program="cmake",
    ),
    row(
        r"\bcan't find Rust compiler|\bcargo, the Rust package manager, is not installed|\brustc is not installed",
        _LOG,
        _BUILD,
        0.95,
        *_AFTER,
        program="cargo",
    ),
    row(
        r"\bfatal error: (?P<path>[\w./+-]+\.(?:h|hpp|cuh)): No such file|\bcannot find -l(?P<library>\w+)\b"
        r"|\bfatal error: '(?P<path2>[\w./+-]+\.(?:h|hpp|cuh))' file not found",
        _LOG,
        _BUILD,
        0.93,
        *_AFTER,
    ),
    row(
        r"\b(?P<program>pg_config|mysql_config|mpicc|swig|pkg-config|autoconf"
        r"|llvm-config)\b.{0,30}(?:executable )?(?:not found|is required|could not be found|is not installed)"
        r"|\b(?:OSError: )?mysql_config not found|\bfailed to find libmagic",
        _LOG,
        _BUILD,
        0.9,
        *_AFTER,
    ),
    row(
        r"\bError (?:compiling objects for extension|building extension '(?P<package>[^']+)')"
        r"|\bUnable to JIT load the (?P<package2>\w+) op",
        _LOG,
        _BUILD,
        0.75,
        _F.USER_CODE_BUG,
    ),
    # What did not build, where nothing says why.
    row(
        r"\bFailed building (?:wheel|editable) for (?P<package>[\w.-]+)"
        r"|\bCould not build wheels for (?P<package2>[\w.-]+)"
        r"|\bFailed to build (?:installable wheels .{0,60}\((?P<package3>[\w.-]+)\)|`(?P<package4>[\w.=-]+)`)",
        _LOG,
        _BUILD,
        0.6,
    ),
)
