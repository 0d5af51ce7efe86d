"""Kinds of training that words name: what is learnt from (preferences, instructions, plain text) and what is trained.

Pure, over texts: a request, a path, the name of a trainer. Words of the trade, none of a repository's.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

_PREFERENCES: Final = {
    "dpo": r"dpo",
    "orpo": r"orpo",
    "kto": r"kto",
    "cpo": r"cpo|simpo",
    "grpo": r"grpo|gspo|dapo|dr_?grpo",
    "ppo": r"ppo",
    "rloo": r"rloo|reinforce(?:_?plus\w*|\+\+)?",
    "bco": r"bco",
    "gkd": r"gkd",
    "nash": r"nash(?:[-_ ]?md)?|xpo|spin",
    "prm": r"prm|process[-_ ]reward\w*",
    "reward": r"reward[-_ ]?model\w*|reward(?:_?trainer)?(?![-_ ]?f)|rm",
    "rl": r"rl|rlhf|rlvr|reinforcement[-_ ]learning",
}
_REINFORCED: Final = frozenset({"grpo", "ppo", "rloo", "nash", "rl"})
_PLAIN: Final = {
    "distill": r"distil\w*",
    "pretrain": r"(?:continu\w+[-_ ])?pre[-_ ]?train(?:ing|er)?(?!ed)|(?:from[-_ ])scratch|cpt|mlm|masked[-_ ]l\w+",
    "finetune": r"(?:fine|instruct\w*|prompt)[-_ ]?tun(?:e|ing|er)|sft|supervised\w*",
}
_DIFFUSION: Final = {
    "dreambooth": r"dream[-_ ]?booth",
    "textual_inversion": r"textual[-_ ]inversion",
    "controlnet": r"control[-_ ]?net(?:[-_ ]?lllite)?|t2i[-_ ]adapter",
    "text_to_image": r"text[-_ ]?(?:(?:to|2)[-_ ]?)?image",
    "unconditional": r"unconditional\w*",
    "instruct_pix2pix": r"instruct[-_ ]?pix2pix",
    "custom_diffusion": r"custom[-_ ]diffusion",
    "ip_adapter": r"ip[-_ ]adapter",
    "consistency": r"lcm|consistency",
    "inpaint": r"inpaint\w*",
    "vae": r"(?:vq|d)?-?vae|vqgan|autoencoder\w*|tokenizer",
}
_ADAPTERS: Final = {
    "lora": r"q?-?_?lora|peft|lycoris|loha|lokr|dora",
    "full": r"full(?:[-_ ](?:parameter|param|ft|sft|fine\w*))?",
    "ptuning": r"p[-_ ]?tuning(?:[-_ ]?v2)?|prefix[-_ ]tuning|prompt[-_ ]tuning|soft[-_ ]prompt",
}


def _compiled(table: Mapping[str, str]) -> dict[str, re.Pattern[str]]:
    return {name: re.compile(rf"(?i)(?<![a-z])(?:{pattern})(?![a-z])") for name, pattern in table.items()}


_OBJECTIVES: Final = _compiled({**_PREFERENCES, **_PLAIN})
_DIFFUSIONS: Final = _compiled(_DIFFUSION)
_ADAPTS: Final = _compiled(_ADAPTERS)


def _kinds(table: Mapping[str, re.Pattern[str]], text: str) -> frozenset[str]:
    return frozenset(name for name, pattern in table.items() if pattern.search(text))


def named_kinds(text: str) -> frozenset[str]:
    """The objectives that a path, a heading or a class (`DPOTrainer`) names."""
    return _kinds(_OBJECTIVES, re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", text))


def asked_kinds(request: str) -> frozenset[str]:
    """The objectives that a request asks for; one that names a way to learn from preferences means that one."""
    found = _kinds(_OBJECTIVES, request)
    if "reward" in found and not re.search(r"(?i)reward[- ]model|\brm\b", request):
        found -= {"reward"}
    preferred = found & _PREFERENCES.keys()
    if preferred - {"rl"}:
        return preferred - {"rl"}
    if preferred:
        return _REINFORCED
    if (
        "finetune" in found
        and "pretrain" in found
        and not re.search(r"(?i)pre-?train(?:ing)?\b(?! (?:model|ch|w))", request)
    ):
        found -= {"pretrain"}
    if "finetune" in found and re.search(r"(?i)from[- ]scratch", request):
        found -= {"pretrain"}
    if not found and re.search(r"(?i)\b(?:reproduce|pre-?train)", request):
        return frozenset({"pretrain"})
    return found


def judged(request: str, name: str, trainers: Iterable[str] = ()) -> list[tuple[float, str]]:
    """(points, why) of how a candidate's name, and the trainers that it makes, go with the kinds that are asked for."""
    asked, says = asked_kinds(request), named_kinds(name)
    points: list[tuple[float, str]] = []
    told = says or frozenset(k for t in trainers for k in named_kinds(t))
    if "rl" in told and asked & _REINFORCED:
        told = told | asked
    if asked & told:
        strong = 1.2 if asked & told == {"finetune"} else 2.5  # nearly every request says it
        named = ", ".join(sorted(asked & told))
        points.append((strong if asked & says else 0.6 * strong, f"it is for {named}, as asked"))
    elif asked and told:
        akin = told <= {"ppo"} and asked <= _REINFORCED  # trainers of PPO have its variants as a switch
        points.append((-0.5 if akin else -3.0, f"it is for {', '.join(sorted(told))}, which is not asked for"))
    elif told & _PREFERENCES.keys():
        points.append((-2.0, f"it is for {', '.join(sorted(told))}, which is not asked for"))
    elif asked & _PREFERENCES.keys():
        points.append((-0.5, f"nothing says that it is for {', '.join(sorted(asked))}"))
    wanted, has = _kinds(_DIFFUSIONS, request), _kinds(_DIFFUSIONS, name)
    if wanted & has:
        points.append((1.5, f"it is for {', '.join(sorted(wanted & has))}, as asked"))
    elif has:
        points.append((-2.0 if wanted else -1.0, f"it is for {', '.join(sorted(has))}, which is not asked for"))
    wanted, has = _kinds(_ADAPTS, request), _kinds(_ADAPTS, name)
    if wanted & has:
        points.append((1.0, f"it is for {', '.join(sorted(wanted & has))}, as asked"))
    elif has and wanted:
        points.append((-2.0, f"it is for {', '.join(sorted(has))}, which is not asked for"))
    elif has:
        points.append((-0.7, f"it is for {', '.join(sorted(has))}, which is not asked for"))
    return points
