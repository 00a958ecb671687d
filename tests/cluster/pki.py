"""The certificates of a cluster: its authority, one for each part, a kubeconfig for each client."""

import base64
import datetime
import ipaddress
import json
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.cluster.layout import GATEWAY, NODE, SERVICE_IP, Layout

DAYS = 30


class Client(NamedTuple):
    """Who a part is for the API server; its rights come with the names."""

    user: str
    group: str = ""


#: As kubeadm names them: each part has the rights that Kubernetes has ready for it.
CLIENTS = {
    "admin": Client("admin", "system:masters"),
    "kube-controller-manager": Client("system:kube-controller-manager"),
    "kube-scheduler": Client("system:kube-scheduler"),
    "kubelet": Client(f"system:node:{NODE}", "system:nodes"),
    "kube-proxy": Client("system:kube-proxy"),
}
API_NAMES = [
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "127.0.0.1",
    SERVICE_IP,
    GATEWAY,
]


class Authority:
    """A certificate authority with its files in *folder*."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "script-runner-cluster")])
        certificate = (
            _draft(self._name, self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        _write(folder / "ca", self._key, certificate)

    def issue(self, name: str, client: Client, names: list[str]) -> None:
        """Write ``<name>.crt`` and ``<name>.key``, good for serving *names* and as *client*."""
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, client.user)]
        if client.group:
            subject.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, client.group))
        key = ec.generate_private_key(ec.SECP256R1())
        draft = _draft(x509.Name(subject), self._name, key).add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            ),
            critical=False,
        )
        if names:
            draft = draft.add_extension(
                x509.SubjectAlternativeName([_general_name(name) for name in names]),
                critical=False,
            )
        _write(self._folder / name, key, draft.sign(self._key, hashes.SHA256()))


def write_pki(cluster: Layout) -> None:
    """Write all certificates, the key of service accounts and the kubeconfigs."""
    authority = Authority(cluster.pki)
    authority.issue("kube-apiserver", Client("kube-apiserver"), API_NAMES)
    authority.issue("kubelet-server", Client(NODE), [NODE, GATEWAY])
    for name, client in CLIENTS.items():
        authority.issue(name, client, [])
        write_kubeconfig(cluster, name, cluster.pki / f"{name}.kubeconfig")
    write_kubeconfig(cluster, "admin", cluster.kubeconfig)
    key = ec.generate_private_key(ec.SECP256R1())
    _write_private(cluster.pki / "service-accounts.key", _key_text(key))
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (cluster.pki / "service-accounts.pub").write_bytes(public)


def write_kubeconfig(cluster: Layout, name: str, path: Path) -> None:
    """Write the kubeconfig of client *name*, complete in itself."""

    def data(file: str) -> str:
        return base64.b64encode((cluster.pki / file).read_bytes()).decode()

    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "tests",
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": name}}],
        "clusters": [
            {
                "name": "tests",
                "cluster": {
                    "server": f"https://127.0.0.1:{cluster.api_port}",
                    "certificate-authority-data": data("ca.crt"),
                },
            }
        ],
        "users": [
            {
                "name": name,
                "user": {
                    "client-certificate-data": data(f"{name}.crt"),
                    "client-key-data": data(f"{name}.key"),
                },
            }
        ],
    }
    _write_private(path, json.dumps(config, indent=1).encode())  # JSON is YAML too


def _draft(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=DAYS))
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_text(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(stem: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    _write_private(stem.with_name(stem.name + ".key"), _key_text(key))
    text = certificate.public_bytes(serialization.Encoding.PEM)
    stem.with_name(stem.name + ".crt").write_bytes(text)


def _write_private(path: Path, text: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(text)
