"""An ingress controller in one call: nginx in front of the cluster, told by the Ingress objects.

Nothing watches: a test calls `Ingress.reload` once its Ingress is there.
"""

import base64
import http.client
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.cluster import processes
from tests.cluster.kubectl import Kubectl
from tests.cluster.layout import free_ports
from tests.cluster.processes import ClusterError, run, wait_for

START_SECONDS = 15.0
#: Asked for by its own Host header: which configuration answers now.
GENERATION_HOST = "generation.invalid"

NOT_FOUND = "location / { return 404; }"
HEAD = """\
daemon off;
user root;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  client_max_body_size 0;
  server_names_hash_bucket_size 128;
  proxy_http_version 1.1;
  proxy_buffering off;
  proxy_read_timeout 300s;
  proxy_set_header Host $host;
  proxy_set_header Connection "";
  proxy_set_header X-Forwarded-For $remote_addr;
  proxy_set_header X-Forwarded-Host $host;
  proxy_set_header X-Forwarded-Proto $scheme;
  server {{ listen 127.0.0.1:{port} default_server; return 404; }}
  server {{
    listen 127.0.0.1:{port};
    server_name {generation_host};
    return 200 "{generation}";
  }}
"""


class Ingress:
    """Starts with ``with``; answers on ``port``, and with TLS on ``tls_port``, by the Host."""

    def __init__(self, kubectl: Kubectl, program: Path, folder: Path) -> None:
        self._kubectl = kubectl
        self._program = program
        self._folder = folder
        self._generation = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.port, self.tls_port = free_ports(2)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._write([])
        argv: list[str | Path] = [
            self._program,
            "-e",
            self._folder / "error.log",
            "-c",
            self._config,
        ]
        self._process = processes.start(argv, self._folder / "nginx.log")
        self._wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process:
            processes.stop(self._process)

    def reload(self) -> None:
        """Take over the Ingress objects as they are now; return when they are in force."""
        hosts: dict[str, list[str]] = {}
        live = {
            namespace["metadata"]["name"]
            for namespace in self._kubectl.json("get", "namespaces")["items"]
            if namespace["status"]["phase"] == "Active"
        }
        for found in self._kubectl.json("get", "ingress", "--all-namespaces")["items"]:
            if found["metadata"]["namespace"] not in live:
                continue  # of a test that is over
            for rule in found["spec"].get("rules") or []:
                # Several objects may share a host, each with paths of its own.
                hosts.setdefault(rule["host"], []).extend(self._lines(found, rule))
        self._write([self._server(host, lines) for host, lines in hosts.items()])
        log = self._folder / "error.log"
        run([self._program, "-e", log, "-c", self._config, "-s", "reload"])
        self._wait()

    @property
    def _config(self) -> Path:
        return self._folder / "nginx.conf"

    def _write(self, servers: list[str]) -> None:
        self._generation += 1
        head = HEAD.format(
            folder=self._folder,
            port=self.port,
            generation=self._generation,
            generation_host=GENERATION_HOST,
        )
        self._config.write_text("".join([head, *servers, "}\n"]))

    def _server(self, host: str, lines: list[str]) -> str:
        head = [f"listen 127.0.0.1:{self.port};", f"server_name {host};"]
        lines = list(dict.fromkeys(lines))  # a certificate that several objects name
        tail = [] if any(line.startswith("location / ") for line in lines) else [NOT_FOUND]
        return "  server {\n    " + "\n    ".join([*head, *lines, *tail]) + "\n  }\n"

    def _lines(self, found: Any, rule: Any) -> Iterator[str]:
        namespace = found["metadata"]["namespace"]
        for entry in found["spec"].get("tls") or []:
            if rule["host"] in (entry.get("hosts") or []):
                yield from self._tls(namespace, entry["secretName"])
        for path in rule["http"]["paths"]:
            yield from _locations(path, self._address(namespace, path["backend"]["service"]))

    def _address(self, namespace: str, backend: Any) -> str:
        service = self._kubectl.json("get", "service", backend["name"], "-n", namespace)
        wanted = backend["port"]
        for port in service["spec"]["ports"]:
            if port["port"] == wanted.get("number") or port.get("name") == wanted.get("name"):
                return f"{service['spec']['clusterIP']}:{port['port']}"
        raise ClusterError(f"service {backend['name']} has no port {wanted}")

    def _tls(self, namespace: str, name: str) -> list[str]:
        secret = self._kubectl.json("get", "secret", name, "-n", namespace)
        stem = self._folder / f"{namespace}.{name}"
        for key in ("tls.crt", "tls.key"):
            path = stem.with_name(f"{stem.name}.{key}")
            path.write_bytes(base64.b64decode(secret["data"][key]))
        return [
            f"listen 127.0.0.1:{self.tls_port} ssl;",
            f"ssl_certificate {stem}.tls.crt;",
            f"ssl_certificate_key {stem}.tls.key;",
        ]

    def _wait(self) -> None:
        def is_in_force() -> bool:
            if self._process and self._process.poll() is not None:
                log = processes.tail(self._folder / "error.log")
                raise ClusterError(f"nginx ended:\n{log}")
            return self._answer() == str(self._generation)

        wait_for("nginx", START_SECONDS, is_in_force)

    def _answer(self) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/", headers={"Host": GENERATION_HOST})
            return connection.getresponse().read().decode()
        except OSError:
            return ""
        finally:
            connection.close()


def _locations(path: Any, address: str) -> Iterator[str]:
    """Yield nginx' locations of an Ingress path: Prefix goes by whole parts of the path."""
    where = path["path"]
    proxy = f"{{ proxy_pass http://{address}; }}"
    if path["pathType"] == "Exact":
        yield f"location = {where} {proxy}"
        return
    prefix = where.rstrip("/")
    if prefix:
        yield f"location = {prefix} {proxy}"
    yield f"location {prefix}/ {proxy}"
