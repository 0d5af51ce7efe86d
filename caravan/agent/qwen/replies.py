"""What a language model is asked for in each step, as schemas. All of it is data that is looked at before it counts."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from caravan.values.base import Json

Text = Annotated[str, Field(max_length=2000)]


class Reply(BaseModel):
    """Fields that nobody asked for are left out."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class FieldChange(Reply):
    """A change of the profile, with the line of a file that says it."""

    field: Text
    value: Json = None
    file: Text = ""
    line: int = 0
    quote: Text = ""
    why: Text = ""


class ProfileReply(Reply):
    """Of `refine_profile`."""

    changes: Annotated[tuple[FieldChange, ...], Field(max_length=50)] = ()


class AskedQuestion(Reply):
    """A question of the rules by its id in other words, or a new one that sets `path`."""

    id: Text
    text: Text
    path: Text = ""
    default: Json = None
    choices: Annotated[tuple[Json, ...], Field(max_length=20)] = ()
    reason: Text = ""


class QuestionsReply(Reply):
    """Of `questions`."""

    questions: Annotated[tuple[AskedQuestion, ...], Field(max_length=50)] = ()


class FieldProposal(Reply):
    """A change of the plan."""

    path: Text
    value: Json = None
    why: Text = ""


class PlanReply(Reply):
    """Of `propose`."""

    changes: Annotated[tuple[FieldProposal, ...], Field(max_length=50)] = ()


class DiagnosisReply(Reply):
    """Of `diagnose`. `details` name by their role what the quoted lines name."""

    failure: Text
    confidence: float = 0.0
    cause: Text = ""
    lines: Annotated[tuple[Text, ...], Field(max_length=20)] = ()
    details: dict[str, Text] = Field(default_factory=dict)
    escalate: bool = False
    advice: Text = ""


class RepairProposal(Reply):
    """A repair of any kind; the fields that its kind has not are left out of account."""

    kind: Literal["change_plan", "wait", "retry_elsewhere", "requery"]
    changes: Annotated[tuple[FieldProposal, ...], Field(max_length=20)] = ()
    seconds: int = 0
    avoid_nodes: Annotated[tuple[Text, ...], Field(max_length=50)] = ()
    why: Text = ""


class RepairsReply(Reply):
    """Of `repairs`."""

    repairs: Annotated[tuple[RepairProposal, ...], Field(max_length=20)] = ()


class Edit(Reply):
    """Lines of a file as they are, and what is to stand in their place."""

    file: Text
    find: Annotated[str, Field(max_length=20_000)]
    replace: Annotated[str, Field(max_length=20_000)]


class PatchReply(Reply):
    """Of `patch`."""

    edits: Annotated[tuple[Edit, ...], Field(max_length=10)] = ()
    why: Text = ""


class SummaryReply(Reply):
    """Of `report_summary`."""

    summary: Text = ""
