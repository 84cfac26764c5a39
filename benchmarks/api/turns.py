"""Servers are asked in turn, a moment each, so that a machine that is slow for a while is slow for all of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

from benchmarks.api.load import Answers, ask
from benchmarks.api.servers import Child
from benchmarks.queue.report import median


@dataclass(frozen=True, slots=True)
class Turns:
    """How servers are asked.

    Attributes
    ----------
    rounds : int
        In each every server has one turn, in every other round in the opposite order; one more warms up.
    turn_s : float
        How long one is asked.
    connections : int
        How many ask at the same time.
    """

    rounds: int
    turn_s: float
    connections: int

    async def take(self, asked: Mapping[str, tuple[Child, Sequence[str]]]) -> dict[str, "Costs"]:
        """Ask each server for its paths again and again, and return what its turns took.

        A turn goes on with the path at which the one before it ended.
        """
        names = list(asked)
        paths = {name: cycle(asked[name][1]) for name in names}
        found = {name: Costs() for name in names}
        for number in range(self.rounds + 1):
            for name in names if number % 2 else reversed(names):
                turn = await self._turn(asked[name][0], paths[name])
                if number:
                    found[name].turns.append(turn)
        return found

    async def _turn(self, child: Child, paths: Iterable[str]) -> tuple[float, Answers]:
        before_s = child.cpu_s()
        answers = (await ask(child.port, paths, self.connections, self.turn_s)).require_ok()
        return (child.cpu_s() - before_s) / answers.count * 1e6, answers


class Costs:
    """What the turns of one server took; figures are the median of its turns."""

    def __init__(self) -> None:
        self.turns: list[tuple[float, Answers]] = []

    @property
    def cpu_us(self) -> float:
        """Processor time of the server for one answer, microseconds."""
        return median(cpu_us for cpu_us, _ in self.turns)

    @property
    def rate(self) -> float:
        """Answers a second."""
        return median(answers.rate for _, answers in self.turns)

    @property
    def size(self) -> int:
        """Bytes of one answer."""
        return sum(answers.bytes_read for _, answers in self.turns) // sum(answers.count for _, answers in self.turns)

    def quantile_ms(self, share: float) -> float:
        """Milliseconds below which that share of the answers came."""
        return median(self._quantiles_ms(share))

    def times_less_cpu(self, than: "Costs") -> float:
        """How many times less processor time this took, in the same round."""
        return median(other / own for (own, _), (other, _) in zip(self.turns, than.turns, strict=True))

    def times_later(self, than: "Costs", share: float) -> float:
        """How many times longer that share of the answers took, in the same round."""
        pairs = zip(self._quantiles_ms(share), than._quantiles_ms(share), strict=True)
        return median(own / other for own, other in pairs)

    def _quantiles_ms(self, share: float) -> list[float]:
        return [answers.quantile_ms(share) for _, answers in self.turns]
