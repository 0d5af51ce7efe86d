"""The calculator's answer for a person, as tables, and for a program, as a document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from caravan.planning.calculator import MEANS, Offer, Step, holding, largest_batch, largest_length, steps
from caravan.planning.duration import Named, RunTime, bounded, run_time
from caravan.planning.margin import holds
from caravan.planning.memory.families import FOR_IMAGES, image_side
from caravan.terminal.text import one_line, span
from caravan.values.amounts import duration, money
from caravan.values.estimate import Range

if TYPE_CHECKING:
    from collections.abc import Callable

    from caravan.planning.calculator import Figure
    from caravan.planning.memory import Setting
    from caravan.terminal.estimate_sheet import Sheet
    from caravan.terminal.streams import Terminal
    from caravan.values.base import Json
    from caravan.values.shape import ModelShape

_SHOWN: Final = 8
_OPTIONS: Final = Named(rows="--rows", steps="--max-steps")


class Held(NamedTuple):
    """A GPU type that holds the training, with time and cost on it as far as they are known."""

    offer: Offer
    seconds: Range | None
    cost_usd: Range | None


class Room(NamedTuple):
    """What the GPU type that is asked about holds at most."""

    offer: Offer
    fits: bool
    micro_batch: int
    seq_len: int


def show_sheet(terminal: Terminal, sheet: Sheet, *, as_json: bool) -> int:
    """Print the answer: exit code 0, or 2 where the model isn't known."""
    if sheet.on_cpu is not None:
        from caravan.terminal.estimate_cpu import show_without_gpu

        return show_without_gpu(terminal, sheet.name, sheet.on_cpu, as_json=as_json)
    if sheet.shape is None or sheet.needed is None:
        from caravan.values.errors import UsageError

        why = next((n for n in sheet.notes if "isn't estimated" in n), "GPU memory isn't estimated")
        hint = next((n for n in sheet.notes if n.startswith("to have it")), "")
        raise UsageError(f"{one_line(why)}.", hint=one_line(hint[:1].upper() + hint[1:]))
    answer = _Answer(sheet, sheet.shape, sheet.needed)
    if as_json:
        terminal.document(answer.document())
    else:
        answer.show(terminal)
    return 0


