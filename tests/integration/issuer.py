"""An identity provider on this machine that does as it is told, also wrong."""

import datetime
import ipaddress
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from tests.unit.api.signing import claims, ec_key, jwk, jwks, rsa_key, token

Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """One request; what to do with it, the issuer knows."""

    issuer: "Issuer"
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.issuer.asked.append(self.path)
        answer = self.issuer.answers.get(self.path)
        try:
            if answer is not None:
                answer(self)
            else:
                self.send(404, b"")
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class Issuer:
    """Answers by path; :attr:`asked` are the paths that were asked for, in order."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[str] = []
        self.answers: dict[str, Answer] = {}
        self.publish("/jwks.json", jwks(jwk(rsa_key(), "a"), jwk(ec_key(), "e")))
        description = {"issuer": url, "jwks_uri": f"{url}/jwks.json"}
        self.publish("/.well-known/openid-configuration", json.dumps(description).encode())
        self.ended = threading.Event()

    def publish(self, path: str, body: bytes, status: int = 200, **headers: str) -> None:
        self.answers[path] = lambda handler: handler.send(status, body, **headers)

    def drip(self, path: str, head: bytes) -> None:
        """Send a byte now and then, without end: *head* first."""

        def answer(handler: Handler) -> None:
            handler.wfile.write(head)
            while not self.ended.wait(0.05):
                handler.wfile.write(b" ")

        self.answers[path] = answer

    def flood(self, path: str) -> None:
        """Send without end, as fast as it is taken."""

        def answer(handler: Handler) -> None:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while not self.ended.is_set():
                handler.wfile.write(b" " * 65536)

        self.answers[path] = answer

    def times_asked(self, path: str = "/jwks.json") -> int:
        return self.asked.count(path)

    def token(self, key: Any = None, *, header: Any = None, **changes: Any) -> str:
        """Return a token of this issuer; *changes* are claims."""
        return token(claims(**{"iss": self.url, **changes}), key, **(header or {}))

    def headers(self, **changes: Any) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token(**changes)}"}


@contextmanager
def running_issuer(certificate: Path | None = None, port: int = 0) -> Iterator[Issuer]:
    """Serve an issuer on loopback; over TLS with *certificate* (see make_certificate)."""

    class OneHandler(Handler):
        pass

    server = ThreadingHTTPServer(("127.0.0.1", port), OneHandler)
    server.daemon_threads = True
    scheme = "http"
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    issuer = OneHandler.issuer = Issuer(f"{scheme}://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield issuer
    finally:
        issuer.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


def make_certificate(folder: Path) -> Path:
    """Write a certificate for 127.0.0.1, which signs itself, and its key, into one file."""
    key = ec_key("tls")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.fromtimestamp(time.time(), datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "tls.pem"
    pem = serialization.Encoding.PEM
    path.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(pem)
    )
    return path
