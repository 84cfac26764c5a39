"""What the exit code of a `dsa110` command says, and the errors that end a command with one."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of all commands; 128 + n means: ended by signal n, 130 being Ctrl-C before the work was done."""

    OK = 0
    WORK_FAILED = 1
    USAGE = 2
    SERVER = 3
    PROCESS = 4
    STATE_IN_USE = 5
    NOTHING_RUNS = 6
    NOT_FOUND = 7
    INTERRUPTED = 130

    @property
    def meaning(self) -> str:
        """Say what happened."""
        return _MEANING[self]


_MEANING = {
    ExitCode.OK: "done; for `up`: every stage of every observation completed",
    ExitCode.WORK_FAILED: "the work failed or was refused: an observation, a migration, a task, … did not complete",
    ExitCode.USAGE: "wrong option, argument or setting",
    ExitCode.SERVER: "a server, a port or disk space could not be had",
    ExitCode.PROCESS: "one of the supervised processes could not be kept running",
    ExitCode.STATE_IN_USE: "another `dsa110 up` holds the state directory",
    ExitCode.NOTHING_RUNS: "the command needs the servers of a running `dsa110 up`, and none runs",
    ExitCode.NOT_FOUND: "there is no task, workflow, schedule, … of that id or name",
    ExitCode.INTERRUPTED: "interrupted before the work was done",
}


class CommandError(RuntimeError):
    """Ends a command: the message is for the person at the terminal and names the thing, the value and the remedy."""

    exit_code = ExitCode.WORK_FAILED
