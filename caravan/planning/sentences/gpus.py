"""GPUs in a sentence: how many, of which type and memory, on how many nodes, which not. No cluster is known."""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from caravan.planning.catalogue import CATALOGUE
from caravan.planning.sentences.common import B, E, Found, Said, Unused, bound, negated
from caravan.planning.sentences.numerals import ARTICLES, NUMBER, RANGE, VAGUE, article, value_of

COUNT, MODEL, MEMORY, NODES = "resources.gpus", "resources.gpu_model", "resources.gpu_memory_mib", "launch.nodes"
AVOID: Final = "avoid"
"""Not a plan's field: GPU types that the sentence excludes. Which nodes have them, the cluster says."""

_MOST_GPUS, _MOST_NODES = 1024, 1000


def _names() -> str:
    """The types as people write them, the longer ones first: `A100`, `RTX 4090`, `MI300X`, of the catalogue."""
    shorts = {
        m[0]
        for g in CATALOGUE
        if (m := re.search(r"\b(?:RTX )?(?:PRO )?[A-Z]{0,2}\d{2,4}[A-Z]{0,2}(?: Ti)?\b", g.name))
    }
    shorts |= {m[0] for g in CATALOGUE if (m := re.search(r"\b(?:[LT]4|[A-Z]\d{4})\b", g.name))}
    return "|".join(re.escape(s).replace(r"\ ", r"[ -]?") for s in sorted(shorts, key=lambda s: (-len(s), s)))


_KNOWN: Final = _names()
_CONSUMER: Final = "|".join(sorted({m[1] for g in CATALOGUE if (m := re.search(r"GeForce RTX (\d{4})", g.name))}))
_BRAND: Final = r"(?:(?:nvidia|amd|tesla|geforce|quadro|instinct)[ -]?)*"
_FORM: Final = r"(?:[ -]?(?:sxm\d?|pcie|nvl|hbm\d?|ada(?: generation)?))*"


def _type(name: str) -> str:
    """Source of a pattern for a type; its groups are `<name>known` and `<name>gb`."""
    size = rf"(?:[ -]?\(?(?P<{name}gb>\d{{2,3}}) ?(?:gb?|gib)\)?)?"
    other = r"(?:gtx|rtx|quadro|tesla|geforce)(?: rtx| gtx)?[ -]?[a-z]?\d{2,4}(?: ?ti| super)?"
    return rf"{_BRAND}(?P<{name}known>{_KNOWN}|{other}){_FORM}{size}{_FORM}"


_TYPES: Final = re.compile(
    rf"(?:(?<![A-Za-z0-9_./-])|(?<=\d)|(?<=\d[x×*]))(?:(?P<pregb>\d{{2,3}}) ?gb )?{_type('t')}s?(?![\w/]|"
    r"[.]\d|-\d|-[a-z]\w*/)",
    re.IGNORECASE | re.ASCII,
)
_SHORT: Final = re.compile(
    rf"(?:(?:(?:{NUMBER})\s*(?:x|×|\*|(?P<counter>[张張块塊枚台个個]))?\s*)(?P<a>{_CONSUMER})(?:s|(?(counter)|(?!))|(?=\s*(?:gpus?|"
    rf"cards?|卡|$|[,.;，。])))|{B}(?P<b>{_CONSUMER}(?: ?ti{E})?)(?:s{E}|(?<=[iI])|(?=\s*(?:gpus?|cards?|"
    rf"ti{E}|显卡|を))))",
    re.IGNORECASE,
)
_TPU: Final = re.compile(
    rf"{B}(?:tpus?(?:[ -]?v\d\w?)?(?:-\d+)?|gaudi ?\d?|trainium ?\d?|ipus?|apple silicon|mps){E}", re.IGNORECASE
)

