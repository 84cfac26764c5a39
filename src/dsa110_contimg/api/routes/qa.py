"""Quality: verdicts on images, Measurement Sets and runs, with the numbers and the reasons behind them."""

from fastapi import Response

from dsa110_contimg.api import schemas
from dsa110_contimg.api.cache import cached
from dsa110_contimg.api.dependencies import QAService
from dsa110_contimg.api.replies import json_reply
from dsa110_contimg.api.routers import router_of
from dsa110_contimg.api.validation import StrictRoute

router = router_of("/qa", "quality", StrictRoute)


@router.get("/image/{image_id}", response_model=schemas.ImageReport)
@cached("qa:image", "images", "image_qa")
async def get_image_report(image_id: str, service: QAService) -> Response:
    """Return the verdict on an image: by its assessment, else by the same limits on its own numbers."""
    return json_reply(await service.of_image(image_id))


@router.get("/ms/{ms_id:last_path}", response_model=schemas.MSReport)
@cached("qa:ms", "ms_index", "images", "calibration_qa", "provenance")
async def get_ms_report(ms_id: str, service: QAService) -> Response:
    """Return the verdict on a Measurement Set, named by its encoded path or its short id."""
    return json_reply(await service.of_ms(ms_id))


@router.get("/job/{run_id}", response_model=schemas.JobReport)
@cached("qa:job", "jobs", "images", "ms_index", "caltables", "provenance")
async def get_job_report(run_id: str, service: QAService) -> Response:
    """Return the verdict on a run."""
    return json_reply(await service.of_job(run_id))
