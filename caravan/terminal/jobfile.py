"""A job file for a person who is asked about it: long texts that are the same in every job are folded. Pure."""

import re
from typing import Final

_HEREDOC: Final = re.compile(r"<<(?P<mark>EOT\d*)\n(?P<text>.*?)^(?P=mark)$", re.M | re.S)
_PLACE: Final = re.compile(r'^ *destination +=\ "(?P<place>[^"\n]*)"', re.M)
_SHORT: Final = 12  # lines of a text that are shown; the user's own templates mostly are short
_HELPER: Final = re.compile(r"local/[\w.-]+\.(?:py|sh)")


def folded(text: str) -> str:
    """The job file with each long text as a line that says what stands there. The file itself has the whole."""

    def fold(found: re.Match[str]) -> str:
        lines = found["text"].count("\n")
        if lines <= _SHORT:
            return found[0]
        named = [m["place"] for m in _PLACE.finditer(text, 0, found.start())]
        place = named[-1] if named else ""
        if place == "local/launch.sh":
            what = "the launch script"
        elif _HELPER.fullmatch(place):
            what = "a helper of the script, as it is"
        else:
            what = "a text"
        return f'"… {what}, {lines} lines …"'

    return _HEREDOC.sub(fold, text)