_GPU: Final = (
    r"(?:gpus?|(?:graphics?|video|gpu) ?cards?|cards?|grafikkarten?|gpu-karten?|karten|cartes?(?: graphiques?)?|"
    r"tarjetas?(?: gráficas?| de vídeo)?|gráficas|显卡|顯卡|卡|グラフィックボード|グラボ)"
)
_COUNTER: Final = r"(?:个|個|张|張|块|塊|枚|台|基|つ|本|颗|顆|片)"
_ADJECTIVE: Final = (
    r"(?:(?:of (?:the |our |those )?|nvidia |amd |big |large |small |same |identical |"
    r"new |free |der |des |de |(?:\d{2,3} ?gb )|modern |datacenter )?)"
)
_TIMES: Final = r"(?:[ -]?[x×*][ -]?)?"
_COUNTED: Final = re.compile(
    rf"{B}(?P<n>{NUMBER}|"
    rf"{ARTICLES})(?:{RANGE}(?P<to>{NUMBER}))?(?:{_TIMES}\s?{_COUNTER}?[的の]?[\s-]?){_ADJECTIVE}{_ADJECTIVE}"
    rf"(?P<what>(?:{_type('c')}|{_CONSUMER})?s?(?:[\s-]?{_GPU})?)(?:(?<=[^\x00-\x7f])|"
    r"(?![A-Za-z0-9]))(?P<after>[ -](?:node|machine|server|box|host|cluster|instance|rechner|nœud|"
    rf"nodo)s?{E}|节点|ノード)?",
    re.IGNORECASE,
)
_LABELLED: Final = re.compile(
    rf"(?:{B}(?:num[_ -]?gpus?|n[_-]gpus?|gpu count|number of gpus|gpus?|anzahl (?:der )?gpus|"
    rf"nombre de gpus?|número de gpus?)(?:\s+(?:is|of)|\s*[=:])\s*(?P<n>{NUMBER}){E}"
    rf"|(?:gpu|显卡|{_KNOWN})s?\s?(?:数|数量|个数)?\s?(?:は|を|が|:|：|=|为|是|用|"
    rf"で)?\s?(?P<m>{NUMBER})\s?{_COUNTER}(?!\w*(?:小时|分|日|天))"
    rf"|(?:{_type('y')})s?[ ]?(?:[x×*])[ ]?(?P<k>\d{{1,3}}){E})",
    re.IGNORECASE,
)
_NODE: Final = (
    r"(?:nodes?|machines?|hosts?|servers?|boxes|knoten|maschinen?|rechnern?|n(?:œ|oe)uds?|"
    r"serveurs?|nodos?|máquinas?|servidores?|节点|節點|机器|台机器|ノード|サーバー?|台のマシン)"
)
_NODED: Final = re.compile(
    rf"{B}(?P<n>{NUMBER}|{ARTICLES})(?:{RANGE}(?P<to>{NUMBER}))?[\s-]?(?:x |×\s?)?(?:gpu |separate |"
    rf"different |个|個|台|つの)?\s?(?P<what>{_NODE})(?![a-z])",
    re.IGNORECASE,
)
_VAGUE: Final = re.compile(
    rf"{B}(?P<many>{VAGUE})\s?(?:the )?(?:more |available |free |of )?{_COUNTER}?(?:の)?(?:{_type('v')}s?|"
    rf"{_GPU})(?![a-z])|{B}multi-?gpu{E}",
    re.IGNORECASE,
)
_NONE: Final = re.compile(
    rf"{B}(?:(?:no|zero|0|without(?: any| a)?|don['’]t (?:use|need) (?:a |any )?|keine?n?|ohne(?: eine?)?|"
    r"sans|pas de|aucun|sin|ningun[ao]?) (?:gpus?|grafikkarten?|carte graphique)(?! (?:type|limit|memory))"
    r"|cpu[- ]only|only (?:on |use )?(?:the )?cpus?|(?:just|run|train(?:ing)?|stay|it) on (?:a |"
    r"the )?cpus?|on (?:a |the )?cpu|nur (?:auf )?(?:der )?cpu|auf (?:der |einer )?cpu|"
    rf"(?:uniquement )?sur (?:le )?(?:cpu|processeur)|(?:solo )?en (?:la )?cpu|solo cpu){E}|(?:不用|不要|"
    r"没有|沒有|无|無)\s?(?:gpu|显卡)|(?:只用|仅用|用|在)\s?cpu|gpu\s?(?:なし|無し|不要|を使わ|は使わ)|"
    r"cpu\s?(?:のみ|だけ|で)",
    re.IGNORECASE,
)
_MEMORY_OF: Final = re.compile(
    rf"{B}(?P<n>\d{{1,3}})\s?(?:gb?|gib)(?:\s(?:of )?|[ -])?(?:v-?ram|gpu[ -]memory|gpus?|grafikspeicher|"
    rf"(?:de )?(?:mémoire|memoria) (?:gpu|vidéo|de vídeo)|显存|的显存|的?显卡|vram|gpuメモリ|cards?){E}"
    r"|(?:v-?ram|gpu[ -]memory|显存|gpus? (?:with|of|mit|avec|con)(?: at least| mindestens| au moins|"
    r" al menos)?|gpuメモリ)\s?(?:of |von |de |至少|:|が)?\s?(?P<m>\d{1,3})\s?(?:gb?|gib)(?![a-z])",
    re.IGNORECASE,
)
_EACH: Final = re.compile(
    rf"{B}(?:each|per|apiece|every|a(?= node| machine| host)|je(?:weils)?|pro|chacun[e]?|par|cada|por){E}|"
    r"每|各|ごと|ずつ|あたり",
    re.IGNORECASE,
)


