"""Tokens of an identity provider: only those that it signed, for us, for a short time."""

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from dsa110_contimg.api.access_settings import AuthConfig
from dsa110_contimg.api.config import APIConfig, ConfigError
from dsa110_contimg.api.exceptions import AuthenticationError
from dsa110_contimg.api.services.access_service import AccessService
from dsa110_contimg.api.services.tokens import TokenVerifier

PRIVATE = ed25519.Ed25519PrivateKey.generate()
RSA = rsa.generate_private_key(65537, 2048)


def in_pem(private: Any) -> str:
    """Return the public half of a key."""
    text: bytes = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return text.decode()


def configured(directory: Path, private: Any = PRIVATE) -> AuthConfig:
    path = directory / "provider.pem"
    path.write_text(in_pem(private))
    return AuthConfig(jwt_public_key=path, jwt_issuer="https://id.example", jwt_audience="dsa110")


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    usual = {
        "iss": "https://id.example", "aud": "dsa110", "sub": "astrid", "jti": "1", "iat": now, "exp": now + 600,
        "scopes": ["write:jobs", "unheard-of"],
    }  # fmt: skip
    return {name: value for name, value in (usual | changed).items() if value is not None}


@pytest.mark.parametrize(
    ("private", "algorithm"),
    [
        (PRIVATE, "EdDSA"),
        (ec.generate_private_key(ec.SECP256R1()), "ES256"),
        (RSA, "RS256"),
        (RSA, "PS256"),
    ],
    ids=["Ed25519", "P-256", "RSA", "RSA-PSS"],
)
def test_a_token_of_the_provider_says_who_asks_and_what_for(tmp_path: Path, private: Any, algorithm: str) -> None:
    verifier = TokenVerifier(configured(tmp_path, private))
    principal = verifier.verify(jwt.encode(claims(), private, algorithm))
    assert (principal.key_id, principal.scopes) == ("token astrid", {"write:jobs"})
    assert principal.auth_method == "jwt"


def test_a_token_that_somebody_else_signed_is_refused(tmp_path: Path) -> None:
    token = jwt.encode(claims(), ed25519.Ed25519PrivateKey.generate(), "EdDSA")
    with pytest.raises(AuthenticationError):
        TokenVerifier(configured(tmp_path)).verify(token)


@pytest.mark.parametrize(
    "changed",
    [
        {"exp": None}, {"iat": None}, {"aud": None}, {"iss": None}, {"sub": None}, {"jti": None},
        {"exp": 1}, {"exp": time.time() + 5000}, {"exp": 9e15}, {"iat": time.time() + 3600},
        {"exp": str(int(time.time()) + 60)}, {"iat": str(int(time.time()))},
        {"aud": "others"}, {"aud": ["dsa110", "others"]}, {"iss": "https://evil.example"}, {"sub": 7},
        {"scopes": "write:jobs"}, {"scopes": "overwriter write"}, {"scopes": [7]}, {"scopes": ["ops", 7]},
        {"scopes": {"write:jobs": 1}},
    ],
)  # fmt: skip
def test_a_token_that_lacks_something_is_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    """In the earlier backend scopes in a text passed by their letters, and tokens without an end for ever."""
    with pytest.raises(AuthenticationError):
        TokenVerifier(configured(tmp_path)).verify(jwt.encode(claims(**changed), PRIVATE, "EdDSA"))


@pytest.mark.parametrize(("life_s", "passes"), [(900, True), (901, False)])
def test_a_token_lives_a_quarter_of_an_hour_and_no_longer(tmp_path: Path, life_s: int, passes: bool) -> None:
    issued = int(time.time())
    token = jwt.encode(claims(iat=issued, exp=issued + life_s), PRIVATE, "EdDSA")
    with nullcontext() if passes else pytest.raises(AuthenticationError, match="longer than 900 s"):
        TokenVerifier(configured(tmp_path)).verify(token)


@pytest.mark.parametrize(("apart_s", "passes"), [(5, True), (30, False)])
def test_the_clock_of_the_provider_may_differ_by_some_seconds(tmp_path: Path, apart_s: int, passes: bool) -> None:
    now = int(time.time())
    verifier = TokenVerifier(configured(tmp_path))
    for changed in ({"iat": now + apart_s}, {"iat": now - 600, "exp": now - apart_s}):
        with nullcontext() if passes else pytest.raises(AuthenticationError):
            verifier.verify(jwt.encode(claims(**changed), PRIVATE, "EdDSA"))


def test_a_token_without_scopes_changes_nothing(tmp_path: Path) -> None:
    for scopes in ([], None):
        token = jwt.encode(claims(scopes=scopes), PRIVATE, "EdDSA")
        assert TokenVerifier(configured(tmp_path)).verify(token).scopes == frozenset()


async def test_the_service_that_knows_keys_reads_tokens_where_the_settings_name_a_provider(tmp_path: Path) -> None:
    nowhere: Any = None  # neither keys nor tickets are looked for
    token = jwt.encode(claims(), PRIVATE, "EdDSA")
    assert (await AccessService(nowhere, configured(tmp_path), nowhere).authenticate(token)).scopes == {"write:jobs"}
    for config, presented in ((configured(tmp_path), f"{token}x"), (AuthConfig(), token)):
        with pytest.raises(AuthenticationError):
            await AccessService(nowhere, config, nowhere).authenticate(presented)


def test_nobody_becomes_the_keeper_of_keys_by_a_token(tmp_path: Path) -> None:
    token = jwt.encode(claims(scopes=["admin", "ops"]), PRIVATE, "EdDSA")
    assert TokenVerifier(configured(tmp_path)).verify(token).scopes == {"ops"}


def test_unsigned_tokens_and_those_with_a_shared_secret_are_refused(tmp_path: Path) -> None:
    config = configured(tmp_path)
    verifier = TokenVerifier(config)
    assert config.jwt_public_key is not None
    public = config.jwt_public_key.read_text()
    forged = [
        jwt.encode(claims(), "", "none"),
        jwt.encode(claims(), "x" * 32, "HS256"),
        jwt.api_jws.PyJWS().encode(b"{}", public.replace("-----", ""), "HS256"),
        "a.b.c", "..", "é.é.é", jwt.encode(claims(), PRIVATE, "EdDSA")[:-4],
    ]  # fmt: skip
    for token in forged:
        with pytest.raises(AuthenticationError):
            verifier.verify(token)


def test_keys_that_are_none_or_weak_stop_the_start(tmp_path: Path) -> None:
    secret = PRIVATE.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "private").write_bytes(secret)
    (tmp_path / "words").write_text("secret")
    (tmp_path / "small").write_text(in_pem(rsa.generate_private_key(65537, 1024)))
    (tmp_path / "other curve").write_text(in_pem(ec.generate_private_key(ec.SECP384R1())))
    (tmp_path / "other kind").write_text(in_pem(x25519.X25519PrivateKey.generate()))
    (tmp_path / "unheard of").write_text(in_pem(PRIVATE).replace("MCowBQYDK2VwAyEA", "MCowBQYDK2VzAyEA"))
    for name in ("private", "words", "small", "other curve", "other kind", "unheard of", "nothing"):
        with pytest.raises(ConfigError, match="DSA110_JWT_PUBLIC_KEY"):
            TokenVerifier(AuthConfig(jwt_public_key=tmp_path / name, jwt_issuer="i", jwt_audience="a"))
    with pytest.raises(ConfigError, match="cannot be used alone"):
        APIConfig.from_env({"DSA110_JWT_PUBLIC_KEY": str(tmp_path / "words"), "DSA110_JWT_ISSUER": "i"})
