"""What is known of the secrets that a job needs, by name: where they shall come from and which are missing there.

Names and paths only. No field may ever hold a value: this is kept in checkpoints.
"""

from pydantic import Field

from caravan.values.base import Value
from caravan.values.plan import SecretSource, VariableName


class SecretOffer(Value):
    """What was found when the cluster was asked for a job's secrets, and whether that is done with.

    `here`: missing on the cluster, set in this environment. `nowhere`: missing in both.
    """

    source: SecretSource
    namespace: str
    wanted: tuple[VariableName, ...]
    here: tuple[VariableName, ...] = ()
    nowhere: tuple[VariableName, ...] = ()
    exists: bool = Field(default=False, description="the variable is there, without these items")
    denied: bool = Field(default=False, description="the token may not write the variable")
    settled: bool = Field(default=False, description="there is nothing (more) to ask")

    def is_for(self, source: SecretSource, namespace: str, wanted: tuple[str, ...]) -> bool:
        """Whether it was found for these secrets of this job."""
        return (self.source, self.namespace, self.wanted) == (source, namespace, wanted)