class _Answer:
    """All figures of a sheet."""

    def __init__(self, sheet: Sheet, shape: ModelShape, needed: Figure) -> None:
        self.sheet, self.shape, self.needed = sheet, shape, needed
        fitting = holding(self.needed, sheet.offers)
        self.held = tuple(sorted((self._held(offer) for offer in fitting), key=_by_cost))  # else as offers are sorted
        self.room = self._room(sheet.named)
        kind = sheet.named.kind if sheet.named else None
        self.steps: tuple[Step, ...] = steps(shape, sheet.setting, kind)
        self.time = self._time(sheet.named) if sheet.named else None

    def _time(self, offer: Offer) -> RunTime:
        sheet, limit = self.sheet, self.sheet.plan.limits.max_run_s
        found = run_time(sheet.plan, self.shape, sheet.setting, offer.kind, sheet.data, _OPTIONS)
        return found if limit is None else bounded(found, limit)

    def _held(self, offer: Offer) -> Held:
        seconds = self._time(offer).seconds
        return Held(offer, seconds, _cost(seconds, offer, self.gpus))

    @property
    def gpus(self) -> int:
        """GPUs of the whole job."""
        return max(1, self.sheet.plan.resources.gpus * self.sheet.plan.launch.nodes)

    def _room(self, offer: Offer | None) -> Room | None:
        if offer is None:
            return None
        batch = largest_batch(self.shape, self.sheet.setting, offer.memory_gib)
        images = self.shape.family in FOR_IMAGES  # which have no length
        length = 0 if images else largest_length(self.shape, self.sheet.setting, offer.memory_gib)
        return Room(offer, holds(offer.memory_gib, self.needed.high), batch, length)

    def notes(self) -> tuple[str, ...]:
        """What was assumed, and what isn't known."""
        found = list(self.sheet.notes)
        if self.time is not None:
            found += self.time.notes
        elif self.sheet.data is None and self.sheet.plan.training.max_steps is None:
            found.append("time and cost aren't estimated: give --rows (and --epochs), or --max-steps")
        priceless = [o.name for o in self.sheet.offers if o.usd_per_hour is None]
        if self.sheet.named is not None and self.sheet.named.usd_per_hour is None:
            found.append(f"{self.sheet.named.name}: its price isn't known; give --price USD or a prices.toml")
        elif priceless and len(priceless) == len(self.sheet.offers):
            found.append("no GPU type here has a price; give --price USD or a prices.toml")
        return tuple(dict.fromkeys(found))

    def document(self) -> dict[str, Json]:
        """For a program. Memory in GiB of one GPU, seconds, US dollars."""
        needed, time = self.needed, self.time
        return {
            "model": self.sheet.name,
            "peak_gib": round(needed.gib, 4),
            "high_gib": round(needed.high, 4),
            "breakdown": {p.name: p.gib for p in needed.parts},
            "setting": _setting(self.sheet.setting),
            "shape": self.shape.model_dump(mode="json"),
            "gpu": _room_document(self.room) if self.room else None,
            "gpus_of": self.sheet.where,
            "gpus": [_held_document(h) for h in self.held],
            "changes": [
                {"change": s.name, "gib": round(s.gib, 4), "saves_gib": round(s.saves, 4), "costs": s.costs}
                for s in self.steps
            ],
            "seconds": _range(time.seconds) if time and time.seconds else None,
            "seconds_per_step": _range(time.step_s) if time and time.step_s else None,
            "steps": time.steps if time else None,
            "cost_usd": self._cost_document(),
            "assumptions": list(self.notes()),
        }

    def _cost_document(self) -> Json:
        if self.time is None or self.sheet.named is None:
            return None
        cost = _cost(self.time.seconds, self.sheet.named, self.gpus)
        return _range(cost) if cost else None

    def show(self, terminal: Terminal) -> None:
        """For a person."""
        from caravan.terminal.console import cell, draw, listing

        needed = self.needed
        terminal.out(one_line(f"{self.sheet.name}: {_in_words(self.sheet.setting, self.shape)}"))
        terminal.out()
        parts = listing("GPU memory", "GiB", "")
        parts.columns[1].justify = "right"
        for part in needed.parts:
            parts.add_row(cell(part.name), f"{part.gib:.2f}", cell(MEANS.get(part.name, "")))
        each = " on each GPU" if self.gpus > 1 else ""
        parts.add_row(cell("in all", "bold"), f"{needed.gib:.2f}", f"likely peak{each}")
        parts.add_row(cell("high end", "bold"), f"{needed.high:.2f}", "what a GPU should hold, to be safe")
        draw(terminal.stdout, parts)
        terminal.out()
        if self.room is not None:
            self._show_room(terminal, self.room)
        self._show_held(terminal)
        self._show_steps(terminal)
        for note in self.notes():
            terminal.out(one_line(f"Assumed: {note}" if "isn't" not in note else f"Note: {note}"))

    def _show_room(self, terminal: Terminal, room: Room) -> None:
        offer = room.offer
        fits = "fits" if room.fits else "does not fit"
        cost = f", {money(offer.usd_per_hour)} an hour" if offer.usd_per_hour is not None else ", price not known"
        terminal.out(one_line(f"On {offer.name} ({offer.memory_gib:.1f} GiB{cost}): {fits}."))
        setting = self.sheet.setting
        if room.micro_batch:
            terminal.out(f"  largest micro batch at {_size(setting, self.shape)}: {room.micro_batch}")
        if room.seq_len:
            longest = " (the model's longest)" if room.seq_len == self.shape.max_positions else ""
            terminal.out(f"  longest sequence at micro batch {setting.micro_batch}: {room.seq_len} tokens{longest}")
        if not room.micro_batch and not room.seq_len:
            terminal.out("  no micro batch and no sequence is small enough: see below what would change that")
        time, named = self.time, self.sheet.named
        if time is not None and time.seconds is not None and named is not None:
            cost_usd = _cost(time.seconds, named, self.gpus)
            told = _likely(cost_usd, money) if cost_usd else "cost not known"
            terminal.out(f"  whole training: {_likely(time.seconds, duration)}, {told}")
        elif time is not None and time.step_s is not None:
            terminal.out(f"  a step: {_likely(time.step_s, duration)}")
        terminal.out()

    def _show_held(self, terminal: Terminal) -> None:
        from caravan.terminal.console import cell, draw, listing

        where = self.sheet.where
        if not self.held:
            most = max(self.sheet.offers, key=lambda o: o.memory_gib, default=None)
            largest = f"; the largest, {most.name}, has {most.memory_gib:.1f} GiB" if most else ": it has none"
            terminal.out(one_line(f"No single GPU of {where} holds it{largest}."))
            terminal.out()
            return
        table = listing(f"GPUs of {where} that hold it", "GiB", "USD/h", "time", "cost")
        for number in (1, 2):
            table.columns[number].justify = "right"
        rows = _merged(self.held)
        for (offer, seconds, cost), alike in rows[:_SHOWN]:
            hourly = "?" if offer.usd_per_hour is None else f"{offer.usd_per_hour * self.gpus:.2f}"
            time = duration(seconds.likely) if seconds else ""
            name = f"{offer.name} (and {alike} alike)" if alike else offer.name
            table.add_row(cell(name), f"{offer.memory_gib:.0f}", hourly, time, money(cost.likely) if cost else "")
        draw(terminal.stdout, table)
        if len(rows) > _SHOWN:
            terminal.out(f"and {len(rows) - _SHOWN} more (--json lists them all)")
        terminal.out()

    def _show_steps(self, terminal: Terminal) -> None:
        from caravan.terminal.console import cell, draw, listing

        if not self.steps:
            return
        table = listing("what would change it", "GiB more or less", "GiB then", "and costs")
        for number in (1, 2):
            table.columns[number].justify = "right"
        for step in self.steps:
            table.add_row(cell(step.name), f"{-step.saves:+.2f}", f"{step.gib:.2f}", cell(step.costs))
        draw(terminal.stdout, table)
        terminal.out()


