"""From a repository and a sentence to a plan: analyse, recall, draft. What is asked between is `ask`'s."""

from caravan.agent import reproducing
from caravan.agent.context import Context
from caravan.agent.data_checks import data_report, looked_at, warned
from caravan.agent.data_content import content_of
from caravan.agent.data_delivery import not_sent
from caravan.agent.delivery import choose_code, needed_but_left_out, with_delivery
from caravan.agent.environment import environment_told, offered_images
from caravan.agent.hub import with_hub, with_model_here
from caravan.agent.lessons import case_context, code_digest, standing_cases
from caravan.agent.nodes.ask import clock_of, said_by_people, standing_sets
from caravan.agent.parts import known_by, with_parts
from caravan.agent.recalled import identities, keep_answers
from caravan.agent.refined import about_its_entry, marked
from caravan.agent.state import RunState, Update, joined
from caravan.agent.there import doubtful
from caravan.agent.training import (
    check_ranges,
    plainly,
    source_of,
    told,
    type_changes,
    with_answered_type,
    with_type,
)
from caravan.agent.troubled import preferring_others
from caravan.analysis import analyze
from caravan.planning.answers import answers_to_changes, changes_from
from caravan.planning.derived import derived_notes, with_derived
from caravan.planning.draft import draft_plan, with_fitting_flags
from caravan.planning.outputs import settled
from caravan.planning.policy import fill, plan_denials, within
from caravan.planning.positions import position_changes
from caravan.planning.program import chosen_script
from caravan.planning.remembered import foreseen, used_cases
from caravan.planning.resume import resume_changes
from caravan.planning.site import place_changes, site_changes
from caravan.planning.spoken import spoken
from caravan.values.base import Json
from caravan.values.dialogue import Answer
from caravan.values.errors import ServiceError
from caravan.values.failure import PastCase
from caravan.values.plan import Author, OutputSink, PlanChange, TrainingPlan, apply_changes
from caravan.values.repo import RepoProfile
from caravan.values.run import RunEvent, RunRequest


def analyze_codebase(state: RunState, context: Context) -> Update:
    """Read the repository and let the reasoner refine what was found."""
    if state.request.reproduces is not None:
        return reproducing.begun(state, context)
    tree, request = context.open_tree(state.request.source), plainly(state.request, context)
    profile = analyze(tree, request.prompt)
    brought = with_type(tree, profile, request, context)
    choice = None
    if brought is not None:
        choice, profile = brought
        state = state.model_copy(update={"training": choice, "request": request})
        tree = source_of(state, context)
    else:
        tree.need_files()
        better = context.reasoner.refine_profile(profile, request.prompt, context.toolbox(tree))
        profile = about_its_entry(profile, better, lambda entry: analyze(tree, request.prompt, entry=entry))
    by = (told(choice, profile) if choice else f"trains with {profile.entry_point}") if profile.entry_point else ""
    read = f"{profile.files} {'file' if profile.files == 1 else 'files'} read"
    context.progress.note(f"{read}; {by or 'no training entry point found'}")
    warnings = tuple(h.text for h in profile.hazards)
    known = known_by(tree, profile, identities(state.model_copy(update={"profile": profile})))
    return {
        "request": request,
        "profile": profile,
        "training": choice,
        "code_digest": code_digest(tree, profile),
        "known_by": known,
        "warnings": warnings,
    }


def recall(state: RunState, context: Context) -> Update:
    """Past cases for the first plan or for the failure at hand. Memory that is down costs a warning, not the run."""
    known = case_context(state)
    text = state.diagnosis.cause if state.diagnosis else state.request.prompt
    try:
        found = context.memory.recall(text=text, diagnosis=state.diagnosis, context=known, limit=_RECALLED)
    except ServiceError as error:
        warning = f"memory was not used: {error.message}"
        if warning not in state.warnings:  # it is asked again after each failure; once is enough to say so
            context.progress.note(f"Going on without memory: {error.line()}")
        return {"cases": (), "warnings": joined(state.warnings, (warning,))}
    finally:
        context.memory.close()  # an embedded memory has one owner: held for moments, other agents get it too
    cases = with_parts(found, known)
    _trace_cases(context, cases)
    return {"cases": cases}


_RECALLED = 10  # cases: a repository's own are few, and a state holds small values


