"""Signs that the command, the script, the module or the working directory is not there. Only data.

Said by shells, `env`, Python, container runtimes, Nomad's drivers and the launch script.
"""

from typing import Final

from caravan.diagnosis.looks_imports import part_missing
from caravan.diagnosis.sign import Origin, Sign, row
from caravan.diagnosis.signs.names import LIBRARIES, NAMESPACES, OWN_FOLDERS, TOOLCHAIN
from caravan.values.failure import FailureClass

_F = FailureClass
_LOG: Final = Origin.LOG
_SAID: Final = (Origin.EVENT, Origin.LOG)

_START: Final = _F.ENTRYPOINT_NOT_FOUND
# A compiler that is missing is a build's trouble, a missing driver program the node's; neither is the entry point.
_NOT_OURS: Final = rf"(?!(?:\S*/)?(?:{TOOLCHAIN}|nvidia[\w-]*)['\"`:’ ])"
_PROGRAM: Final = rf"{_NOT_OURS}(?P<program>[\w@%+=.,/~-]+)"
_SHELL: Final = r"^(?:[\w./-]*/)?(?:ba|da|z|k|a)?sh(?: -c)?: (?:line )?(?:\d+: )?"
_SCRIPT: Final = r"(?P<path>[\w@%+=.,/~-]*(?:/|\.(?:sh|bash|py|slurm))[\w@%+=.,/~-]*)"
_ALONE: Final = rf"(?!(?:{LIBRARIES})\b)"

