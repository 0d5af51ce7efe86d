"""The training itself in a sentence: method, precision, epochs, rates, lengths, seeds. No repository is known."""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from caravan.planning.sentences.common import B, Bound, E, Found, Said, Unused, bound, negated
from caravan.planning.sentences.numerals import ARTICLES, NUMBER, RANGE, VAGUE, article, value_of

METHOD: Final = "training.method"
_METHODS: Final = (
    (
        "qlora",
        rf"{B}q-?lora{E}|{B}4-?bit[ -](?:q-?)?lora{E}|{B}lora (?:in|with|at) (?:4[- ]?bit|nf4){E}|"
        rf"{B}quanti[sz]ed lora{E}",
    ),
    ("dora", rf"{B}dora{E}"),
    (
        "lora",
        rf"{B}lo-?ra{E}|{B}low[- ]rank(?: adapt(?:er|ation)s?)?{E}|{B}(?:(?:an?|with|"
        rf"train) )?adapt(?:e[rn]?|or|ador|ateur)s?{E}(?! \w*weights)|{B}peft{E}|低秩|适配器|アダプター?",
    ),
    (
        "full",
        rf"{B}(?:full(?:y|[- ]parameters?|[- ]weights?|[- ]model)?[ -]+(?:fine[ -]?tun\w*|training)|"
        r"full[- ](?:parameter\w*|weight\w*|ft)|"
        r"(?:train|tune|update|fine[ -]?tune) (?:all|every) (?:of the |the )?(?:weights|parameters|"
        r"layers)|all (?:the )?(?:weights|parameters|layers)|"
        r"(?:vollständige[snrm]?|komplette[snrm]?|volle[snrm]?) (?:fine[ -]?tun\w*|training|"
        r"feinabstimmung)|alle (?:gewichte|parameter)|"
        r"(?:fine[ -]?tun\w*|entraînement|réglage) complet|complet fine[ -]?tuning|tous les (?:poids|paramètres)|"
        rf"(?:ajuste(?: fino)?|fine[ -]?tun\w*|entrenamiento) completo|todos los (?:pesos|parámetros)){E}|"
        r"全参数?(?:微调|训练)?|全量(?:微调|训练)?|全(?:ての)?(?:パラメータ|重み)|"
        r"フル(?:ファインチューニング|パラメータ)",
    ),
)

_X: Final = r"(?:\s*(?:=|:|：|of|to|is|at|von|auf|de|d['’]|à|a|en|は|を|为|是|設定|设为|with|um)\s*){0,2}\s*"
_EPOCH: Final = (
    r"(?:epochs?|epochen|épo(?:ques?|que)|epoques?|épocas?|epocas?|passes(?: over)?|"
    r"durchläufe|个?epoch|轮|輪|周期|エポック)"
)
_STEP: Final = (
    r"(?:(?:training |optimi[sz]er |gradient |update )?(?:steps?|iterations?|iters?|updates?)|"
    r"(?:trainings?)?schritten?|étapes|pasos|步|ステップ)"
)


class _Rule(NamedTuple):
    path: str
    pattern: re.Pattern[str]
    whole: bool
    most: float = 1e9
    least: float = 1e-12


def _rule(path: str, pattern: str, *, whole: bool = True, most: float = 1e9, least: float = 1) -> _Rule:
    return _Rule(path, re.compile(pattern, re.IGNORECASE), whole, most, least)


