"""Times in a sentence: how long the training may take, and until when. The clock is a value, given by the caller.

A deadline becomes the seconds from now until then: what a plan can hold is how long it may run and wait.
"""

import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Final

from caravan.planning.sentences.common import B, E, Found, Said, Unused, bound, negated
from caravan.planning.sentences.numerals import ARTICLES, NUMBER, RANGE, value_of
from caravan.values.amounts import duration

RUN, QUEUE = "limits.max_run_s", "limits.queue_s"
_LONGEST: Final = 366 * 86400

_UNITS: Final = {
    60: r"min(?:ute)?s?|minuten?|minutos?|分钟|分鐘|分(?!之)",
    3600: r"h|hrs?|hours?|stunden?|std\.?|heures?|horas?|个小时|個小時|小时|小時|个钟头|时间(?=以内)|時間",
    86400: r"d|days?|tage?n?|jours?|journées?|días?|dias?|天|日(?!本)|日間",
    604800: r"weeks?|wochen?|semaines?|semanas?|周|星期|週間",
}
_UNIT: Final = "|".join(_UNITS.values())
_HALVES: Final = {
    r"half\s+an?\s+hour|half-hour|(?:eine?\s+)?halbe\s+stunde|(?:une\s+)?demi[- ]heure|media\s+hora|"
    r"半(?:个|個)?(?:小时|小時)|半時間": 1800,
    r"half\s+a\s+day|half-day|(?:ein(?:en|em)?\s+)?halbe[nr]?\s+tag|(?:une\s+)?demi[- ]journée|"
    r"medio\s+día|半天|半日": 43200,
    r"an\s+hour\s+and\s+a\s+half|une\s+heure\s+et\s+demie|(?:una\s+)?hora\s+y\s+media|一个半小时|1時間半|"
    r"一時間半": 5400,
    r"a\s+day\s+and\s+a\s+half|(?:un\s+)?día\s+y\s+medio|一天半": 129600,
    r"(?:a\s+)?quarter\s+of\s+an\s+hour|(?:eine\s+)?viertelstunde|(?:un\s+)?quart\s+d['’]heure|un cuarto de hora": 900,
    r"a\s+whole\s+day|(?:den\s+)?ganzen\s+tag|toute\s+la\s+journée|todo\s+el\s+día": 86400,
}
_DURATION: Final = re.compile(
    rf"{B}(?:(?P<half>{'|'.join(_HALVES)}){E}"
    rf"|(?P<h>\d{{1,3}})\s?(?:h|hrs?|hours?|heures?)\s?(?:and |et )?(?P<m>\d{{1,2}})\s?(?:m|min(?:ute)?s?)?{E}"
    rf"|(?P<n>{NUMBER}|"
    rf"(?:{ARTICLES})(?=\s+[^\W\d_]{{2}}))(?:{RANGE}(?P<to>{NUMBER}))?[\s-]?(?P<unit>{_UNIT})(?P<rest>\s+(?:and a half|"
    rf"und eine halbe|et demie|y media))?{E})",
    re.IGNORECASE,
)
_OTHER_BEFORE: Final = re.compile(
    rf"{B}(?:every|each|per|after|ago|takes?|took|lasts?|lasted|for the (?:last|past)|last|past|alle|jede[nr]?|nach|"
    r"dauert|vor|letzten?|chaque|toutes? les|après|dure|prend|il y a|cada|tras|después de|dura|hace|tarda|"
    r"start(?:ing|s)?(?: it| in| after)*|begin(?:ning|s)?(?: in)?|wait(?:ing)?(?: up to| at most| for)?|"
    r"queue(?: for)?)\s+(?:about |around |up to |at most )?$|每隔?$|毎$",
    re.IGNORECASE,
)
_OTHER_AFTER: Final = re.compile(
    r"^\s?(?:/|per|each|an?(?= epoch| step)|pro|je|par|por|ago|earlier|later|old|of (?:audio|video|speech|"
    r"data|recordings?|footage)|"
    r"each|long (?:audio|video)|apart|every|an epoch|the queue|in (?:the )?queue|audio|video)"
    rf"{E}|^(?:ごと|おき|前|后(?=开始)|ごとに|一次|的(?:音频|视频))",
    re.IGNORECASE,
)


def _at(name: str) -> str:
    """Source of a pattern for a time of day; its groups begin with the name."""
    ends = rf"am|pm|a\.m\.|p\.m\.|uhr|h(?P<{name}hm>\d{{2}})?|o['’]clock"
    return rf"(?P<{name}hour>\d{{1,2}})(?::(?P<{name}minute>\d{{2}}))?\s?(?P<{name}half>{ends})?"