START_SIGNS: Final[tuple[Sign, ...]] = (
    # Python and its launchers.
    row(r"can't open file '(?P<path>[^']+)': \[Errno 13\]", _LOG, _START, 0.97, kind="permission"),
    row(r"can't open file '(?P<path>[^']+)'", _LOG, _START, 0.95, kind="script"),
    row(r"can't find '__main__' module in '(?P<path>[^']+)'", _LOG, _START, 0.95, kind="script"),
    row(
        r"No such file or directory: '(?P<path>[^']+\.(?:py|sh|ipynb))'",
        _LOG,
        _START,
        0.92,
        _F.DATA_PATH_MISSING,
        above=r"\brunpy\b|run_path|_run_code|in exec_module|get_data",
        kind="script",
    ),
    row(
        rf"python[\d.]*(?:\.exe)?: No module named (?P<module>{_ALONE}[\w.]+)$",
        _LOG,
        _START,
        0.92,
        kind="module",
    ),
    row(
        rf"Error while finding module specification for '(?P<module>{_ALONE}[^']+)'",
        _LOG,
        _START,
        0.92,
        _F.MISSING_PYTHON_PACKAGE,
        kind="module",
    ),
    row(
        rf"\bexecve\(\): {_PROGRAM}: (?:No such file or directory|Permission denied)"
        rf"|\bunable to spawn process [\"'`]{_PROGRAM.replace('<program>', '<program2>')}[\"'`]: No such file",
        _SAID,
        _START,
        0.93,
        _F.DATA_PATH_MISSING,
        _F.OUTPUT_PERMISSION_DENIED,
        kind="program",
    ),
    # The package was found, and code of the repository's own wants of it what it does not have.
    row(
        part_missing(f"{LIBRARIES}|{NAMESPACES}", f"{OWN_FOLDERS}|data|tests?"),
        _LOG,
        _F.USER_CODE_BUG,
        0.92,
        _START,
        _F.MISSING_PYTHON_PACKAGE,
        _F.PACKAGE_VERSION_CONFLICT,
    ),
    # Who asked for it is not known: it may be another package of that name, from another directory.
    row(
        rf"^ModuleNotFoundError: No module named '(?P<module>(?!(?:{LIBRARIES}"
        rf"|{NAMESPACES})\.)[A-Za-z_]\w*\.[\w.]+)'(?!; )",
        _LOG,
        _START,
        0.75,
        kind="module",
    ),
    row(
        r"\bCould not open requirements? file: .*No such file or directory: '(?P<path>[^']+)'",
        _LOG,
        _START,
        0.9,
        _F.DATA_PATH_MISSING,
        kind="workdir",
    ),
    # A name that repositories give their own folders: it was started from another place than it is written for.
    row(
        rf"^ModuleNotFoundError: No module named '(?P<module>(?:{OWN_FOLDERS})(?:\.[\w.]+)?)'(?!; )",
        _LOG,
        _START,
        0.9,
        _F.MISSING_PYTHON_PACKAGE,
        kind="module",
    ),
    row(
        rf"No such file or directory: '{_PROGRAM}'",
        _LOG,
        _START,
        0.92,
        _F.DATA_PATH_MISSING,
        above=r"_execute_child|posix_spawn|execv|child_exception_type",
        kind="program",
    ),
    row(r"pattern '(?P<path>[^']+\.ipynb)' matched no files", _LOG, _START, 0.85, mild=True, kind="script"),
    # Shells and env.
    row(rf"{_SHELL}{_SCRIPT}: [Nn]o such file or directory$", _LOG, _START, 0.92, kind="script"),
    row(r"sh: 0: [Cc](?:an't|annot) open (?P<path>[^\s:]+)", _LOG, _START, 0.95, kind="script"),
    row(rf"(?:^|: |\d: ){_PROGRAM}: (?:command )?not found\s*$", _LOG, _START, 0.92, kind="program"),
    row(rf"command not found: {_PROGRAM}\s*$", _LOG, _START, 0.92, kind="program"),
    row(rf"^(?:/usr/bin/)?env: ['‘]?{_PROGRAM}['’]?: No such file or directory", _LOG, _START, 0.95, kind="program"),
    row(
        r"^(?:/usr/bin/)?env: ['‘](?P<program>[\w./-]+)\\r['’]: No such file|\^M: bad interpreter"
        r"|: (?P<program2>\S+): bad interpreter: ",
        _LOG,
        _START,
        0.95,
        kind="program",
    ),
    row(r"\bcommand (?:contains extra white space|empty): \"(?P<program>[^\"]+)", _SAID, _START, 0.95, kind="program"),
    row(rf"^(?:/usr/bin/)?env: can't execute '{_PROGRAM}'", _LOG, _START, 0.95, kind="program"),
    # What a node's own scripts may not write, and what no program lies in, are no command of the job's.
    row(
        rf"^(?!/etc/)(?:{_SHELL.removeprefix('^')}|\S+: line \d+: )(?!/(?:run|proc|sys|dev)/){_SCRIPT}"
        r": Permission denied\s*$",
        _LOG,
        _START,
        0.92,
        kind="permission",
    ),
    row(
        r": cd: (?:can't cd to )?(?P<path>[^\s:]+)(?:: No such file or directory)?\s*$",
        _LOG,
        _START,
        0.7,
        kind="workdir",
    ),
    row(r"[Ff]ailed to spawn: `(?P<program>[^`]+)`", _LOG, _START, 0.9, kind="program"),
    # Container runtimes and Nomad's drivers.
    row(r"chdir to cwd \(\"(?P<path>[^\"]+)\"\)", _SAID, _START, 0.95, kind="workdir"),
    row(
        r"\bexec: \\{0,7}\"(?P<path>[^\"\\]+)\\{0,7}\": (?:is a directory: )?permission denied",
        _SAID,
        _START,
        0.95,
        kind="permission",
    ),
    row(r"\bexec: \\{0,7}\"(?P<path>[^\"\\]+)\\{0,7}\": stat [^:]+: no such file", _SAID, _START, 0.95, kind="script"),
    row(
        rf"\bexec: \\{{0,7}}\"{_NOT_OURS}(?P<program>[^\"\\]+)\\{{0,7}}\": executable file not found",
        _SAID,
        _START,
        0.97,
        kind="program",
    ),
    row(r"executable file `(?P<program>[^`]+)` not found", _SAID, _START, 0.97, kind="program"),
    row(r"\bexec (?P<program>/\S+?): no such file or directory", _SAID, _START, 0.92, kind="program"),
    row(r"\bbinary \"(?P<program>[^\"]+)\" could not be found", _SAID, _START, 0.97, kind="program"),
    row(r"\bfork/exec (?P<program>\S+?): no such file or directory", _SAID, _START, 0.92, kind="program"),
    row(
        r"\bfile \"?(?P<path>[^\s\"]+)\"? not found under path"
        r"|\bno such file or directory under path",
        _SAID,
        _START,
        0.95,
        kind="script",
    ),
    row(r"\bfork/exec (?P<path>\S+?): permission denied", _SAID, _START, 0.9, kind="permission"),
    # Neighbours that are repaired otherwise.
    row(r"^Failed Artifact Download: ", Origin.EVENT, _F.ARTIFACT_DOWNLOAD_FAILED, 0.95, _START, _F.IMAGE_NOT_FOUND),
    # A script's interpreter is of another architecture; less often its first line names none.
    row(r"(?i:(?P<path>[^\s\"']+\.(?:sh|bash|py))[\"']?: exec format error)", _SAID, _START, 0.5, kind="permission"),
    row(r"(?i:\.(?:sh|bash|py)[\"']?: exec format error)", _SAID, _F.ARCH_MISMATCH, 0.72),
    row(
        r"(?i:(?<!\.sh: )(?<!\.bash: )(?<!\.py: )(?<!\.sh\": )\bexec format error\b)"
        r"|\brosetta error: failed to open elf|\bqemu-\w+: Could not open '/lib"
        r"|\bimage's architecture \((?P<image_arch>\w+)\) could not run on the host's \((?P<node_arch>\w+)\)"
        r"|: cannot execute(?: binary file|: required file not found)|\bwrong ELF class\b|\bELF: not found\b",
        _SAID,
        _F.ARCH_MISMATCH,
        0.95,
        _START,
        _F.PACKAGE_VERSION_CONFLICT,
        _F.USER_CODE_BUG,
    ),
    row(r"platform \(\S+\) does not match the detected host platform", _SAID, _F.ARCH_MISMATCH, 0.7, _START, mild=True),
    # The launch script.
    row(r"^caravan: the interpreter (?P<program>.+) is not here$", _LOG, _START, 0.97, kind="program"),
    row(r"^caravan: there is no directory (?P<path>.+) in the code$", _LOG, _START, 0.97, kind="workdir"),
)
