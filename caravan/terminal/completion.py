"""`completion`: the script that lets a shell complete commands, options and values; and its installation.

The scripts ask `main.py __complete WORD…` for what fits the last word (see `completing`).
"""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from caravan.terminal.options import JsonOption, terminal_of
from caravan.values.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Shell(StrEnum):
    """Shells that there are scripts for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


_BASH: Final = r"""# Completes `main.py`, `python main.py` and an alias `caravan`: `source` this file in ~/.bashrc.
_caravan() {
    local -a words=() found=()
    local word joined="" line value kept current
    # bash splits words at = and : too; `--set a=b` is put together again.
    for word in "${COMP_WORDS[@]:${1:-1}:COMP_CWORD-${1:-1}+1}"; do
        if [[ $word =~ ^[=:]+$ && ${#words[@]} -gt 0 ]]; then
            words[-1]+=$word joined=1
        elif [[ -n $joined ]]; then
            words[-1]+=$word joined=""
        else
            words+=("$word")
        fi
    done
    current=${words[-1]-}
    mapfile -t found < <(@PROGRAM@ __complete "${words[@]}" 2>/dev/null)
    kept=""
    [[ $current == *[=:]* ]] && kept="${current%"${current##*[=:]}"}"
    COMPREPLY=()
    for line in "${found[@]:1}"; do
        value=${line%%$'\t'*}
        COMPREPLY+=("${value#"$kept"}")
    done
    case ${found[0]-} in
        :nospace) compopt -o nospace ;;
        :values) compopt +o default ;;
    esac
}
_caravan_main() { _caravan 1; }
_caravan_python() {
    COMPREPLY=()
    [[ $COMP_CWORD -ge 2 && ${COMP_WORDS[1]} -ef @MAIN@ ]] && _caravan 2
}
complete -o default -F _caravan_main main.py caravan
complete -o default -o bashdefault -F _caravan_python python python3
"""

_ZSH: Final = r"""# Completes `main.py`, `python main.py` and an alias `caravan`: source it in ~/.zshrc, after compinit.
_caravan() {
    local -a found values
    local line value
    found=("${(@f)$(@PROGRAM@ __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ ${found[1]} == :files ]]; then
        _files
        return
    fi
    for line in "${(@)found[2,-1]}"; do
        value=${${line%%$'\t'*}//:/\\:}
        [[ $line == *$'\t'* ]] && value+=":${line#*$'\t'}"
        values+=("$value")
    done
    if [[ ${found[1]} == :nospace ]]; then
        _describe -t values value values -S ''
    else
        _describe -t values value values
    fi
}
_caravan_python() {
    if (( CURRENT > 2 )) && [[ ${words[2]} -ef @MAIN@ ]]; then
        shift words
        (( CURRENT-- ))
        _caravan
    else
        _default
    fi
}
compdef _caravan main.py caravan
compdef _caravan_python python python3
"""

_FISH: Final = r"""# Completes `main.py`, `python main.py` and an alias `caravan`: its place is ~/.config/fish/conf.d.
function __caravan_words
    set -l words (commandline -opc) (commandline -ct)
    if string match -qr '^python[0-9.]*$' -- (basename -- $words[1])
        set -e words[1]
    end
    set -e words[1]
    @PROGRAM@ __complete $words 2>/dev/null
end
function __caravan_values
    set -l found (__caravan_words)
    if test "$found[1]" = :files
        __fish_complete_path (commandline -ct)
    else
        printf '%s\n' $found[2..-1]
    end
end
function __caravan_is_meant
    set -l words (commandline -opc)
    test (count $words) -ge 2; and test (realpath -- $words[2] 2>/dev/null) = @MAIN@
end
for name in main.py caravan
    complete -c $name -f -a '(__caravan_values)'
end
for name in python python3
    complete -c $name -n __caravan_is_meant -f -a '(__caravan_values)'
end
"""
_SCRIPTS: Final[Mapping[Shell, str]] = {Shell.BASH: _BASH, Shell.ZSH: _ZSH, Shell.FISH: _FISH}
_START: Final[Mapping[Shell, str]] = {Shell.BASH: ".bashrc", Shell.ZSH: ".zshrc"}
_FISH_FOLDER: Final = ".config/fish/conf.d"


def completion(
    ctx: typer.Context,
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.", show_default=False)],
    install: Annotated[bool, typer.Option("--install", help="Let every new shell of yours have it.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print what lets a shell complete commands, options and values, or install it.

    `source <(python main.py completion bash)` gives it to this shell alone.
    """
    terminal, text = terminal_of(ctx), script(shell)
    if not install:
        if as_json:
            terminal.document({"shell": shell.value, "script": text})
        else:
            terminal.out(text.rstrip("\n"))
        return
    try:
        written = _install(shell, text, Path.home())
    except (OSError, RuntimeError) as error:
        raise StateError(f"It can't be installed: {error}.", hint="Print the script and `source` it.") from error
    if as_json:
        terminal.document({"shell": shell.value, "written": [str(path) for path in written]})
    else:
        terminal.out(f"Written: {', '.join(map(str, written)) or 'nothing, it is installed'}. New shells have it.")


def script(shell: Shell) -> str:
    """The script for a shell, for this program with this interpreter."""
    main = Path(__file__).resolve().parents[2] / "main.py"
    program = f"{_quoted(shell, sys.executable)} {_quoted(shell, str(main))}"
    return _SCRIPTS[shell].replace("@PROGRAM@", program).replace("@MAIN@", _quoted(shell, str(main)))


def _quoted(shell: Shell, text: str) -> str:
    if shell is Shell.FISH:
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return shlex.quote(text)


def _install(shell: Shell, text: str, home: Path) -> list[Path]:
    """Write the script where the shell finds it; the files that changed."""
    if shell is Shell.FISH:
        place = home / _FISH_FOLDER / "caravan.fish"
        return [place] if _written(place, text) else []
    place = home / ".local" / "share" / "caravan" / f"completion.{shell.value}"
    changed = [place] if _written(place, text) else []
    start, line = home / _START[shell], f"source {shlex.quote(str(place))}"
    before = start.read_text(encoding="utf-8") if start.exists() else ""
    if line not in before.splitlines():
        with start.open("a", encoding="utf-8") as stream:
            stream.write(f"{'' if before.endswith(chr(10)) or not before else chr(10)}{line}\n")
        changed.append(start)
    return changed


def _written(place: Path, text: str) -> bool:
    if place.is_file() and place.read_text(encoding="utf-8") == text:
        return False
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text, encoding="utf-8")
    return True
