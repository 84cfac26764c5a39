"""Is the database ours, and of this version?"""

from sqlalchemy import Text, column, select, table

from dsa110_contimg.api.db_adapters.statement import Query, Statement, Steps
from dsa110_contimg.api.exceptions import DatabaseSchemaError
from dsa110_contimg.api.queries.decoding import ask, value
from dsa110_contimg.api.tables import SCHEMA_REVISION

_REVISION = Statement(select(table("alembic_version", column("version_num", Text)).c.version_num))


def revision() -> Steps[str | None]:
    """Read the revision of the tables; fails in a database that was never migrated."""
    return ask(Query(_REVISION, {}, value))


def require_current() -> Steps[None]:
    """Read it, and raise DatabaseSchemaError unless code of this version may write these tables."""
    require((yield from revision()), SCHEMA_REVISION)


def require(found: str | None, wanted: str) -> None:
    """Raise DatabaseSchemaError unless the revision that was found is the one that is wanted, or serves its code too.

    ``0018_serves_0016`` is revision 0018, beside which code of 0016 and 0017 goes on; ``0018`` serves its own only.
    """
    number, _, oldest = (found or "").partition("_serves_")
    ours = wanted.partition("_")[0]
    is_newer = number.isdecimal() and number > ours
    if found == wanted or (is_newer and oldest.isdecimal() and oldest <= ours):
        return
    state = "has no tables of ours" if found is None else f"has revision {found} of the tables"
    remedy = "restart this process with the version that upgraded it" if is_newer else "run `dsa110 db upgrade`"
    error = DatabaseSchemaError(f"The products database {state}, this version needs revision {wanted}; {remedy}")
    if is_newer:
        error.action = "Ask the operators to restart the API with the version that upgraded the database."
    raise error
