"""`dsa110 chaos queue`."""

import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from dsa110_contimg.chaos.campaign import Plan, run_campaign
from dsa110_contimg.chaos.checker import check
from dsa110_contimg.chaos.faults import KINDS
from dsa110_contimg.chaos.figures import figures
from dsa110_contimg.chaos.report import as_json, as_text
from dsa110_contimg.exit_codes import CommandError, ExitCode


class UnknownFaultError(CommandError):
    """A kind of fault that there is not."""

    exit_code = ExitCode.USAGE


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def queue(
    tasks: int, kills: int, seed: int | None, minutes: float | None, kinds: Sequence[str], workers: int,
    database_url: str | None, keep: Path | None, as_json_text: bool,
) -> ExitCode:  # fmt: skip
    """Run a campaign, judge it, report; WORK_FAILED when an invariant was violated."""
    if unknown := set(kinds) - set(KINDS):
        raise UnknownFaultError(f"there is no fault {', '.join(sorted(unknown))}; give some of {', '.join(KINDS)}")
    directory = keep or Path(tempfile.mkdtemp(prefix="dsa110-chaos-"))
    duration_s = minutes * 60.0 if minutes else max(10.0, tasks / 60.0, kills * 2.0)
    plan = Plan(
        directory, random.randrange(2**31) if seed is None else seed, tasks, kills, kinds or KINDS,  # noqa: S311
        duration_s, workers=workers, database_url=database_url,
    )  # fmt: skip
    sys.stderr.write(f"seed {plan.seed}; the evidence goes to {directory}\n")
    began_s = time.monotonic()
    evidence = run_campaign(plan, _say)
    verdicts = check(evidence)
    counted = {"seed": plan.seed, "duration_s": round(time.monotonic() - began_s, 1), **figures(evidence, verdicts)}
    sys.stdout.write(
        json.dumps(as_json(counted, verdicts), indent=2) + "\n" if as_json_text else as_text(counted, verdicts)
    )
    violated = any(verdict.violations for verdict in verdicts)
    if keep is None and not violated:
        shutil.rmtree(directory)
    return ExitCode.WORK_FAILED if violated else ExitCode.OK