def _by_cost(held: Held) -> tuple[bool, float]:
    """The cheapest run first, those of unknown cost last."""
    return held.cost_usd is None, held.cost_usd.likely if held.cost_usd else 0.0


def _merged(held: tuple[Held, ...]) -> list[tuple[Held, int]]:
    """Each that differs from those before it, and how many others have its memory, speed, time and price."""
    found: dict[tuple[object, ...], list[Held]] = {}
    for one in held:
        kind, offer = one.offer.kind, one.offer
        speed = (kind.bf16_tflops, kind.fp16_tflops, kind.bandwidth_gbs) if kind else (offer.name,)
        key = (offer.memory_gib, offer.usd_per_hour, one.seconds and round(one.seconds.likely), *speed)
        found.setdefault(key, []).append(one)
    return [(same[0], len(same) - 1) for same in found.values()]


def _size(setting: Setting, shape: ModelShape) -> str:
    """What one sample is, in words."""
    return f"{image_side(setting, shape)} pixels" if shape.family in FOR_IMAGES else f"{setting.seq_len} tokens"


def _in_words(setting: Setting, shape: ModelShape) -> str:
    method = f"{setting.method} (rank {setting.lora_rank})" if "lora" in setting.method else setting.method
    parts = [method, setting.compute_dtype, setting.optimizer]
    parts += [f"micro batch {setting.micro_batch}", _size(setting, shape)]
    parts += ["checkpointing"] if setting.grad_checkpointing else []
    parts += [f"{setting.parallel} over {setting.gpus} GPUs"] if setting.gpus > 1 else []
    return ", ".join(parts)


def _setting(setting: Setting) -> dict[str, Json]:
    found: dict[str, Json] = {**setting._asdict(), "lora_targets": [*setting.lora_targets]}
    return found


def _cost(seconds: Range | None, offer: Offer, gpus: int) -> Range | None:
    if seconds is None or offer.usd_per_hour is None:
        return None
    return seconds.priced(offer.usd_per_hour * gpus)


def _likely(found: Range, say: Callable[[float], str]) -> str:
    return f"{say(found.likely)} ({span(found.low, found.high, say)})"


def _range(found: Range) -> Json:
    return found.model_dump(mode="json")


def _room_document(room: Room) -> dict[str, Json]:
    return {
        "name": room.offer.name,
        "memory_gib": round(room.offer.memory_gib, 3),
        "usd_per_hour": room.offer.usd_per_hour,
        "price_source": room.offer.source,
        "fits": room.fits,
        "largest_micro_batch": room.micro_batch,
        "longest_seq_len": room.seq_len,
    }


def _held_document(held: Held) -> dict[str, Json]:
    return {
        "name": held.offer.name,
        "memory_gib": round(held.offer.memory_gib, 3),
        "usd_per_hour": held.offer.usd_per_hour,
        "price_source": held.offer.source,
        "seconds": _range(held.seconds) if held.seconds else None,
        "cost_usd": _range(held.cost_usd) if held.cost_usd else None,
    }
