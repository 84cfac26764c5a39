"""Tables of what people say about images: ratings, masks and regions."""

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, Table, Text, UniqueConstraint

from dsa110_contimg.api.column_kinds import Identifier, RowNumber
from dsa110_contimg.api.columns import column, metadata, row_number, unix


def _image() -> ForeignKey:
    return ForeignKey("images.id", ondelete="CASCADE")


image_ratings = Table(
    "image_ratings",
    metadata,
    row_number(),
    column("image_id", RowNumber, "Image that was rated", "meta.id.parent", "", _image(), nullable=False),
    column("rater", Identifier, "Who rated it", "meta.id", nullable=False),
    column("rating", Integer, "1 (worst) to 5 (best)", "meta.code.qual", nullable=False),
    column("confidence", Text, "true, false or unsure, as the web client asks it", "meta.code.qual"),
    column("tag", Text, "Tag that was given", "meta.code"),
    column("comment", Text, "Remark", "meta.note"),
    unix("rated_at", "When it was rated last", nullable=False),
    CheckConstraint("rating BETWEEN 1 AND 5", name="rating"),
    UniqueConstraint("image_id", "rater"),
)
"""One rating for each image and rater: who rates again changes it."""

image_regions = Table(
    "image_regions",
    metadata,
    column("id", Identifier, "Opaque name", "meta.id;meta.main", primary_key=True),
    column("image_id", RowNumber, "Image it belongs to", "meta.id.parent", "", _image(), nullable=False),
    column("kind", Text, "mask or region", "meta.code.class", nullable=False),
    column("format", Text, "ds9, crtf or json", "meta.code", nullable=False),
    column("purpose", Text, "What it is for: clean, analysis, source, exclude, calibrator", "meta.code.class"),
    column("name", Text, "Name for people", "meta.note"),
    column("content", Text, "The text as it was given", "meta.note", nullable=False),
    column("region_count", Integer, "Shapes in it", "meta.number", nullable=False),
    column("created_by", Text, "Who made it", "meta.id", nullable=False),
    unix("created_at", "Making of it", "time.creation", nullable=False),
    Index(None, "image_id", "kind", "created_at"),
)
"""Masks and regions, kept as text; no file bears their names."""