_N: Final = rf"(?P<n>{NUMBER})"
_TO: Final = rf"(?:{RANGE}(?P<to>{NUMBER}))?"
_RULES: Final = (
    _rule(
        "training.epochs",
        rf"{B}(?P<n>{NUMBER}|half\s+an|{ARTICLES}){_TO}[\s-]?(?:full |complete |whole |more |ganze |"
        rf"training |个|個)?{_EPOCH}{E}|(?:epochs?|エポック数?|epoch数|轮数|num_(?:train_)?epochs)\s*(?:=|"
        rf":|：|of|to|は|を|为|是)\s*(?P<m>{NUMBER}){E}",
        whole=False,
        least=1e-6,
    ),
    _rule(
        "training.lr",
        rf"(?:{B}(?:learning[- _]rate|lr|lernrate|taux d['’]apprentissage|tasa de aprendizaje)|学习率|"
        rf"学習率){_X}(?P<n>\d+(?:[.,]\d+)?(?:e[+-]?\d+)?)(?:{RANGE}(?P<to>\d+(?:[.,]\d+)?(?:e[+-]?\d+)?))?{E}",
        whole=False,
        least=1e-12,
        most=1e3,
    ),
    _rule(
        "training.grad_accum",
        rf"{B}(?:(?:gradient|grad)[- _]accum(?:ulation)?(?:[- _]steps?)?|gradientenakkumulation|"
        rf"accumulation de gradient|acumulación de gradientes?){_X}{_N}{E}|"
        rf"{B}accumulate(?: gradients)?(?: over| for)? (?P<m>{NUMBER})(?: steps| batches)?{E}|"
        rf"(?:梯度累[积計]|勾配累積)(?:步数)?{_X}(?P<k>{NUMBER})",
    ),
    _rule(
        "training.warmup",
        rf"{B}warm-?up(?:[- _](?:ratio|steps?))?{_X}{_N}(?: steps)?{E}|"
        rf"{B}(?P<m>{NUMBER})(?: steps)?(?: of)?[ -]warm-?up(?: steps)?{E}",
        whole=False,
        least=0,
    ),
    _rule(
        "training.save_total_limit",
        rf"{B}keep (?:only )?(?:the )?(?:last |latest |at most |up to )?{_N} checkpoints?{E}|"
        rf"{B}(?:save[_ ]total[_ ]limit){_X}(?P<m>{NUMBER}){E}",
    ),
    _rule(
        "training.micro_batch",
        rf"(?:{B}(?:(?:micro|per[- ]device|per[- ]gpu|mini)?[- _]?batch(?:[- _]?size)?|bs|batch(?:größe|"
        r"groesse)|taille (?:de|du) (?:lot|batch)|tamaño (?:de|del) (?:lote|batch))|批(?:次)?大小|"
        rf"批量(?:大小)?|バッチ(?:サイズ)?){_X}{_N}{E}|{B}batches of (?P<m>{NUMBER}){E}",
        most=1e6,
    ),
    _rule(
        "training.max_steps",
        rf"{B}{_N}{_TO}[\s-]?{_STEP}{E}|(?:max[_ ]steps|max(?:imum)? (?:number of )?steps|"
        rf"最大步数){_X}(?P<m>{NUMBER}){E}",
    ),
    _rule(
        "training.max_len",
        rf"(?:{B}(?:(?:max(?:imum)?[- _])?(?:sequence|context|seq)(?:[- _]?(?:length|len|window))?|"
        r"max(?:imum)?[- _](?:length|len|tokens)|(?:kontext|sequenz)länge|kontextfenster|"
        r"longueur (?:de |maximale? (?:de )?)?(?:séquence|contexte)|longitud (?:de |"
        r"máxima (?:de )?)?(?:secuencia|contexto))|上下文(?:长度)?|序列长度|最大长度|コンテキスト長?|"
        rf"系列長|最大長){_X}{_N}{E}"
        rf"|{B}(?P<m>{NUMBER})[\s-]?(?:tokens?(?: long| (?:of )?context| sequences?| per (?:sequence|"
        rf"sample))|(?:token )?(?:context|sequences?)){E}",
    ),
    _rule(
        "training.lora_rank",
        rf"(?:{B}(?:(?:lora[- _]?)?rank|lora[_ ]?r|r(?=\s?=)|rang|rango)|秩|ランク){_X}{_N}{E}|{B}rank-(?P<m>\d+){E}",
        most=1e5,
    ),
    _rule(
        "training.seed",
        rf"(?:{B}(?:random[- _])?(?:seed|startwert|graine|semilla)|随机种子|种子|シード値?){_X}(?P<n>\d{{1,9}}){E}",
        least=0,
    ),
    _rule(
        "training.max_grad_norm",
        rf"{B}(?:max[_ ]grad[_ ]norm|(?:clip(?:ping)? (?:the )?)?grad(?:ient)?s?(?: norm)?(?: clip(?:ping|"
        rf"ped)?)?(?: (?:at|to))|grad(?:ient)?[- _]clip(?:ping)?){_X}{_N}{E}",
        whole=False,
        least=1e-12,
    ),
)
_EVERY: Final = re.compile(
    rf"(?:{B}(?:every|each|per|eval(?:uate|uation)?(?: for| on)?|log(?:ging)?|sav(?:e|ing)|warm-?up(?: of|"
    r" for)?|accumulat\w+(?: over| of)?|last|after|from|at|alle|jede[nr]?|chaque|tous les|toutes les|cada|"
    r"the (?:first|last)|early stop\w*(?: after)?|patience)\s+(?:about )?|每|毎)$",
    re.IGNORECASE,
)
_EVERY_AFTER: Final = re.compile(
    r"^\s?(?:of warm-?up|warm-?up|between|apart|per (?:epoch|second)|a second|/s|ごと)|"
    rf"^\s?\w{{0,12}} (?:for )?warm-?up{E}",
    re.IGNORECASE,
)
_LARGEST_BATCH: Final = 10**7
_GLOBAL: Final = re.compile(
    rf"{B}(?:effective|global|total|overall|effektive|gesamte|globale?|totale?)[ -]batch(?:[- ]?size|"
    rf"größe)?{_X}(?P<n>{NUMBER}){E}|(?:总|全局)(?:批量|批次)(?:大小)?{_X}(?P<m>{NUMBER})",
    re.IGNORECASE,
)
_SWITCHES: Final = (
    ("training.precision", "bf16", rf"{B}(?:bf-?16|bfloat-?16){E}"),
    (
        "training.precision",
        "fp16",
        rf"{B}(?:fp-?16|float-?16|half[- ]precision|halbe[rn]? (?:genauigkeit|präzision)|demi-précision){E}|半精度",
    ),
    ("training.precision", "fp32", rf"{B}(?:fp-?32|float-?32|full[- ]precision|single[- ]precision){E}"),
    ("training.quant_bits", 4, rf"{B}(?:(?:in |to )?4[- ]?bits?|int4|nf4){E}|4位量化"),
    ("training.quant_bits", 8, rf"{B}(?:(?:in |to )?8[- ]?bits?|int8){E}(?! (?:adam|optim))|8位量化"),
    (
        "training.grad_checkpointing",
        True,
        rf"{B}(?:grad(?:ient)?|activation)[- _]checkpointing{E}|梯度检查点|勾配チェックポイント",
    ),
)
_DENIED: Final[dict[tuple[str, object], object]] = {("training.grad_checkpointing", True): False}
_VAGUE: Final = re.compile(rf"{B}(?P<many>{VAGUE})\s?(?:more )?(?:{_EPOCH}|training steps){E}", re.IGNORECASE)


