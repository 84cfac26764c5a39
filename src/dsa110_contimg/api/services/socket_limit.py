"""How many WebSockets one process keeps open."""

from dsa110_contimg.api.config import TimeoutConfig
from dsa110_contimg.api.exceptions import ServiceUnavailableError


class SocketLimit:
    """Counts the open WebSockets of this process.

    Parameters
    ----------
    timeouts : TimeoutConfig
        How long to wait for a word of a client.
    most : int
        How many may be open at once.
    """

    def __init__(self, timeouts: TimeoutConfig, most: int) -> None:
        self.timeouts = timeouts
        self.most = most
        self.open = 0

    def enter(self) -> None:
        """Count one more.

        Raises
        ------
        ServiceUnavailableError
            There are too many.
        """
        if self.open >= self.most:
            raise ServiceUnavailableError("WebSockets", f"{self.most} are open, which is all that one process serves")
        self.open += 1

    def leave(self) -> None:
        """Count one less."""
        self.open -= 1
