"""The example of a proxy before the API says the one thing that matters: whose address it passes on."""

import re
from pathlib import Path

EXAMPLE = (Path(__file__).parents[2] / "ops" / "nginx" / "dsa110.conf").read_text()
LINES = [line.partition("#")[0].strip() for line in EXAMPLE.splitlines() if line.partition("#")[0].strip()]


def test_the_proxy_sets_the_address_of_its_peer_and_appends_to_nothing() -> None:
    told = [line for line in LINES if re.search("x-forwarded-for", line, re.IGNORECASE)]
    assert told == ["proxy_set_header X-Forwarded-For $remote_addr;"]
    assert not [line for line in LINES if "proxy_add_x_forwarded_for" in line]


def test_the_proxy_hands_on_the_host_and_websockets() -> None:
    for line in (
        "proxy_set_header Host $http_host;",
        "proxy_set_header Upgrade $http_upgrade;",
        "proxy_http_version 1.1;",
    ):
        assert line in LINES
    assert EXAMPLE.count("{") == EXAMPLE.count("}")
