"""Planning: questions, answers → plan, memory / time / cost estimate, GPU catalogue, budget, plan → JobSpec.

All pure: values in, values out. Only the launch script's template and helper are read, from the folder passed in.

profile + sentence + facts → questions → answers → draft_plan → estimate → choose → judge_budget → to_job_spec
"""

from caravan.planning.answers import (
    answers_from,
    answers_to_changes,
    changes_from,
    given_answers,
    load_answers,
    parse_set,
    type_answer,
    with_defaults,
)
from caravan.planning.budget import judge_budget
from caravan.planning.catalogue import Prices
from caravan.planning.checks import check_plan
from caravan.planning.choose import choose
from caravan.planning.command import command_line, output_dir
from caravan.planning.draft import draft_plan, wants_gpu
from caravan.planning.estimate import estimate
from caravan.planning.fields import plan_paths
from caravan.planning.jobspec import to_job_spec
from caravan.planning.launchers import launch_words
from caravan.planning.questions import draft_questions
from caravan.planning.remembered import propose_changes
from caravan.planning.rows import estimate_row

__all__ = [
    "Prices",
    "answers_from",
    "answers_to_changes",
    "changes_from",
    "check_plan",
    "choose",
    "command_line",
    "draft_plan",
    "draft_questions",
    "estimate",
    "estimate_row",
    "given_answers",
    "judge_budget",
    "launch_words",
    "load_answers",
    "output_dir",
    "parse_set",
    "plan_paths",
    "propose_changes",
    "to_job_spec",
    "type_answer",
    "wants_gpu",
    "with_defaults",
]
