"""What `dsa110 up` says of a run at its end."""

import io

from rich.console import Console

from dsa110_contimg.up.summary import FinishedRun, Summary


def test_a_run_that_failed_says_which_stage_and_why_and_how_to_go_on() -> None:
    tasks = [
        {"task_name": "flagging", "status": "completed", "error": None, "result": {}, "workflow_id": "643cb9f8"},
        {
            "task_name": "imaging",
            "status": "failed",
            "error": "E: too small",
            "result": None,
            "workflow_id": "643cb9f8",
        },
        {"task_name": "validation", "status": "skipped", "error": "S", "result": None, "workflow_id": "643cb9f8"},
    ]
    shown = io.StringIO()
    run = FinishedRun("job-1", "2026-01-25T01:12:15", "failed", tasks)
    Console(file=shown, width=200).print(Summary(run, [], None, []).render())
    reason, remedy = shown.getvalue().split("failed\n")[1].splitlines()
    assert reason.strip() == "imaging: E: too small"
    assert "dsa110 absurd workflows retry 643cb9f8" in remedy
