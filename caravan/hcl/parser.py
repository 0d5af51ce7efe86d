"""HCL source → tree, or what is wrong with it.

Feeds tokens to the LALR parser, newlines only where they count. At an unexpected token `complaints` says what is
wrong; then the reader skips as HCL does, so that the number of further problems comes out as Nomad counts it.
"""

from functools import lru_cache
from threading import Lock
from typing import Any, Final

from caravan.hcl.complaints import Complaint, Resume, complain, unfinished
from caravan.hcl.errors import Problem, at
from caravan.hcl.grammar import KEYWORDS, load_parser
from caravan.hcl.tokens import Token, invalid_tokens, scan
from caravan.hcl.tree import Body

_OPENERS: Final = {
    "LBRACE": "RBRACE",
    "LSQB": "RSQB",
    "LPAR": "RPAR",
    "OQUOTE": "CQUOTE",
    "HEREDOC": "HEREDOC_END",
    "INTERP": "SEQ_END",
    "CONTROL": "SEQ_END",
}
_TIGHT: Final = frozenset({"LSQB", "LPAR", "INTERP", "CONTROL"})


_ONE_AT_A_TIME: Final = Lock()  # the parser's callbacks append to one list


@lru_cache(maxsize=1)
def _parser() -> tuple[Any, list[Problem]]:
    from caravan.hcl.builder import make_builder

    problems: list[Problem] = []
    return load_parser(make_builder(problems)), problems


def read_tree(source: str) -> tuple[Body, list[Problem]]:
    """The tree of a source and what is wrong with it. With problems the tree is only a part."""
    tokens = scan(source)
    with _ONE_AT_A_TIME:
        parser, problems = _parser()
        problems.clear()
        body = _Reader(tokens, parser.parse_interactive(""), problems).run()
        return body, [*invalid_tokens(tokens), *problems]


