"""API keys without input and output, the settings about them, and the walk over all routes."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi import APIRouter, FastAPI
from hypothesis import given
from hypothesis import strategies as st

from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.api.app import create_app
from dsa110_contimg.api.authorization import ScopedRoute, require_scope, require_scopes
from dsa110_contimg.api.config import APIConfig, ConfigError
from dsa110_contimg.api.credentials import (
    FIXED_KEY_SCOPES,
    FixedKeys,
    Principal,
    TicketRecord,
    create_key,
    create_ticket,
    hash_secret,
    matches,
    presented_key,
    presented_ticket,
    split_key,
)
from dsa110_contimg.api.validation import StrictRoute

FIXED = "dsa110_" + "k" * 43


def test_a_key_is_256_random_bits_of_which_only_the_hash_is_kept() -> None:
    text, record = create_key("observer", ["ops", "write:jobs", "ops"], 1000.0, 60.0)
    key_id, secret = split_key(text) or ("", "")
    assert (key_id, record.id) == (record.id, key_id)
    assert len(secret) == 43  # 256 bits in base 64
    assert secret not in repr(record)
    assert record.scopes == ("write:jobs", "ops")
    assert matches(secret, record) and not matches(secret[:-1] + "!", record)
    assert create_key("observer", ["ops"], 1000.0, None)[0] != text


def test_a_key_may_have_each_scope_of_the_contract() -> None:
    named = ("read", "write:jobs", "write:qa", "write:cal", "ops", "worker", "admin")
    assert create_key("observer", reversed(named), 1000.0, None)[1].scopes == named
    assert {*FIXED_KEY_SCOPES, "admin"} == set(named)


def test_a_key_has_an_end() -> None:
    _, record = create_key("observer", ["ops"], 1000.0, 60.0)
    assert record.fault(1059.9) is None
    assert record.fault(1060.0) == "has expired"
    assert create_key("observer", ["ops"], 1000.0, None)[1].fault(1e12) is None
    assert replace(record, revoked_at=1010.0).fault(1020.0) == "is revoked"


@given(st.text())
def test_no_text_makes_the_comparison_of_keys_fail(text: str) -> None:
    _, record = create_key("observer", ["ops"], 0.0, None)
    assert not matches(text, record)
    assert FixedKeys([FIXED]).find(text) is None
    assert split_key(text) is None


def test_a_key_of_the_settings_has_every_scope_but_the_care_of_keys() -> None:
    found = FixedKeys(["x" * 40, FIXED]).find(FIXED)
    assert found is not None and found.scopes == FIXED_KEY_SCOPES
    assert "admin" not in found.scopes
    assert FIXED not in repr(found)
    assert found.key_id == f"fixed-{hash_secret(FIXED).hex()[:8]}"


def test_a_key_of_the_settings_may_hold_what_is_no_text() -> None:
    odd = "\udcff" * 40  # as the environment gives a byte that is no UTF-8
    assert FixedKeys([odd]).find(odd) is not None
    assert FixedKeys([FIXED]).find(odd) is None


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"DSA110_AUTH_DISABLED": "true"}, "cannot be used in production"),
        ({"DSA110_AUTH_DISABLED": "true", "DSA110_ENV": "production"}, "cannot be used in production"),
        ({"DSA110_AUTH_DISABLED": "true", "DSA110_ENV": "testing", "DSA110_HOST": "0.0.0.0"}, "DSA110_HOST='0.0.0.0'"),
        ({"DSA110_AUTH_DISABLED": "true", "DSA110_ENV": "testing", "DSA110_HOST": "10.0.0.7"}, "DSA110_HOST"),
        ({"DSA110_API_KEYS": f"{FIXED},secret"}, "at least 32 characters"),
        ({"DSA110_API_KEY_HEADER": "Authorization"}, "DSA110_API_KEY_HEADER"),
        ({"DSA110_ENV": "prod"}, "DSA110_ENV"),
        ({"DSA110_ALLOWED_IPS": "10.0.0.0/8,0.0.0.0/0"}, "DSA110_ALLOWED_IPS='0.0.0.0/0'"),
        ({"DSA110_ALLOWED_IPS": "::/0"}, "DSA110_ALLOWED_IPS='::/0'"),
        ({"DSA110_ALLOWED_IPS": "::ffff:0:0/96"}, "DSA110_ALLOWED_IPS='::ffff:0:0/96'"),
        ({"DSA110_ALLOWED_IPS": "0.0.0.0/1,128.0.0.0/1"}, "DSA110_ALLOWED_IPS='0.0.0.0/1'"),
        ({"DSA110_ALLOWED_IPS": "2000::/3"}, "DSA110_ALLOWED_IPS='2000::/3'"),
        ({"DSA110_TRUSTED_PROXIES": "::ffff:0:0/96", "DSA110_ALLOW_PUBLIC": "true"}, "DSA110_TRUSTED_PROXIES="),
    ],
)
def test_settings_that_would_let_everybody_in_stop_the_start(environ: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)) as refused:
        APIConfig.from_env(environ)
    assert "secret" not in str(refused.value)


def test_the_largest_networks_that_somebody_has_are_allowed_and_larger_ones_where_that_is_meant() -> None:
    own = {"DSA110_ALLOWED_IPS": "11.0.0.0/8,fc00::/7,::ffff:12.0.0.0/104", "DSA110_TRUSTED_PROXIES": "10.0.0.0/8"}
    assert len(APIConfig.from_env(own).access.allowed_ips) == 3
    assert APIConfig.from_env({"DSA110_ALLOWED_IPS": "0.0.0.0/0", "DSA110_ALLOW_PUBLIC": "true"}).access.allow_public


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1", "localhost"])
def test_authentication_may_be_switched_off_on_a_loopback_address_outside_production(host: str) -> None:
    environ = {"DSA110_AUTH_DISABLED": "true", "DSA110_ENV": "development", "DSA110_HOST": host}
    assert APIConfig.from_env(environ).auth.disabled


def test_keys_of_the_settings_are_never_shown() -> None:
    rows = APIConfig.from_env({"DSA110_API_KEYS": FIXED}).describe()
    (row,) = [row for row in rows if row.variable == "DSA110_API_KEYS"]
    assert row.value == "***"


def test_it_is_told_how_somebody_is_known_or_that_nobody_asked() -> None:
    assert [Principal("a", key).auth_method for key in ("0a1b", None)] == ["api_key", "disabled"]
    assert Principal("a", "token a", ends_at=1.0).auth_method == "jwt"


@pytest.mark.parametrize(
    ("key_id", "kept"), [("0123456789ab", True), ("fixed-01234567", False), ("token a", False), (None, False)]
)
def test_only_a_key_that_is_kept_can_be_taken_back(key_id: str | None, kept: bool) -> None:
    assert Principal("a", key_id).has_kept_key is kept


def test_a_ticket_is_for_half_a_minute_and_for_no_more_than_its_holder_may() -> None:
    holder = Principal("observer", "0123456789ab", frozenset({"ops", "read"}), ends_at=2000.0)
    text, record = create_ticket(holder, 1000.0)
    assert record == TicketRecord(
        hash_secret(text).hex(), "observer", "0123456789ab", ("read", "ops"), 2000.0, 1030.0
    ), "without its text"
    assert presented_ticket(("dsa110", text, "ticket_" + "x" * 43)) == text
    assert presented_ticket(("dsa110", text[:-1], f"{text}x", f"x{text}")) is None


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([(b"X-Key", b" a ")], "a"),
        ([(b"x-key", b" "), (b"x-key", b"a")], "a"),
        ([(b"authorization", b"bearer  a ")], "a"),
        ([(b"authorization", b"Bearer a"), (b"x-key", b"b")], "b"),
        ([(b"x-key", b""), (b"authorization", b"Bearer a")], "a"),
        ([(b"Authorization", b"Bearer a"), (b"authorization", b"Basic b")], "a"),
        ([(b"authorization", b"Basic a")], None),
        ([(b"authorization", b"Bearer ")], None),
        ([(b"x-other", b"Bearer a")], None),
    ],
)
def test_a_key_is_shown_in_its_header_or_else_as_a_bearer(headers: list[tuple[bytes, bytes]], found: str) -> None:
    assert presented_key(headers, b"x-key") == found


def test_no_password_stands_in_the_defaults() -> None:
    """The earlier queue connected as postgres with the password postgres unless told otherwise."""
    assert "@" not in AbsurdConfig().database_url
    assert APIConfig.from_env({}).database.pg_password == ""


# --- the walk over the routes ---------------------------------------------------------------------------------------


def test_an_application_with_an_unguarded_writing_route_cannot_be_made() -> None:
    async def change() -> None:
        """Change something."""

    for kind, needs in ((StrictRoute, [require_scope("ops")]), (ScopedRoute, [])):
        router = APIRouter(route_class=kind)
        router.add_api_route("/change", change, methods=["POST"], dependencies=needs)
        app = FastAPI()
        app.include_router(router)
        with pytest.raises(RuntimeError, match="POST /change"):
            require_scopes(app)


def test_every_writing_route_of_the_application_declares_a_scope(tmp_path: Path) -> None:
    require_scopes(create_app(APIConfig.from_env({"DSA110_STATE_DIR": str(tmp_path)}), AbsurdConfig()))
