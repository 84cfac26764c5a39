"""The bases of the API: an alias means a path below /api/v1, anything else means itself."""

import pytest

from dsa110_contimg.api.middleware.bases import canonical


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("/api/images", "/api/v1/images"),
        ("/api/v1/images", "/api/v1/images"),
        ("/api/ms//data/a.ms/metadata", "/api/v1/ms//data/a.ms/metadata"),
        ("/api/v10/images", "/api/v1/v10/images"),
        ("/api/absurd/tasks", "/api/v1/absurd/tasks"),
        ("/absurd/tasks", "/api/v1/absurd/tasks"),
        ("/ws/pipeline", "/api/v1/ws/pipeline"),
        ("/qa/ms//data/a.ms", "/api/v1/qa/ms//data/a.ms"),
        ("/logs/job-1", "/api/v1/logs/job-1"),
        ("/cal//data/a.b", "/api/v1/cal//data/a.b"),
    ],
)
def test_an_alias_means_a_path_below_the_one_base(asked: str, meant: str) -> None:
    assert canonical(asked) == meant


@pytest.mark.parametrize(
    "asked", ["/", "/images/1", "/calx/1", "/absurdity", "/wsx/a", "/metrics", "/api/docs", "/web/a.js"]
)
def test_what_is_no_alias_means_itself(asked: str) -> None:
    assert canonical(asked) == asked