_UNTIL: Final = (
    r"(?:(?:(?:done|ready|finish(?:ed)?|end(?:ing|ed)?|complete[d]?|over|have it|fertig)\s+)?(?:by|before|"
    r"until|till|no later than|latest|bis(?: spätestens)?(?: zum| am)?|"
    r"spätestens(?: am)?|vor|d['’]ici(?: à)?|avant|jusqu['’](?:à|au)|pour|para|antes de(?:l)?|hasta|"
    r"a más tardar)\s+(?:the |la |el |las |les |le )?)"
)
_DAYS: Final = {
    1: r"tomorrow|morgen|demain|mañana|manana|明天|明日",
    2: r"(?:the )?day after tomorrow|übermorgen|uebermorgen|après-demain|pasado mañana|后天|後天|明後日",
    0: r"today|heute|aujourd['’]hui|hoy|今天|今日|本日",
}
_WEEKDAYS: Final = (
    r"monday|mon|montag|lundi|lunes|周一|星期一|月曜(?:日)?",
    r"tuesday|tue|dienstag|mardi|martes|周二|星期二|火曜(?:日)?",
    r"wednesday|wed|mittwoch|mercredi|miércoles|miercoles|周三|星期三|水曜(?:日)?",
    r"thursday|thu|donnerstag|jeudi|jueves|周四|星期四|木曜(?:日)?",
    r"friday|fri|freitag|vendredi|viernes|周五|星期五|金曜(?:日)?",
    r"saturday|sat|samstag|samedi|sábado|sabado|周六|星期六|土曜(?:日)?",
    r"sunday|sun|sonntag|dimanche|domingo|周日|星期天|星期日|日曜(?:日)?",
)
_PARTS: Final = {
    9: r"morning|in the morning|früh|frueh|vormittag|am morgen|matin|por la mañana|早上|上午|早晨|朝|の朝|午前",
    12: r"noon|midday|mittag|midi|mediodía|中午|正午|昼",
    18: r"afternoon|nachmittag|après-midi|tarde|por la tarde|下午|午後|夕方|"
    r"the end of the (?:work(?:ing)? )?day|feierabend|close of business|cob|eod",
    22: r"evening|abend|soir|noche|por la noche|晚上|晚|夜",
    24: r"midnight|mitternacht|minuit|medianoche|午夜|半夜|深夜0時|tonight|ce soir",
}
_DAY: Final = "|".join(f"(?P<day{n}>{p})" for n, p in sorted(_DAYS.items(), reverse=True))
_WEEKDAY: Final = "|".join(f"(?P<wd{n}>{p})" for n, p in enumerate(_WEEKDAYS))
_PART: Final = "|".join(f"(?P<{{0}}part{n}>{p})" for n, p in _PARTS.items())
_DEADLINE: Final = re.compile(
    rf"{B}{_UNTIL}(?:next |nächsten |kommenden )?(?:(?:{_DAY}|{_WEEKDAY}){E}[\s,]*(?:at |around |gegen |"
    r"um |à |vers |a las? |las? )?"
    rf"(?:(?:{_PART.format('d')}){E}[\s,]*(?:at |um |à |a las? )?)?(?:{_at('d')})?(?:\s*(?:{_PART.format('e')}))?{E}"
    rf"|(?P<iso>\d{{4}}-\d{{2}}-\d{{2}})(?:[ T](?P<ihour>\d{{2}}):(?P<iminute>\d{{2}}))?"
    r"|(?=\d{1,2}(?::\d|\s?(?:[ap]\.?m|uhr|h|o['’])|\s+(?:tomorrow|morgen|demain|mañana)|\s*(?:$|"
    rf"[,.;!?])))(?:{_at('c')})(?:\s+(?P<then>tomorrow|morgen|demain|"
    rf"mañana))?(?:\s*(?:{_PART.format('f')}))?{E}"
    rf"|(?:{_PART.format('g')}){E})",
    re.IGNORECASE,
)
_CJK: Final = re.compile(
    r"(?P<to>直到|截止到?|到)?(?:(?P<day2>后天|後天|明後日)|(?P<day1>明天|明日|明早)|(?P<day0>今天|今日)|"
    + "|".join(
        f"(?P<wd{n}>{'|'.join(w for w in p.split('|') if not w[0].isascii() and ord(w[0]) > 0x3000)})"
        for n, p in enumerate(_WEEKDAYS)
    )
    + r")?\s?の?(?:(?P<am>早上|上午|早晨|清晨|午前|朝)|(?P<pm>下午|晚上|午後|夜|傍晚)|(?P<noon>中午|"
    r"正午))?の?\s?(?:(?P<hour>\d{1,2}|[一二两三四五六七八九十]{1,3})(?:点|點|時|"
    r"时)(?:(?P<minute>\d{1,2})分|(?P<half>半))?)?"
    r"\s?钟?(?:(?(to)|(?!))|之前|以前|前|まで|为止|結束|结束)に?"
)
_TONIGHT: Final = re.compile(
    rf"{B}(?:tonight|over ?night|through the night|during the night|this night|heute nacht|über nacht|"
    r"ueber nacht|diese nacht|"
    rf"cette nuit|pendant la nuit|ce soir|heute abend|esta noche|durante la noche|this evening){E}|今晚|"
    r"今夜|夜间|夜里|一晚上|一夜|通宵|夜間|一晩",
    re.IGNORECASE,
)
_WEEKEND: Final = re.compile(
    rf"{B}(?:(?:over|during|by the end of) (?:the|this) weekend|this weekend|übers wochenende|"
    rf"am wochenende|ce week-?end|pendant le week-?end|este fin de semana){E}|这个?周末|週末(?:の間|に)?",
    re.IGNORECASE,
)
_AT: Final = (
    r"\d{1,2}(?:(?::\d{2})?\s?(?:am|pm|uhr|h)|:\d{2}|"
    r"(?![\w.]|[\s-]+\w*[ -]?(?:gpu|node|card|machine|epoch|step)))"
)
"""A time of day; a bare number only where it counts nothing."""
_START: Final = re.compile(
    rf"{B}(?<!warm[ -])(?<!cold[ -])(?:start(?:ing|s)?|begin(?:ning|s)?|launch|kick (?:it )?off|not before|"
    r"starte?n?|beginne?n?|"
    r"démarrer?|commence[rz]?|empez\w+|empieza)\s+(?:it |the (?:job|run|training) )?"
    r"(?:(?:at|on|after|in|um|am|ab|in|à|dans|a las|en|tomorrow|tonight|next|morgen|demain|mañana)\s+)*"
    rf"(?:{_AT}|tomorrow|tonight|morgen|demain|mañana|(?:next )?(?:mon|"
    rf"tues|wednes|thurs|fri|satur|sun)day|midnight|\w+ (?:hours?|minutes?|days?)){E}",
    re.IGNORECASE,
)
_HURRY: Final = re.compile(
    rf"{B}(?:(?:as )?(?:fast|quick(?:ly)?|soon) as (?:possible|you can)|asap|quickly|urgent(?:ly)?|"
    r"so schnell wie möglich|schnellstmöglich|"
    rf"le plus (?:vite|rapidement) possible|lo (?:más|mas) (?:rápido|pronto) posible){E}|尽快|越快越好|"
    r"できるだけ早く|なるべく早く|至急",
    re.IGNORECASE,
)
_NO_HURRY: Final = re.compile(
    rf"{B}(?:no (?:hurry|rush)|take your time|whenever|keine eile|sans urgence|sin prisa){E}|不着急|不急", re.IGNORECASE
)


