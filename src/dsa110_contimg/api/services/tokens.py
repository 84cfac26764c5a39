"""Tokens of an identity provider (JWT): signed with its private key, for us, for a short time.

Only asymmetric signatures are accepted: whoever can check a token here cannot make one. The claims ``iss``, ``aud``,
``sub``, ``jti``, ``iat`` and ``exp`` must all be there, ``exp`` at most 15 minutes after ``iat``, and ``scopes`` must
be a list (in a text, "overwriter" would contain "write").
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from dsa110_contimg.api.access_settings import AuthConfig
from dsa110_contimg.api.config import ConfigError
from dsa110_contimg.api.credentials import FIXED_KEY_SCOPES, Principal
from dsa110_contimg.api.exceptions import AuthenticationError

LONGEST_LIFE_S = 900
_LEEWAY_S = 10
_SHORTEST_RSA_BITS = 2048
_REQUIRED = ["iss", "aud", "sub", "jti", "iat", "exp"]

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey


class TokenVerifier:
    """Tells who shows a token.

    Parameters
    ----------
    config : AuthConfig
        File of the provider's public key, its name, and the name by which it means us.

    Raises
    ------
    ConfigError
        The file holds no public key that we accept.
    """

    def __init__(self, config: AuthConfig) -> None:
        self._issuer, self._audience = config.jwt_issuer, config.jwt_audience
        self._key, self._algorithms = _read_key(config.jwt_public_key)

    def verify(self, token: str) -> Principal:
        """Return who shows a token, with the scopes that we know; never the care of keys.

        Raises
        ------
        AuthenticationError
            It is not signed by the provider, not meant for us, too old, too long-lived, or lacks a claim.
        """
        try:
            claims = jwt.decode(
                token, self._key, algorithms=self._algorithms, audience=self._audience, issuer=self._issuer,
                leeway=_LEEWAY_S, options={"require": _REQUIRED, "strict_aud": True},
            )  # fmt: skip
        except jwt.InvalidTokenError as error:
            raise AuthenticationError(f"The token cannot be used: {error}") from error
        if not all(isinstance(claims[name], int | float) for name in ("iat", "exp")):
            raise AuthenticationError("The claims iat and exp of the token must be numbers.")
        if claims["exp"] - claims["iat"] > LONGEST_LIFE_S:
            raise AuthenticationError(f"The token lives longer than {LONGEST_LIFE_S} s; get one for less time.")
        return Principal(f"token of {claims['sub']}", f"token {claims['sub']}", _scopes(claims), float(claims["exp"]))


def _scopes(claims: Mapping[str, Any]) -> frozenset[Any]:
    given = claims.get("scopes", [])
    if not isinstance(given, list) or not all(isinstance(scope, str) for scope in given):
        raise AuthenticationError("The claim scopes of the token must be a list of texts.")
    return FIXED_KEY_SCOPES & set(given)


def _read_key(path: Path | None) -> tuple[PublicKey, list[str]]:
    """Return the key of a PEM file and the algorithms that fit it."""
    try:
        key = load_pem_public_key((path or Path()).read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError([f"DSA110_JWT_PUBLIC_KEY='{path}' cannot be used: no public key in PEM ({error})"]) from None
    if isinstance(key, RSAPublicKey) and key.key_size >= _SHORTEST_RSA_BITS:
        return key, ["RS256", "PS256"]
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return key, ["ES256"]
    if isinstance(key, Ed25519PublicKey):
        return key, ["EdDSA"]
    raise ConfigError(
        [f"DSA110_JWT_PUBLIC_KEY='{path}' cannot be used: it must be RSA of 2048 bits or more, P-256 or Ed25519"]
    )
