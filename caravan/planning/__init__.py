"""Planning: questions, answers → plan, memory / time / cost estimate, GPU catalogue, budget, plan → JobSpec.

All pure: values in, values out. Only the launch script's template and helper are read, from the folder passed in.

Import what is needed from its module: nothing is gathered here, because loading all of it costs most of a second.

profile + sentence + facts → questions → answers → draft_plan → estimate → choose → judge_budget → to_job_spec
"""