def find_times(text: str, now: datetime | None) -> Iterator[Found]:
    """Limits of the run in seconds: lengths of time, and deadlines counted from `now` (aware, in the user's zone).

    Without a clock a deadline is unused. A time to start at is unused: no field holds one.
    """
    for match in _START.finditer(text):
        yield Unused(match[0], "no field says when it starts: it starts when there is room", match.start(), match.end())
    for match in _DURATION.finditer(text):
        yield from _duration(match, text)
    for match in _DEADLINE.finditer(text):
        yield from _deadline(match, now, _moment)
    for match in _CJK.finditer(text):
        if any(value for name, value in match.groupdict().items() if name != "to"):
            yield from _deadline(match, now, _moment_cjk)
    for match in _TONIGHT.finditer(text):
        yield from _deadline(match, now, lambda _, clock: _next(clock, 8) if clock.hour >= 5 else _today(clock, 8))
    for match in _WEEKEND.finditer(text):
        yield from _deadline(match, now, lambda _, clock: _today(clock, 8) + timedelta(days=7 - clock.weekday()))
    for match in _HURRY.finditer(text):
        yield Unused(
            match[0],
            "no field says how urgent it is; more or faster GPUs and a limit of hours do",
            match.start(),
            match.end(),
        )
    for match in _NO_HURRY.finditer(text):
        yield Unused(
            match[0],
            "no field says that there is time; limits.queue_s is how long it may wait",
            match.start(),
            match.end(),
        )


def _duration(match: re.Match[str], text: str) -> Iterator[Found]:
    start, end = match.start(), match.end()
    seconds = _seconds(match)
    if seconds is None:
        return
    if _OTHER_BEFORE.search(text[max(0, start - 40) : start]) or _OTHER_AFTER.match(text[end : end + 16]):
        yield Unused(match[0].strip(), "it isn't said as a limit of the training's time", start, end)
    elif negated(text, start, end) or bound(text, start, end) == "least":
        yield Unused(match[0].strip(), "a run has an upper limit of time alone", start, end)
    elif 1 <= seconds <= _LONGEST:
        yield Said(RUN, round(seconds), start, end, "most")


