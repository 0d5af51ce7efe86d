"""What the revisions' columns have in common. As a released revision, this is never edited."""

from typing import Final

import sqlalchemy as sa

TEXT: Final = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
"""Text that is compared by its code points, on PostgreSQL too."""
