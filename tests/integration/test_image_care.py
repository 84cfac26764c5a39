"""Ratings, masks, regions and the end of an image, on both databases: rows decide, and ids are opaque."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dsa110_contimg.api import schemas
from dsa110_contimg.api.credentials import SCOPES
from fixtures.api_server import Served, serving
from fixtures.api_world import SOURCE_ID, build, settings
from fixtures.live_api import add_keys

DS9 = 'fk5\ncircle(188.5,0.0,10")\nbox(188.4,0.1,5",6",0)\n'
CRTF = "#CRTFv0\ncircle[[188.5deg, 0.0deg], 10arcsec], coord=ICRS\n"
BASE = "/api/v1/images/1"


class Carer:
    """A client with a key for each scope, and its own world."""

    def __init__(self, served: Served, keys: dict[str, str]) -> None:
        self.served = served
        self.keys = keys

    async def ask(self, method: str, path: str, body: Any = None, scope: str = "write:qa") -> httpx.Response:
        headers = {"X-API-Key": self.keys[scope]}
        return await self.served.client.request(method, path, json=body, headers=headers)

    async def done(self, method: str, path: str, body: Any = None, scope: str = "write:qa") -> Any:
        reply = await self.ask(method, path, body, scope)
        assert reply.status_code == 200, (method, path, reply.text)
        return reply.json()

    async def refused(self, status: int, method: str, path: str, body: Any = None, scope: str = "write:qa") -> None:
        reply = await self.ask(method, path, body, scope)
        assert reply.status_code == status, (method, path, reply.text)
        schemas.ErrorBody.model_validate_json(reply.content)


@pytest.fixture
async def carer(each_database: dict[str, str], tmp_path: Path) -> AsyncIterator[Carer]:
    """The application over a world of its own in each kind of database."""
    world = await build(settings(tmp_path / "state", DSA110_ENV="testing", **each_database))
    keys = await add_keys(world.config)
    async with serving(world.config, world=world) as served:
        yield Carer(served, keys)


async def test_an_image_is_rated_in_both_forms_and_a_second_rating_replaces_the_first(carer: Carer) -> None:
    first = await carer.done("POST", f"{BASE}/rating", {"rating": 2, "comment": "streaks", "rater": "anna"})
    assert schemas.RatingReply.model_validate(first).new_average == 2.0
    told = await carer.done(
        "POST", f"{BASE}/rating", {"itemId": "1", "confidence": "true", "tagId": "7", "notes": "fine"}
    )
    assert (told["rating"], told["confidence"], told["tag_id"], told["comment"]) == (5, "true", "7", "fine")
    assert told["new_average"] == 3.5
    again = await carer.done("POST", f"{BASE}/rating", {"rating": 4, "rater": "anna"})
    assert (again["new_average"], again["comment"]) == (4.5, None)
    listed = schemas.RatingList.model_validate(await carer.done("GET", f"{BASE}/ratings"))
    assert (listed.total, listed.average, listed.ratings[0].rater) == (2, 4.5, "anna")


async def test_a_rating_that_says_nothing_or_too_much_is_refused(carer: Carer) -> None:
    for body in (
        {}, {"rating": 0}, {"rating": 6}, {"rating": 2.5}, {"rating": True}, {"rating": 3, "confidence": "true"},
        {"confidence": "perhaps"}, {"rating": 3, "stars": 5},
    ):  # fmt: skip
        await carer.refused(422, "POST", f"{BASE}/rating", body)
    await carer.refused(400, "POST", f"{BASE}/rating", {"itemId": "2", "confidence": "true"})
    await carer.refused(404, "POST", "/api/v1/images/9999999999999999999999/rating", {"rating": 3})


async def test_masks_and_regions_are_kept_listed_read_and_deleted(carer: Carer) -> None:
    mask = await carer.done("POST", f"{BASE}/masks", {"format": "ds9", "regions": DS9})
    schemas.MaskView.model_validate(mask)
    region = await carer.done(
        "POST", f"{BASE}/regions", {"format": "crtf", "regions": CRTF, "purpose": "source", "name": "../../etc/x"}
    )
    shapes = await carer.done("POST", f"{BASE}/regions", {"format": "json", "regions": '[{"shape": "circle"}]'})
    assert (mask["region_count"], region["region_count"], shapes["region_count"]) == (2, 1, 1)
    assert (region["name"], region["purpose"], shapes["purpose"]) == ("../../etc/x", "source", "analysis")
    assert (await carer.done("GET", mask["path"]))["content"] == DS9
    assert (await carer.done("GET", region["path"]))["content"] == CRTF
    assert (await carer.done("GET", f"{BASE}/masks")) == {"masks": [mask], "total": 1}
    assert (await carer.done("GET", f"{BASE}/regions"))["total"] == 2
    assert (await carer.done("GET", f"{BASE}/regions?purpose=source"))["regions"] == [region]
    gone = await carer.done("DELETE", f"{BASE}/masks/{mask['id']}")
    assert gone == {"status": "deleted", "mask_id": mask["id"]}
    await carer.refused(404, "DELETE", f"{BASE}/masks/{mask['id']}")
    assert (await carer.done("GET", f"{BASE}/regions"))["total"] == 2


async def test_an_id_deletes_one_and_no_pattern_more(carer: Carer) -> None:
    made = [await carer.done("POST", f"{BASE}/regions", {"format": "json", "regions": "[{}]"}) for _ in range(2)]
    for pattern in ("*", "%25", "_", "..", made[0]["id"][:4] + "*", made[0]["id"] + "%00"):
        reply = await carer.ask("DELETE", f"{BASE}/regions/{pattern}")
        assert reply.status_code in (400, 403, 404, 405), (pattern, reply.text)
        reply = await carer.ask("DELETE", f"{BASE}/masks/{made[0]['id']}")
        assert reply.status_code == 404
    assert (await carer.done("GET", f"{BASE}/regions"))["total"] == 2
    files = {path.name for path in carer.served.image.parent.iterdir()}
    assert files == {carer.served.image.name}  # no name of a client became a path


async def test_a_text_that_is_no_regions_is_422(carer: Carer) -> None:
    for body in (
        {"format": "ds9", "regions": "no such shape"}, {"format": "crtf", "regions": "#CRTFv0\n"},
        {"format": "json", "regions": "[]"}, {"format": "json", "regions": "{}"},
        {"format": "json", "regions": "[NaN]"}, {"format": "kml", "regions": DS9}, {"format": "ds9", "regions": ""},
        {"format": "ds9", "regions": DS9, "purpose": "../x"},
    ):  # fmt: skip
        await carer.refused(422, "POST", f"{BASE}/regions", body)


async def test_a_deleted_image_takes_with_it_all_that_hangs_on_it_but_not_the_file(carer: Carer) -> None:
    await carer.done("POST", f"{BASE}/rating", {"rating": 3})
    await carer.done("POST", f"{BASE}/regions", {"format": "json", "regions": "[{}]"})
    reply = await carer.done("DELETE", BASE, scope="ops")
    assert reply == {"status": "deleted", "image_id": "1", "files_deleted": []}
    assert carer.served.image.exists()
    for path in (BASE, f"{BASE}/ratings", f"{BASE}/regions", f"{BASE}/fits"):
        await carer.refused(404, "GET", path)
    await carer.refused(404, "DELETE", BASE, scope="ops")
    source = await carer.done("GET", f"/api/v1/sources/{SOURCE_ID.replace('+', '%2B')}")
    assert (source["num_images"], source["contributing_images"]) == (0, [])


async def test_files_are_deleted_beneath_the_roots_only(carer: Carer, tmp_path: Path) -> None:
    image, outside = carer.served.image, tmp_path / "elsewhere"
    image.parent.rename(outside)
    image.parent.symlink_to(outside)
    reply = await carer.done("DELETE", f"{BASE}?delete_files=true", scope="ops")
    assert reply["files_deleted"] == []
    assert (outside / image.name).exists()


async def test_the_file_goes_when_that_is_asked(carer: Carer) -> None:
    reply = await carer.done("DELETE", f"{BASE}?delete_files=true", scope="ops")
    assert reply["files_deleted"] == [carer.served.world.image_path]
    assert not carer.served.image.exists()


async def test_each_change_needs_its_scope(carer: Carer) -> None:
    for scope in SCOPES:
        for method, path, body, wanted in (
            ("POST", f"{BASE}/rating", {"rating": 3}, "write:qa"),
            ("POST", f"{BASE}/regions", {"format": "json", "regions": "[{}]"}, "write:qa"),
            ("DELETE", "/api/v1/images/77", None, "ops"),
        ):
            reply = await carer.ask(method, path, body, scope)
            assert (reply.status_code == 403) == (scope != wanted), (scope, path)