def _seconds(match: re.Match[str]) -> float | None:
    if half := match["half"]:
        return next(float(s) for pattern, s in _HALVES.items() if re.fullmatch(pattern, half, re.IGNORECASE))
    if match["h"]:
        return int(match["h"]) * 3600.0 + int(match["m"]) * 60
    value = value_of(match["to"] or match["n"])
    unit = next(
        (s for s, p in _UNITS.items() if re.fullmatch(re.sub(r"\(\?[!=][^)]*\)", "", p), match["unit"], re.IGNORECASE)),
        None,
    )
    if value is None or unit is None:
        return None
    return (value + (0.5 if match["rest"] else 0)) * unit


def _deadline(
    match: re.Match[str], now: datetime | None, moment: Callable[[re.Match[str], datetime], datetime | None]
) -> Iterator[Found]:
    words, start, end = match[0].strip(), match.start(), match.end()
    if now is None:
        yield Unused(words, "the time of day is not known here", start, end)
        return
    try:
        until = moment(match, now)
    except OverflowError:  # beyond the last year that there is
        until = None
    if until is None:
        return
    seconds = round((until - now).total_seconds())
    if not 60 <= seconds <= _LONGEST:
        yield Unused(words, f"{until:%a %Y-%m-%d %H:%M} is no time that lies ahead", start, end)
        return
    left = duration(seconds, exact=True)
    meant = f"until {until:%a %Y-%m-%d %H:%M}, which is {left} from now, counted from the job's start"
    yield Said(RUN, seconds, start, end, "most", meant)


def _today(now: datetime, hour: int, minute: int = 0) -> datetime:
    return now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(hours=hour, minutes=minute)


def _next(now: datetime, hour: int) -> datetime:
    return _today(now, hour) + timedelta(days=1)


def _day_of(match: re.Match[str], now: datetime) -> int | None:
    """Days from today to the day that is named, None where none is."""
    found = match.groupdict()
    day = next((n for n in (2, 1, 0) if found.get(f"day{n}")), None)
    weekday = next((n for n in range(7) if found.get(f"wd{n}")), None)
    if weekday is not None:
        return (weekday - now.weekday()) % 7 or 7
    return 1 if found.get("then") else day


def _moment(match: re.Match[str], now: datetime) -> datetime | None:
    found = match.groupdict()
    if found["iso"]:
        return _on_date(found["iso"], found["ihour"], found["iminute"], now)
    day = _day_of(match, now)
    part = next((hour for hour in _PARTS for p in "defg" if found.get(f"{p}part{hour}")), None)
    hour, minute = next(
        ((found[f"{p}hour"], found[f"{p}minute"] or found[f"{p}hm"]) for p in "dc" if found.get(f"{p}hour")),
        (None, None),
    )
    if hour is None:
        if day is None and part is None:
            return None
        at = _today(now, part if part is not None else 24 if day == 0 else 18)
        return _later(at, day, now)
    half = (found.get("dhalf") or found.get("chalf") or "").lower().replace(".", "")
    value = int(hour)
    if value > 24 or int(minute or 0) > 59:
        return None
    if half == "pm" or (not half and part in (18, 22) and value < 12):
        value = value % 12 + 12
    elif half == "am":
        value %= 12
    return _later(_today(now, value, int(minute or 0)), day, now, plain=not half and minute is None and part is None)


def _on_date(date: str, hour: str | None, minute: str | None, now: datetime) -> datetime | None:
    try:
        return datetime.fromisoformat(f"{date} {hour or '18'}:{minute or '00'}").replace(tzinfo=now.tzinfo)
    except ValueError:
        return None


def _moment_cjk(match: re.Match[str], now: datetime) -> datetime | None:
    found = match.groupdict()
    day = _day_of(match, now)
    if "明早" in match[0]:
        found["am"] = found["am"] or "早"
    hour = value_of(found["hour"]) if found["hour"] else None
    if hour is None:
        if day is None and not (found["am"] or found["pm"] or found["noon"]):
            return None
        hour = 9 if found["am"] else 12 if found["noon"] else 22 if found["pm"] else 24 if day == 0 else 18
    elif found["pm"] and hour < 12:
        hour += 12
    minute = int(found["minute"]) if found["minute"] else 30 if found["half"] else 0
    if hour > 24 or minute > 59:
        return None
    return _later(_today(now, int(hour), minute), day, now)


def _later(at: datetime, day: int | None, now: datetime, *, plain: bool = False) -> datetime:
    """That time on the day that is named, else the next time that the clock shows it; `plain`: a 9 may be 21:00."""
    if day is not None:
        return at + timedelta(days=day)
    if plain and at <= now and at.hour < 12 and at + timedelta(hours=12) > now:
        return at + timedelta(hours=12)
    return at if at > now else at + timedelta(days=1)
