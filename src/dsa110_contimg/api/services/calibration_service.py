"""Calibration tables, as clients ask for them."""

from typing import Any

from dsa110_contimg.api.exceptions import required
from dsa110_contimg.api.interfaces import CalibrationRepositoryProtocol
from dsa110_contimg.api.pages import Page, Wish
from dsa110_contimg.api.services import views

View = dict[str, Any]


class AsyncCalibrationService:
    """Calibration tables."""

    def __init__(self, tables: CalibrationRepositoryProtocol) -> None:
        self.tables = tables

    async def list_tables(self, wish: Wish) -> Page:
        """Return a page of tables, newest first unless asked for otherwise."""
        return views.with_times(await self.tables.list_page(wish), "created_at")

    async def list_valid(self, mjd: float) -> list[View]:
        """Return the tables that are to be applied at a time, in the order of application."""
        return [views.calibration_item(table) for table in await self.tables.list_active(mjd)]

    async def get_table(self, table_id: str) -> View:
        """Return one table, by its path or its short id.

        Raises
        ------
        RecordNotFoundError
            None has this path or id.
        """
        table = required(await self.tables.get_by_id(table_id), "CalibrationTable", table_id)
        return views.calibration_detail(table)
