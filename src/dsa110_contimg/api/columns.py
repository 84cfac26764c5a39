"""What columns of ``tables.py`` are made of: name, kind, unit, UCD, words."""

from typing import Any

from sqlalchemy import Column, MetaData

from dsa110_contimg.api.column_kinds import Identifier, Number, RowNumber


def column(
    name: str, kind: Any, description: str, ucd: str = "", unit: str = "", *rules: Any, **options: Any
) -> Column[Any]:
    """Return a column with its words."""
    info = {"unit": unit, "ucd": ucd, "description": description}
    return Column(name, kind, *rules, info=info, **options)


def mjd(name: str, description: str, ucd: str = "time.epoch", **options: Any) -> Column[Any]:
    """Return a column of a time as MJD."""
    return column(name, Number, f"{description}, MJD (UTC)", ucd, "d", **options)


def unix(name: str, description: str, ucd: str = "time", **options: Any) -> Column[Any]:
    """Return a column of a time in Unix seconds."""
    return column(name, Number, f"{description}, Unix time (UTC)", ucd, "s", **options)


def row_number() -> Column[Any]:
    """Return the column ``id``."""
    return column("id", RowNumber, "Number of the row", "meta.id;meta.main", primary_key=True)


def path(name: str, description: str, *rules: Any, **options: Any) -> Column[Any]:
    """Return a column of a path, which must be given."""
    return column(name, Identifier, description, "meta.ref.url", "", *rules, nullable=False, **options)


def run(**options: Any) -> Column[Any]:
    """Return the column ``run_id``."""
    return column("run_id", Identifier, "Pipeline run that made it", "meta.id", **options)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)
