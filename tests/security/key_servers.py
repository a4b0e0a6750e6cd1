"""Key pairs, and a server that publishes them as a JSON Web Key Set, as an identity provider does."""

import json
import ssl
import threading
import time
from dataclasses import dataclass
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jose import jwt

from tests.security.forging import b64, good_claims


@dataclass(frozen=True)
class KeyPair:
    """A key in the forms in which it may be passed around."""

    algorithm: str
    private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    kid: str = "k1"

    @cached_property
    def private_pem(self) -> str:
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    def public(self, encoding: Encoding = Encoding.PEM) -> bytes:
        return self.private.public_key().public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)

    def jwk(self, **changes: Any) -> dict[str, Any]:
        """Return the public key as a JWK (RFC 7517); a member of `...` is left out."""
        numbers = self.private.public_key().public_numbers()
        if isinstance(numbers, rsa.RSAPublicNumbers):
            own = {"kty": "RSA", "n": _text(numbers.n, 256), "e": _text(numbers.e, 3)}
        else:
            own = {"kty": "EC", "crv": "P-256", "x": _text(numbers.x, 32), "y": _text(numbers.y, 32)}
        whole = own | {"kid": self.kid, "use": "sig", "alg": self.algorithm} | changes
        return {name: value for name, value in whole.items() if value is not ...}

    def sign(self, *, algorithm: str = "", headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """Return an access token under this key, which it names unless `headers` are given."""
        headers = {"kid": self.kid} if headers is None else headers
        return jwt.encode(
            good_claims(**claims), self.private_pem, algorithm=algorithm or self.algorithm, headers=headers
        )


def new_pair(algorithm: str, kid: str = "k1") -> KeyPair:
    """Make a key pair."""
    if algorithm == "ES256":
        return KeyPair(algorithm, ec.generate_private_key(ec.SECP256R1()), kid)
    return KeyPair(algorithm, rsa.generate_private_key(65537, 2048), kid)


def _text(number: int, size: int) -> str:
    return b64(number.to_bytes(size, "big"))


class KeyServer:
    """Serves what it is told to, on loopback, and counts how often it was asked."""

    def __init__(self, *keys: dict[str, Any], tls: ssl.SSLContext | None = None) -> None:
        self.asked = 0
        self.status = 200
        self.delay = 0.0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.publish(*keys)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                time.sleep(outer.delay)
                self.send_response(outer.status)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(outer.body)))
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a peer that refuses our certificate
        self._thread = threading.Thread(target=lambda: self._server.serve_forever(poll_interval=0.02), daemon=True)
        self._thread.start()
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._server.server_address[1]}/keys"

    def publish(self, *keys: dict[str, Any]) -> None:
        """Serve these keys from now on."""
        self.body = json.dumps({"keys": list(keys)}).encode()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
