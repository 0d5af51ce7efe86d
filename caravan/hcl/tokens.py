"""HCL source → tokens with their places.

The scanner keeps a stack of modes, because a string may hold an expression that holds a string, and a heredoc ends at
a marker that only its opening names; no regular set of terminals can say that. Newlines and comments are tokens too:
whether they count is the parser's to say.
"""

import re
from typing import Final, NamedTuple

from caravan.hcl.errors import Position, Problem, Span, advance


class Token(NamedTuple):
    """A token. `type` is a terminal of the grammar, or COMMENT, or one that no valid source has."""

    type: str
    text: str
    span: Span


_OPERATORS: Final = {
    "==": "EQ", "!=": "NE", ">=": "GE", "<=": "LE", "&&": "AND", "||": "OR", "::": "SCOPE", "...": "ELLIPSIS",
    "=>": "ARROW", "[": "LSQB", "]": "RSQB", "(": "LPAR", ")": "RPAR", ".": "DOT", ",": "COMMA", "*": "STAR",
    "/": "SLASH", "%": "PERCENT", "+": "PLUS", "-": "MINUS", "=": "ASSIGN", "<": "LT", ">": "GT", "!": "BANG",
    "?": "QUESTION", ":": "COLON", "&": "BIT_AND", "|": "BIT_OR", "~": "BIT_NOT", "^": "BIT_XOR", ";": "SEMICOLON",
    "`": "BACKTICK", "'": "APOSTROPHE",
}  # fmt: skip

_MAIN: Final = re.compile(
    r"""(?P<SPACE>[ \t]+)
    | (?P<NUMBER>[0-9](?:(?:[0-9.]|[eE][+-]?[0-9])*(?:[0-9]|[eE][+-]?[0-9]))?)
    | (?P<IDENT>[^\W\d][\w\u0300-\u036f-]*)
    | (?P<COMMENT>\#[^\n]*\n?|//[^\n]*\n?|/\*[\s\S]*?\*/)
    | (?P<NL>\r?\n)
    | (?P<HEREDOC><<-?[^\W\d][\w\u0300-\u036f-]*\r?\n)
    | (?P<OPERATOR>==|!=|>=|<=|&&|\|\||::|\.\.\.|=>|~(?!\})|[\[\]().,*/%+\-=<>!?:&|^;`'])
    | (?P<LBRACE>\{) | (?P<CLOSE>~?\}) | (?P<OQUOTE>")
    | (?P<INVALID>[\s\S])""",
    re.VERBOSE,
)
_QUOTED: Final = re.compile(
    r"""(?P<INTERP>\$\{~?) | (?P<CONTROL>%\{~?) | (?P<CQUOTE>")
    | (?P<TEXT>\$\$\{~?|\$(?!\{)(?=[\s\S])|%%\{~?|%(?!\{)(?=[\s\S])|(?:\\[^\n\r]|[^$%"\\\n\r])+)
    | (?P<QUOTED_NEWLINE>[\r\n]+)
    | (?P<INVALID>[\s\S])""",
    re.VERBOSE,
)
_HEREDOC: Final = re.compile(
    r"""(?P<INTERP>\$\{~?) | (?P<CONTROL>%\{~?)
    | (?P<TEXT>(?:\$\$\{~?|\$(?!\{)(?=[\s\S])|%%\{~?|%(?!\{)(?=[\s\S])|[^$%\n\r]*)(?P<EOL>\r?\n)?)""",
    re.VERBOSE,
)
_GO_SPACE: Final = " \t\n\v\f\r\x85\xa0"