def find_training(text: str) -> Iterator[Found]:
    """Method and hyperparameters; what is denied without a word of what instead is unused."""
    yield from _method(text)
    overall = list(_GLOBAL.finditer(text))
    for match in overall:
        said = value_of(match["n"] or match["m"])
        if said is not None and said == int(said) and 0 < said <= _LARGEST_BATCH:
            yield Said("training.global_batch", int(said), match.start(), match.end())
    for rule in _RULES:
        for match in rule.pattern.finditer(text):
            if not any(m.start() <= match.start() < m.end() for m in overall):
                yield from _number(rule, match, text)
    for path, value, pattern in _SWITCHES:
        for match in re.finditer(pattern, text, re.IGNORECASE):
            if not negated(text, match.start(), match.end()):
                yield Said(path, value, match.start(), match.end())
            elif (path, value) in _DENIED:
                yield Said(path, False, match.start(), match.end())
            else:
                yield Unused(
                    match[0],
                    "denied, and nothing is named instead: what the repository has stays",
                    match.start(),
                    match.end(),
                )
    for match in _VAGUE.finditer(text):
        yield Unused(match[0], "how many? A number is needed", match.start(), match.end())


def _method(text: str) -> Iterator[Found]:
    taken: list[tuple[int, int]] = []
    wanted, denied = list[Said](), list[tuple[str, re.Match[str]]]()
    for method, pattern in _METHODS:
        for match in re.finditer(pattern, text, re.IGNORECASE):
            if any(s < match.end() and match.start() < e for s, e in taken):
                continue
            taken.append((match.start(), match.end()))
            if negated(text, match.start(), match.end()):
                denied.append((method, match))
            else:
                wanted.append(Said(METHOD, method, match.start(), match.end()))
    named = {w.value for w in wanted}
    if named == {"lora", "qlora"} or named == {"lora", "dora"}:  # `QLoRA … the adapter`: the special one is meant
        wanted = [w for w in wanted if w.value != "lora"]
    yield from wanted
    both = [(method, match) for method, match in denied if method in named]
    if both:  # said and denied: it clashes with itself
        method, match = both[0]
        yield Said(METHOD, "full" if method != "full" else "lora", match.start(), match.end())
    if wanted or not denied:
        return
    methods = {method for method, _ in denied}
    first = denied[0][1]
    if "lora" in methods and "full" not in methods:
        yield Said(METHOD, "full", first.start(), first.end(), "", "no adapter: all weights")
    else:
        yield Unused(
            first[0], f"not {' and not '.join(sorted(methods))}: which method instead?", first.start(), first.end()
        )


def _number(rule: _Rule, match: re.Match[str], text: str) -> Iterator[Found]:
    start, end = match.start(), match.end()
    found = match.groupdict()
    word = found.get("n") or found.get("m") or found.get("k") or ""
    low = 0.5 if re.fullmatch(r"half\s+an", word, re.IGNORECASE) else value_of(word)
    high = value_of(found.get("to") or "") if found.get("to") else None
    if rule.path in ("training.max_steps", "training.epochs") and (
        _EVERY.search(text[max(0, start - 40) : start]) or _EVERY_AFTER.match(text[end : end + 24])
    ):
        yield Unused(match[0], f"it isn't said as {rule.path}", start, end)
        return
    if low is None or negated(text, start, end):
        if not article(word):
            yield Unused(match[0], "which number instead?", start, end)
        return
    if rule.path == "training.max_len" and re.fullmatch(r"\d+\s?k", word, re.IGNORECASE):
        low = int(word[:-1]) * 1024.0
    if (rule.whole and low != int(low)) or not rule.least <= low <= rule.most:
        yield Unused(match[0], f"{low:g} is no value of {rule.path}", start, end)
        return
    limit: Bound = bound(text, start, end)
    meant = ""
    if high is not None and low < high <= rule.most:
        meant = f"the lower end of {low:g} to {high:g}"
    yield Said(rule.path, int(low) if rule.whole else low, start, end, limit, meant, article(word))