def make_plan(state: RunState, context: Context) -> Update:
    """Pack the code, draft the plan, and let answers, `--set` and the reasoner's proposals change it."""
    if state.request.reproduces is not None:
        return reproducing.planned(state, context)
    state = with_answered_type(state, context)
    profile, request, answers = _about_the_chosen(state, context)
    facts = context.facts()
    tree = source_of(state, context)
    said = (*changes_from(request.answers), *request.sets)
    chosen = choose_code(state.request.source, tree, profile, said, context)
    outputs = OutputSink(kind="path", location=str(context.folder.outputs)) if facts.shared_files else OutputSink()
    allowed = within(facts, context.policies)
    site = context.site
    place = place_changes(site.profile, site.name) if site else ()
    image = chosen.build.tag if chosen.build else context.image
    now = clock_of(state, context)
    plan = draft_plan(
        profile,
        request,
        allowed,
        code=chosen.code,
        outputs=outputs,
        image=image,
        place=place,
        now=now,
        images=offered_images(context),
    )
    plan = apply_changes(marked(plan, profile), type_changes(state.training, state.request, context))
    plan = apply_changes(plan, site_changes(plan, site.profile, site.name) if site else ())
    if state.request.namespace != "default":
        plan = apply_changes(plan, [_namespace(state.request.namespace)])
    plan = apply_changes(plan, answers_to_changes(state.questions, answers))
    plan = apply_changes(plan, standing_sets(state))  # once more: an answer may touch further fields than its own
    profile = with_hub(plan, with_model_here(plan, profile), context)
    plan = apply_changes(plan, position_changes(plan, profile))
    cases = standing_cases(state.cases, tree, profile)
    plan = apply_changes(plan, _allowed(context.reasoner.propose(plan, profile, facts, cases), plan, context))
    plan = settled(with_derived(with_fitting_flags(plan, profile), profile, request.prompt), facts)
    check_ranges(plan, state.training, context)
    plan = with_delivery(plan, chosen, tree, context)
    plan = apply_changes(plan, resume_changes(plan, profile))
    plan = apply_changes(plan, fill(plan, facts, context.policies))
    plan = apply_changes(plan, _allowed(preferring_others(plan, state, context), plan, context))
    context.folder.save_plan(plan)
    keep_answers(state, said_by_people(state, spoken(profile, request.prompt, facts)), context)
    _tell_remembered(plan, state, context)
    report = data_report(plan, state, context)
    notes = (
        *chosen.warnings,
        *warned(report),
        *needed_but_left_out(plan, tree),
        *not_sent(plan),
        *doubtful(plan, tree, context),
    )
    notes = (*notes, *environment_told(plan, profile, context), *derived_notes(plan, profile))
    known = foreseen(plan, profile, cases)
    for text in known:
        context.progress.note(text)
    notes = (*notes, *known)
    return {
        "plan": plan,
        "profile": profile,
        "training": state.training,
        "data": report,
        "data_seen": looked_at(plan) if report else "",
        "data_sha256": (report.sha256 if report else None) or content_of(plan, tree, context),
        "remembered": used_cases(plan, cases),
        "warnings": joined(state.warnings, notes),
    }


def _allowed(changes: tuple[PlanChange, ...], plan: TrainingPlan, context: Context) -> tuple[PlanChange, ...]:
    """The changes without memory's where those would bring the plan against a policy: a lesson makes no denial."""

    def denied(given: tuple[PlanChange, ...]) -> set[str]:
        changed = apply_changes(plan, given)
        return {d.rule for d in plan_denials(changed, context.facts(), context.policies)}

    without = tuple(change for change in changes if change.by is not Author.MEMORY)
    return without if without != changes and denied(changes) - denied(without) else changes


def _tell_remembered(plan: TrainingPlan, state: RunState, context: Context) -> None:
    """Say what the plan owes to memory: on the terminal, and among the run's events."""
    told = {path: said for path, said in plan.provenance.items() if said.by is Author.MEMORY}
    # The run's own time, so that a node that runs twice stores one event.
    at = context.store.run(state.run_id).created_at
    for path, said in told.items():
        text = said.why if path == "affinities" else f"{path} = {plan.get(path)}: {said.why}"
        context.progress.note(f"Remembered: {text}")
        context.store.add_event(state.run_id, RunEvent(at=at, kind="remembered", text=text, data={"path": path}))


def _about_the_chosen(state: RunState, context: Context) -> tuple[RepoProfile, RunRequest, tuple[Answer, ...]]:
    """Profile, request and answers once a person has named another entry point than the one that was found.

    The profile is then about that program: its options, its documented command. A bare file name is thereby followed
    and not a command of its own any more, so that what is documented for the program stays.
    """
    profile, request, answers = state.need_profile(), state.request, state.answers
    asked = {q.id for q in state.questions if q.path == "command"} | {"entry_point", "command"}
    given = [value for name, value in request.answers.items() if name in asked]
    given += [a.value for a in answers if a.question_id in asked and a.by_user]
    given += [change.value for change in request.sets if change.path == "command"]
    chosen = chosen_script(given, profile)
    if chosen is None or chosen == profile.entry_point:
        return profile, request, answers
    profile = analyze(source_of(state, context), request.prompt, entry=chosen)
    if profile.entry_point == chosen:
        kept = {k: v for k, v in request.answers.items() if k not in asked or not _bare(v)}
        request = request.model_copy(update={"answers": kept})
        answers = tuple(a for a in answers if a.question_id not in asked or not _bare(a.value))
    return profile, request, answers


def _bare(command: Json) -> bool:
    return isinstance(command, str) and len(command.split()) == 1


def _namespace(name: str) -> PlanChange:
    return PlanChange(path="namespace", value=name, by=Author.CLUSTER, why="the settings' namespace")


def _trace_cases(context: Context, cases: tuple[PastCase, ...]) -> None:
    for case in cases:
        context.tracer.event("recalled", case=case.id, why=case.why, score=case.score)
