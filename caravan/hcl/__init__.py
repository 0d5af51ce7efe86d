"""JobSpec → HCL, HCL → Nomad's JSON, and back: the text that is deployed, proven to say what the plan says.

`render_hcl` writes a job file by its template, `parse_hcl` reads one as Nomad's parse endpoint does, `read_back` makes
a JobSpec of a job's JSON and `mismatches` says in words where a job differs from the spec. This room knows nothing of
plans, clusters and runs.
"""

from caravan.hcl.errors import HclError
from caravan.hcl.jobs import parse_hcl
from caravan.hcl.readback import mismatches, normal_form, read_back
from caravan.hcl.render import render_hcl

__all__ = ["HclError", "mismatches", "normal_form", "parse_hcl", "read_back", "render_hcl"]