class _Scanner:
    def __init__(self, source: str) -> None:
        self.source = source.removeprefix("\ufeff")
        self.tokens: list[Token] = []
        self.here = Position(1, 1, 0)
        self.modes: list[tuple[str, str]] = []  # ("quote", ""), ("heredoc", marker), ("braces", "")
        self.depths: list[int] = []  # for each open interpolation, how many braces are open inside it
        self.line_start = True

    def emit(self, kind: str, text: str) -> None:
        end = advance(self.here, text)
        self.tokens.append(Token(kind, text, Span(self.here, end)))
        self.here = end

    def run(self) -> list[Token]:
        while self.here.offset < len(self.source):
            mode, marker = self.modes[-1] if self.modes else ("braces", "")
            if mode == "braces":
                self.main()
            elif mode == "quote":
                self.quoted()
            elif not self.heredoc(marker):
                break
        self.emit("$END", "")
        return self.tokens

    def main(self) -> None:
        match = _MAIN.match(self.source, self.here.offset)
        assert match is not None  # noqa: S101 - the last alternative takes any character
        kind, text = str(match.lastgroup), match[0]
        if kind == "SPACE":
            self.here = advance(self.here, text)
        elif kind == "OPERATOR":
            self.emit(_OPERATORS[text], text)
        elif kind == "CLOSE":
            self.close(text)
        else:
            self.emit(kind, text)
            if kind == "LBRACE" and self.depths:
                self.depths[-1] += 1
            elif kind == "OQUOTE":
                self.modes.append(("quote", ""))
            elif kind == "HEREDOC":
                self.modes.append(("heredoc", text.strip("<-\r\n") if text[2] != "-" else text[3:].strip("\r\n")))
                self.line_start = True

    def close(self, text: str) -> None:
        if self.depths and self.depths[-1] == 0:
            self.emit("SEQ_END", text)
            self.depths.pop()
            self.modes.pop()
            self.line_start = False
            return
        self.emit("RBRACE" if text == "}" else "SEQ_END", text)
        if self.depths:
            self.depths[-1] -= 1

    def interpolation(self, kind: str, text: str) -> None:
        self.emit(kind, text)
        self.depths.append(0)
        self.modes.append(("braces", ""))

    def quoted(self) -> None:
        match = _QUOTED.match(self.source, self.here.offset)
        assert match is not None  # noqa: S101 - the last alternative takes any character
        kind, text = str(match.lastgroup), match[0]
        if kind in ("INTERP", "CONTROL"):
            self.interpolation(kind, text)
            return
        self.emit(kind, text)
        if kind == "CQUOTE":
            self.modes.pop()

    def heredoc(self, marker: str) -> bool:
        """Scan one token of a heredoc; False when nothing more can be read."""
        match = _HEREDOC.match(self.source, self.here.offset)
        if match is None or not match[0]:
            self.emit("INVALID", self.source[self.here.offset :])
            return False
        text = match[0]
        if match["TEXT"] is None:
            self.line_start = False
            self.interpolation("INTERP" if match["INTERP"] else "CONTROL", text)
        elif match["EOL"] and self.line_start and text.strip(_GO_SPACE) == marker:
            end = len(match["EOL"])
            self.emit("HEREDOC_END", text[:-end])
            self.emit("NL", text[-end:])
            self.modes.pop()
        else:
            self.line_start = bool(match["EOL"])
            self.emit("TEXT", text)
        return True


def scan(source: str) -> list[Token]:
    """All tokens of a source, the last being `$END`. Never fails: what can't be a token is INVALID."""
    return _Scanner(source).run()


_TOLD: Final = {
    "BIT_AND": ("Unsupported operator", 'Bitwise operators are not supported. Did you mean boolean AND ("&&")?'),
    "BIT_OR": ("Unsupported operator", 'Bitwise operators are not supported. Did you mean boolean OR ("||")?'),
    "BIT_NOT": ("Unsupported operator", 'Bitwise operators are not supported. Did you mean boolean NOT ("!")?'),
    "BIT_XOR": ("Unsupported operator", "Bitwise operators are not supported."),
    "BACKTICK": (
        "Invalid character",
        'The "`" character is not valid. To create a multi-line string, use the "heredoc" syntax, like "<<EOT".',
    ),
    "APOSTROPHE": ("Invalid character", 'Single quotes are not valid. Use double quotes (") to enclose strings.'),
    "SEMICOLON": (
        "Invalid character",
        'The ";" character is not valid. Use newlines to separate arguments and blocks, and commas to separate items '
        "in collection values.",
    ),
    "QUOTED_NEWLINE": (
        "Invalid multi-line string",
        "Quoted strings may not be split over multiple lines. To produce a multi-line string, either use the \\n "
        'escape to represent a newline character or use the "heredoc" multi-line template syntax.',
    ),
}
_CURLY: Final = (
    '"Curly quotes" are not valid here. These can sometimes be inadvertently introduced when sharing code via '
    'documents or discussion forums. It might help to replace the character with a "straight quote".'
)
_INVALID: Final = "This character is not used within the language."


def invalid_tokens(tokens: list[Token]) -> list[Problem]:
    """What is wrong with tokens that no valid source has; repetitions are told as often as HCL tells them."""
    problems: list[Problem] = []
    seen = dict.fromkeys(_TOLD, 0)
    bitwise = 0
    for token in tokens:
        if token.type == "INVALID":
            detail = _CURLY if token.text in ("“", "”") else _INVALID
            problems.append(Problem("Invalid character", detail, token.span))
        told = _TOLD.get(token.type)
        if told is None:
            continue
        count = seen[token.type]
        seen[token.type] += 1
        if token.type.startswith("BIT_"):
            bitwise += 1
            wanted = bitwise <= 4
        elif token.type == "SEMICOLON":
            wanted = count == 0
        elif token.type == "QUOTED_NEWLINE":
            wanted = True
        else:  # quotes come in pairs: the opening one is told
            wanted = min(count, 3) % 2 == 0
        if wanted:
            problems.append(Problem(*told, token.span))
    return problems