class _Reader:
    def __init__(self, tokens: list[Token], interactive: Any, problems: list[Problem]) -> None:
        from lark import UnexpectedInput

        self.unexpected = UnexpectedInput
        self.tokens = tokens
        self.interactive = interactive
        self.state = interactive.parser_state
        self.table = self.state.parse_conf.parse_table.states
        self.problems = problems
        self.at = 0
        self.brackets: list[str] = []  # what is open: "block", "object" (newlines count) or "tight" (they don't)
        self.recovering = False

    def run(self) -> Body:
        while True:
            token = self.peek()
            if token.type == "$END":
                return self.finish(token)
            self.at += 1
            self.feed(token)

    def peek(self) -> Token:
        """The next token that counts, as the parser should see it; `at` moves up to it."""
        while True:
            token = self.tokens[self.at]
            counts = not self.brackets or self.brackets[-1] != "tight"
            if token.type == "COMMENT" and token.text.endswith("\n") and counts:
                return Token("NL", "\n", token.span)
            if token.type == "COMMENT" or (token.type == "NL" and not counts):
                self.at += 1
                continue
            keyword = KEYWORDS.get(token.text) if token.type == "IDENT" else None
            if keyword and keyword in self.table[self.state.position]:
                return Token(keyword, token.text, token.span)
            return token

    def feed(self, token: Token) -> None:
        try:
            self.state.feed_token(token)
        except self.unexpected:
            self.at -= 1
            self.fail(token)
            return
        kind = token.type
        if kind in _TIGHT:
            self.brackets.append("tight")
        elif kind == "LBRACE":
            self.brackets.append(self.brace())
        elif kind in ("RSQB", "RPAR", "SEQ_END", "RBRACE"):
            self.brackets.pop()

    def brace(self) -> str:
        """What the opening brace just fed opens."""
        if "FOR" not in self.table[self.state.position]:
            return "block"
        following = next(t for t in self.tokens[self.at :] if t.type not in ("NL", "COMMENT"))
        return "tight" if following.type == "IDENT" and following.text == "for" else "object"

    def finish(self, end: Token) -> Body:
        """Feed the end of the file, which ends a line too."""
        newline = Token("NL", "", at(end.span.start))
        for _ in range(len(self.tokens) + 2):
            top = self.state.value_stack[-1] if self.state.value_stack else None
            try:
                if isinstance(top, Body) or all(b == "block" for b in self.brackets):
                    if top is not None and not isinstance(top, Body):
                        self.state.feed_token(newline)
                    body: Body = self.state.feed_token(end, is_end=True)
                else:
                    self.state.feed_token(end)
                    continue
            except self.unexpected:
                self.fail(end)
                continue
            return body
        return Body()  # what is open at the end has been complained of

    def fail(self, token: Token) -> None:
        """Complain of an unexpected token, skip what HCL would skip, and go on in a body."""
        stack = self.state.value_stack
        if token.type in KEYWORDS.values():
            token = Token("IDENT", token.text, token.span)
        if not stack or (isinstance(stack[-1], Token) and stack[-1].type == "NL"):
            # What the last newline ended is not yet reduced, for no lookahead fitted; one more newline makes it so.
            self.state.feed_token(Token("NL", "", at(token.span.start)))
        complaint = complain(stack, self.table[self.state.position], token)
        if complaint.complete:
            self.state.feed_token(Token("NL", "", at(token.span.start)))  # its own problems come first
        if complaint.label:
            self.in_label(complaint, token)
            return
        told = complaint.always or not self.recovering
        self.recovering = True
        if complaint.read:
            self.at = min(self.at + 1, len(self.tokens) - 1)
        closer = self.skip(complaint)
        if told:
            problem = complaint.problem
            self.problems.append(problem._replace(where=closer.span) if complaint.at_closer else problem)
        keep = max(i for i, v in enumerate(stack) if isinstance(v, Body))
        if complaint.outer and keep:
            keep = max(i for i, v in enumerate(stack[:keep]) if isinstance(v, Body))
        del self.state.value_stack[keep + 1 :]
        del self.state.state_stack[keep + 2 :]  # the state stack starts with one state more
        self.brackets = ["block"] * (sum(isinstance(v, Body) for v in self.state.value_stack) - 1)

    def in_label(self, complaint: Complaint, token: Token) -> None:
        """Complain of a block's label and read its header on, as HCL does; the end of the file ends the label."""
        self.problems.append(complaint.problem)
        if token.type != "$END":
            self.recovering = True
            self.at = min(self.at + 1, len(self.tokens) - 1)
            token = self.skip_past("OQUOTE" if complaint.label == "CQUOTE" else token.type)
        if complaint.label == "CQUOTE":
            self.state.feed_token(Token("CQUOTE", '"', token.span))

    def skip(self, complaint: Complaint) -> Token:
        """Skip what HCL skips; the closer of the innermost open bracket comes back."""
        closers = []
        for opener in complaint.open:
            self.brackets = ["tight"]
            closers.append(self.skip_past(opener))
        self.brackets = []
        if complaint.resume is Resume.AFTER_ITEM:
            self.skip_item()
        else:
            self.skip_block(complaint)
        return closers[0] if closers else self.tokens[-1]

    def skip_block(self, complaint: Complaint) -> None:
        if complaint.line_first:
            self.skip_item()
            following = self.peek()
            if following.type in ("COMMA", "NL"):
                self.problems.append(unfinished(following))
        self.skip_past("LBRACE" if complaint.in_block else "")
        if self.tokens[self.at].type in ("NL", "COMMENT"):
            self.at += 1
        else:
            self.skip_item()

    def read(self) -> Token:
        token = self.peek()
        if token.type != "$END":
            self.at += 1
        return token

    def skip_past(self, opener: str) -> Token:
        """Past the closer of `opener`, over whole brackets of its kind; to the end of the file for ""."""
        closer, depth = _OPENERS.get(opener, ""), 0
        same = ("INTERP", "CONTROL") if closer == "SEQ_END" else (opener,)
        while True:
            token = self.read()
            if token.type in same:
                depth += 1
            elif token.type == closer:
                if not depth:
                    return token
                depth -= 1
            elif token.type == "$END":
                return token

    def skip_item(self) -> None:
        """Past the end of the line, over lines that are inside brackets."""
        opened: list[str] = []
        while True:
            token = self.read()
            if token.type == "$END" or (token.type == "NL" and not opened):
                return
            if token.type in _OPENERS:
                opened.append(_OPENERS[token.type])
            elif token.type in _OPENERS.values():
                while opened and opened[-1] != token.type:
                    opened.pop()
                if opened:
                    opened.pop()
