"""A scheduler of a campaign: the queue's own, looking for due schedules all the time, in a time that runs fast."""

import asyncio
import random

from dsa110_contimg.absurd.connection import QueueUnavailableError
from dsa110_contimg.absurd.scheduling import TaskScheduler
from dsa110_contimg.absurd.service import until_stopped
from dsa110_contimg.chaos.history import History
from dsa110_contimg.chaos.settings import PartySettings, set_clock

_LONGEST_PAUSE_S = 0.4


class Ticker:
    """Fires what is due, again and again, through outages."""

    def __init__(self, settings: PartySettings, history: History) -> None:
        self._scheduler = TaskScheduler(settings.queue())
        self._history = history
        self._chance = random.Random(settings.seed)  # noqa: S311 - to be repeatable, not to be secret
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Fire until the request to stop."""
        connected = False
        while not self._stopping.is_set():
            try:
                if not connected:
                    await self._scheduler.connect()
                    connected = True
                await self._scheduler.fire_due()
            except QueueUnavailableError as error:
                self._history.write("word", level="INFO", text=str(error))
            await asyncio.sleep(self._chance.uniform(0.0, _LONGEST_PAUSE_S))

    def request_stop(self) -> None:
        """Stop."""
        self._stopping.set()


async def tick(settings: PartySettings, history: History) -> None:
    """Run the scheduler until it is told to stop."""
    await until_stopped(Ticker(settings, history))


def main() -> None:
    """Schedule as standard input says."""
    settings = PartySettings.from_stdin()
    history = History(settings.path, settings.who)
    set_clock(settings.skew_s)
    asyncio.run(tick(settings, history))


if __name__ == "__main__":
    main()