_AND: Final = re.compile(
    r"\s*(?:,?\s*(?:or|nor|and|oder|und|noch|ou|et|ni|o|y|e)\s+(?:any |the )?|/|、|和|或|や)\s*", re.IGNORECASE
)
_KINDS: Final = ("PCIe", "NVL", "Ada")
"""What tells two GPUs of one name apart, beside the memory."""


_OF: Final = re.compile(r"\s*,?\s*(?:of|with|having|mit|zu|je|à|de|con|avec|x|×|\*|で|に|每台|各)\s*", re.IGNORECASE)
"""Between nodes and GPUs: that many on each."""


class _Hit(NamedTuple):
    value: int
    start: int
    end: int
    bound: str
    meant: str
    weak: bool


def find_gpus(text: str) -> Iterator[Found]:
    """Counts, types, memory and nodes; types that are excluded under `AVOID`; counts without a number as unused."""
    none = [m for m in _NONE.finditer(text) if not bound(text, m.start(), m.end())]
    for match in none:
        yield Said(COUNT, 0, match.start(), match.end(), "", "no GPU")
    for match in _TPU.finditer(text):
        if not negated(text, match.start(), match.end()):
            yield Unused(match[0], "jobs are placed on GPUs or CPUs alone", match.start(), match.end())
    types = list(_types(text))
    yield from types
    nodes = list(_nodes(text))
    yield from nodes
    yield from _counts(text, nodes)
    for match in _VAGUE.finditer(text):
        yield Unused(match[0], "how many GPUs? A number is needed", match.start(), match.end())
    for match in _MEMORY_OF.finditer(text):
        if not negated(text, match.start(), match.end()):
            size = int(match["n"] or match["m"])
            meant = f"GPUs with {size} GB or more"
            if 1 <= size <= 999 and not any(t.start <= match.start() < t.end for t in types):
                yield Said(MEMORY, size * 10**9 // 2**20, match.start(), match.end(), "least", meant)


def _types(text: str) -> Iterator[Found]:
    seen: list[tuple[int, int]] = []
    denied: list[int] = []  # where a type that is excluded ends
    for match in sorted((*_TYPES.finditer(text), *_SHORT.finditer(text)), key=lambda m: m.start()):
        found = match.groupdict()
        name = found.get("a") or found.get("b")
        start = match.start("a" if found.get("a") else "b") if name else match.start()
        end = match.end()
        if any(s < end and start < e for s, e in seen):
            continue
        seen.append((start, end))
        size = found.get("pregb") or found.get("tgb")
        named = _spelled(f"RTX {name}") if name else _spelled(found["tknown"] or "")
        named += "".join(f" {word}" for word in _KINDS if word.lower() in match[0].lower() and word not in named)
        value = f"{named} {size}GB" if size else named
        listed = any(_AND.fullmatch(text[e:start]) for e in denied if e <= start)
        if listed or negated(text, start, end):
            denied.append(end)
            yield Said(AVOID, value, start, end)
        else:
            yield Said(MODEL, value, start, end)


def _spelled(name: str) -> str:
    """As the catalogue spells it (`RTX 3090 Ti`), where it knows it."""
    plain = re.sub(r"[ -]+", " ", name)
    known = (m[0] for g in CATALOGUE if (m := re.search(rf"\b{re.escape(plain)}\b", g.name, re.IGNORECASE)))
    return next(known, re.sub(r"^(RTX|GTX)(?=\d)", r"\1 ", plain.upper()))


def _nodes(text: str) -> Iterator[Said | Unused]:
    for match in _NODED.finditer(text):
        start, end = match.start(), match.end()
        value = value_of(match["n"])
        if value is None or value != int(value) or not 0 < value <= _MOST_NODES or negated(text, start, end):
            continue
        if article(match["n"]):
            continue  # `a machine` says nothing
        yield Said(NODES, int(value), start, end, bound(text, start, end))


def _counts(text: str, nodes: list[Said | Unused]) -> Iterator[Found]:
    hits = [hit for hit in _hits(text) if not isinstance(hit, Unused)]
    yield from (hit for hit in _hits(text) if isinstance(hit, Unused))
    several = next((n.value for n in nodes if isinstance(n, Said) and isinstance(n.value, int) and n.value > 1), 1)
    each = _EACH.search(text) is not None
    values = {hit.value for hit in hits}
    for hit in hits:
        value, meant = hit.value, hit.meant
        together = not each and not any(_OF.fullmatch(text[n.end : hit.start]) for n in nodes)
        if several > 1 and value % several == 0 and (together or (value // several in values and several < value)):
            value, meant = value // several, f"{hit.value} on {several} nodes"  # all of them together
        yield Said(COUNT, value, hit.start, hit.end, hit.bound, meant, hit.weak)  # type: ignore[arg-type]


def _hits(text: str) -> Iterator[_Hit | Unused]:
    taken: list[tuple[int, int]] = []
    for match in (*_COUNTED.finditer(text), *_LABELLED.finditer(text)):
        found = match.groupdict()
        start, end = match.start(), match.end()
        word = found.get("n") or found.get("m") or found.get("k") or ""
        if found.get("after") and article(word):
            continue  # `an A100 node`
        if "what" in found and not found["what"].strip(" s-"):
            continue
        if "what" in found and re.fullmatch(_CONSUMER, found["what"]) and article(word):
            continue
        if any(s < end and start < e for s, e in taken):
            continue
        taken.append((start, end))
        low, high = value_of(word), value_of(found.get("to") or "") if found.get("to") else None
        if negated(text, start, end):
            if not article(word):
                yield Unused(match[0], "which number of GPUs instead?", start, end)
            continue
        if low is None or low != int(low) or not 0 <= low <= _MOST_GPUS:
            yield Unused(match[0], "no number of GPUs", start, end)
            continue
        limit, meant = bound(text, start, end), ""
        if high is not None and low < high <= _MOST_GPUS:
            meant = f"the lower end of {int(low)} to {int(high)}"
        yield _Hit(int(low), start, end, limit, meant, article(word))
