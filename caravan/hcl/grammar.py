"""HCL2's grammar, and the callbacks that turn it into our tree.

Lark is used, and not python-hcl2, because Nomad's errors name line and column and python-hcl2 gives no positions;
a LALR parser also keeps its stack, from which `complaints` reads what a broken place lacks. The terminals come from
`tokens`; NL is fed only where a newline counts.
"""

from typing import Any, Final

GRAMMAR: Final = r"""
start: items

items:                              -> no_items
    | items NL                      -> more_newlines
    | items attribute               -> more_items
    | items block                   -> more_items

attribute: IDENT ASSIGN expression NL
block: header LBRACE RBRACE NL                                -> empty_block
    | header LBRACE NL items RBRACE NL                        -> long_block
    | header LBRACE IDENT ASSIGN expression RBRACE NL         -> short_block
header: IDENT label*
label: IDENT                        -> bare_label
    | OQUOTE TEXT* CQUOTE           -> quoted_label

?expression: either
    | either QUESTION expression COLON expression -> conditional
?either: both | either OR both -> binary
?both: equality | both AND equality -> binary
?equality: order | equality (EQ|NE) order -> binary
?order: sum | order (LT|GT|LE|GE) sum -> binary
?sum: product | sum (PLUS|MINUS) product -> binary
?product: operand | product (STAR|SLASH|PERCENT) operand -> binary
?operand: path | (MINUS|BANG) operand -> unary

?path: term
    | path DOT IDENT                -> dot_name
    | path DOT NUMBER               -> dot_number
    | path DOT STAR                 -> dot_star
    | path LSQB expression RSQB     -> bracket
    | path LSQB STAR RSQB           -> bracket_star

?term: NUMBER                       -> number
    | IDENT                         -> name
    | LPAR expression RPAR          -> paren
    | function LPAR RPAR            -> call
    | function LPAR arguments RPAR  -> call
    | function LPAR arguments COMMA RPAR -> call
    | function LPAR arguments ELLIPSIS RPAR -> call
    | LSQB RSQB                     -> list_of
    | LSQB arguments RSQB           -> list_of
    | LSQB arguments COMMA RSQB     -> list_of
    | object
    | LSQB loop RSQB                -> for_list
    | LBRACE loop RBRACE            -> for_object
    | OQUOTE part* CQUOTE           -> template
    | HEREDOC part* HEREDOC_END     -> template

function: IDENT (SCOPE IDENT)*
arguments: expression | arguments COMMA expression

object: LBRACE RBRACE | LBRACE newlines RBRACE
    | LBRACE pairs RBRACE | LBRACE newlines pairs RBRACE
    | LBRACE pairs separator RBRACE | LBRACE newlines pairs separator RBRACE
newlines: NL | newlines NL
separator: COMMA | NL | separator NL
pairs: pair | pairs separator pair
pair: expression (ASSIGN|COLON) expression

loop: FOR names IN expression COLON expression
    | FOR names IN expression COLON expression IF expression
    | FOR names IN expression COLON expression ARROW expression
    | FOR names IN expression COLON expression ARROW expression IF expression
    | FOR names IN expression COLON expression ARROW expression ELLIPSIS
    | FOR names IN expression COLON expression ARROW expression ELLIPSIS IF expression
names: IDENT | IDENT COMMA IDENT

part: TEXT                          -> text
    | INTERP expression SEQ_END     -> interpolation
    | CONTROL IF expression SEQ_END -> if_directive
    | CONTROL ELSE SEQ_END          -> directive
    | CONTROL ENDIF SEQ_END         -> directive
    | CONTROL ENDFOR SEQ_END        -> directive
    | CONTROL FOR names IN expression SEQ_END -> for_directive

%declare NL IDENT NUMBER ASSIGN LBRACE RBRACE LSQB RSQB LPAR RPAR OQUOTE CQUOTE HEREDOC HEREDOC_END TEXT
%declare INTERP CONTROL SEQ_END QUESTION COLON SCOPE COMMA DOT STAR SLASH PERCENT PLUS MINUS BANG AND OR
%declare EQ NE LT GT LE GE ELLIPSIS ARROW FOR IN IF ELSE ENDIF ENDFOR
"""

KEYWORDS: Final = {"for": "FOR", "in": "IN", "if": "IF", "else": "ELSE", "endif": "ENDIF", "endfor": "ENDFOR"}
"""Names that are keywords where, and only where, the parser can take the keyword."""


def load_parser(callbacks: Any) -> Any:
    """Lark's LALR parser with these callbacks (a `lark.Transformer`). Takes a while: keep it."""
    from lark import Lark
    from lark.lexer import Lexer

    class NoLexer(Lexer):
        """Stands where Lark wants a lexer; the tokens are fed one by one."""

        def __init__(self, _conf: object) -> None:
            """Lark hands in its terminals, which are not used."""

        def lex(self, _data: object) -> Any:  # type: ignore[override]
            """No tokens."""
            return iter(())

    return Lark(GRAMMAR, parser="lalr", lexer=NoLexer, transformer=callbacks, maybe_placeholders=False)
