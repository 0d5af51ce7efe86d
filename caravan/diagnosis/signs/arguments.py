"""Signs that a program does not take its arguments, by who reads them. Only data."""

from typing import Final

from caravan.diagnosis.looks import no_such_group_option
from caravan.diagnosis.sign import Origin, Sign, row
from caravan.values.failure import FailureClass

_F = FailureClass
_LOG: Final = Origin.LOG
_ARGS: Final = _F.CLI_ARGS_INVALID

_ONE: Final = r"(?P<option>-{0,2}[\w./-]+)"

ARGUMENT_SIGNS: Final[tuple[Sign, ...]] = (
    # argparse, and who builds on it.
    row(r"error: (?i:unrecognized arguments): (?P<option>.+)", _LOG, _ARGS, 0.97, kind="unknown", style="argparse"),
    row(
        r"error: the following arguments are required: (?P<option>.+)",
        _LOG,
        _ARGS,
        0.97,
        kind="missing",
        style="argparse",
    ),
    row(r"error: one of the arguments (?P<option>.+) is required", _LOG, _ARGS, 0.95, kind="missing", style="argparse"),
    row(
        rf"error: argument {_ONE}: invalid choice: '?(?P<value>[^' ]*)'? \(choose from (?P<choices>[^)]+)",
        _LOG,
        _ARGS,
        0.97,
        kind="choice",
        style="argparse",
    ),
    row(
        rf"error: argument {_ONE}: invalid (?!choice)[\w. ]+ value: '(?P<value>[^']*)'",
        _LOG,
        _ARGS,
        0.97,
        kind="value",
        style="argparse",
    ),
    row(
        rf"error: argument {_ONE}: (?:expected \S+ arguments?|ignored explicit argument '(?P<value>[^']*)')",
        _LOG,
        _ARGS,
        0.95,
        kind="value",
        style="argparse",
    ),
    row(
        rf"error: argument {_ONE}: ignored explicit argument '(?P<value>[^']*)'",
        _LOG,
        _ARGS,
        0.96,
        kind="value",
        style="argparse",
        mild=True,
    ),
    row(rf"error: argument {_ONE}: not allowed with argument", _LOG, _ARGS, 0.9, style="argparse"),
    row(
        rf"error: ambiguous option: {_ONE}(?:=\S*)? could match (?P<choices>.+)",
        _LOG,
        _ARGS,
        0.95,
        kind="unknown",
        style="argparse",
    ),
    row(
        rf"error: argument {_ONE}: (?!invalid choice|expected|ignored|not allowed)",
        _LOG,
        _ARGS,
        0.85,
        kind="value",
        style="argparse",
    ),
    # The launcher hands its own option to a script that does not take it: the script wants another launcher.
    row(r"error: unrecognized arguments: --local[-_]rank\b", _LOG, _F.LAUNCHER_MISCONFIGURED, 0.9, _ARGS),
    # clap's, of programs in Rust.
    row(
        r"^error: (?:unexpected argument '(?P<option>-[^' =]+)[^']*' found"
        r"|Found argument '(?P<option2>-[^' =]+)[^']*' which wasn't expected)",
        _LOG,
        _ARGS,
        0.93,
        kind="unknown",
    ),
    row(
        r"^error: invalid value '(?P<value>[^']*)' for '(?P<option>-[^' =]+)|^error: a value is required for "
        r"'(?P<option2>-[^' =]+)",
        _LOG,
        _ARGS,
        0.93,
        kind="value",
    ),
    row(r"^error: the following required arguments were not provided", _LOG, _ARGS, 0.93, kind="missing"),
    # transformers' parser.
    row(r"not used by the HfArgumentParser: (?P<option>.+)", _LOG, _ARGS, 0.97, kind="unknown", style="hf"),
    # click and typer.
    row(r"\bNo such option:? '?(?P<option>-[\w-]+)", _LOG, _ARGS, 0.95, kind="unknown", style="click"),
    row(r"\bMissing (?:option|argument) '(?P<option>[\w-]+)", _LOG, _ARGS, 0.95, kind="missing", style="click"),
    row(
        r"\bInvalid value for '(?P<option>[\w-]+)'[^:]*: '?(?P<value>[^']*)'? is not one of (?P<choices>.+?)\.?\s*│?$",
        _LOG,
        _ARGS,
        0.96,
        kind="choice",
        style="click",
    ),
    row(
        r"\bInvalid value for '(?P<option>[\w-]+)'[^:]*: (?:'(?P<value>[^']*)' is not a valid)",
        _LOG,
        _ARGS,
        0.95,
        kind="value",
        style="click",
    ),
    row(
        r"\bInvalid value for '(?P<option>[\w-]+)'[^:]*: (?!(?:Path|File|Directory)\b).*\S\.",
        _LOG,
        _ARGS,
        0.8,
        kind="value",
        style="click",
    ),
    row(r"\bOption '(?P<option>-[\w-]+)' requires an argument", _LOG, _ARGS, 0.95, kind="value", style="click"),
    row(r"\bGot unexpected extra arguments? \((?P<option>[^)]+)\)", _LOG, _ARGS, 0.95, kind="unknown", style="click"),
    row(r"\bNo such command '(?P<value>[^']+)'", _LOG, _ARGS, 0.92, kind="choice", style="click"),
    # hydra and OmegaConf.
    row(r"^(?:In '[^']+': )?Could not override '(?P<option>[^']+)'", _LOG, _ARGS, 0.95, kind="unknown", style="hydra"),
    row(
        r"ConfigCompositionException: Could not override '(?P<option>[^']+)'",
        _LOG,
        _ARGS,
        0.95,
        kind="unknown",
        style="hydra",
    ),
    row(
        r"\bYou must specify '(?P<option>[\w./@-]+)', e\.g[.,]",
        _LOG,
        _ARGS,
        0.93,
        _F.USER_CODE_BUG,
        kind="missing",
        style="hydra",
    ),
    row(no_such_group_option, _LOG, _ARGS, 0.9, kind="choice", style="hydra"),
    # The code reads what no argument gave: it can be added (`+key=value`).
    row(
        r"^\s*full_key: (?P<option>[\w.]+)",
        _LOG,
        _ARGS,
        0.8,
        above=r"Config(?:Attribute|Key)Error: Key .* is not in struct",
        kind="missing",
        style="hydra",
    ),
    row(
        r"\bMissingMandatoryValue: Missing mandatory value: (?P<option>[\w.]+)",
        _LOG,
        _ARGS,
        0.92,
        kind="missing",
        style="hydra",
    ),
    row(
        r"\bOverrideParseException\b|LexerNoViableAltException|^Error parsing override '(?P<value>[^']*)'"
        r"|^(?:mismatched input|no viable alternative at input|extraneous input|token recognition error)",
        _LOG,
        _ARGS,
        0.92,
        kind="value",
        style="hydra",
    ),
    row(r"^Error merging override (?P<option>[\w.]+)=(?P<value>\S*)", _LOG, _ARGS, 0.92, kind="value", style="hydra"),
    # jsonargparse and its relatives, tyro.
    row(
        r"error: Parser key \"?(?P<option>[\w.]+)\"?: (?!.*(?:does not accept|not expected))",
        _LOG,
        _ARGS,
        0.94,
        kind="value",
        style="jsonargparse",
    ),
    row(
        r"error: (?:.*\b)?[Kk]ey ['\"](?P<option>[\w.]+)['\"] is (?:not valid|not expected|unexpected|unknown)"
        r"|error: .*\bdoes not accept (?:nested )?(?:option|key) '(?P<option2>[\w.]+)'",
        _LOG,
        _ARGS,
        0.94,
        kind="unknown",
        style="jsonargparse",
    ),
    row(r"error: (?:.*\b)?[Kk]ey ['\"](?P<option>[\w.]+)['\"] is required", _LOG, _ARGS, 0.94, kind="missing"),
    row(r"\b[Uu]nrecognized options?: (?P<option>-[\w.-]+)", _LOG, _ARGS, 0.94, kind="unknown", style="tyro"),
    row(r"\b[Rr]equired options?:? (?P<option>--[\w.-]+)", _LOG, _ARGS, 0.9, kind="missing", style="tyro"),
    row(
        r"\bConfigKeyError: Key '(?P<option>[\w.]+)' (?:is )?not in '\w+'"
        r"|\bConfigAttributeError: Missing key (?P<option2>\w+)",
        _LOG,
        _ARGS,
        0.9,
        kind="unknown",
        style="hydra",
    ),
    # fire, absl, getopt.
    row(r"Could not consume arg: (?P<option>\S+)", _LOG, _ARGS, 0.95, kind="unknown", style="fire"),
    row(
        r"received no value for the required arguments?: (?P<flag>[\w-]+)",
        _LOG,
        _ARGS,
        0.95,
        kind="missing",
        style="fire",
    ),
    row(
        r"\bflag --(?P<flag>[\w-]+)(?:=(?P<value>\S*))?: (?!unknown)|\bFlags parsing error\b(?!: Unknown)"
        r"|\bDocoptExit\b"
        r"|\berror: [Uu]nrecognized (?:option|argument|key)s?:? ['\"]?(?P<option>-{0,2}[\w.-]+)"
        r"|\b[Ss]ome (?:specified )?(?:keys|arguments) are not (?:used|recogni[sz]ed)\b",
        _LOG,
        _ARGS,
        0.93,
        _F.USER_CODE_BUG,
        kind="value",
    ),
    row(r"Unknown command line flag '(?P<flag>[^']+)'", _LOG, _ARGS, 0.95, kind="unknown"),
    row(
        r"\b(?:unrecognized|invalid|unknown|illegal) option (?:-- )?['‘]?(?P<option>-{0,2}\w[\w-]*)['’]?\s*$",
        _LOG,
        _ARGS,
        0.85,
        kind="unknown",
    ),
)
