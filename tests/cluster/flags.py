"""The flags and the configuration files of every part, as values: nothing here acts."""

import json
from pathlib import Path

from tests.cluster.layout import (
    BRIDGE,
    GATEWAY,
    NODE,
    POD_CIDR,
    RUN,
    SERVICE_CIDR,
    Layout,
)

PAUSE_IMAGE = "localhost/pause:1"
CONTAINERD_SOCKET = RUN / "containerd.sock"
CNI_NAME = "script-runner-tests"
#: Where Debian and everybody else put the network plug-ins.
CNI_BIN = ["/usr/lib/cni", "/opt/cni/bin"]


def etcd(cluster: Layout) -> list[str]:
    client = f"http://127.0.0.1:{cluster.etcd_port}"
    peer = f"http://127.0.0.1:{cluster.etcd_peer_port}"
    return [
        f"--data-dir={cluster.state / 'etcd'}",
        "--unsafe-no-fsync",  # a test's cluster is never repaired, and a fsync is slow
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
    ]


def kube_apiserver(cluster: Layout) -> list[str]:
    pki = cluster.pki
    audit = [
        f"--audit-policy-file={cluster.state / 'audit-policy.json'}",
        f"--audit-log-path={cluster.audit_log}",
    ]
    return [
        f"--etcd-servers=http://127.0.0.1:{cluster.etcd_port}",
        "--bind-address=0.0.0.0",  # pods come by the bridge
        f"--advertise-address={GATEWAY}",
        f"--secure-port={cluster.api_port}",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--tls-cert-file={pki / 'kube-apiserver.crt'}",
        f"--tls-private-key-file={pki / 'kube-apiserver.key'}",
        f"--kubelet-client-certificate={pki / 'admin.crt'}",
        f"--kubelet-client-key={pki / 'admin.key'}",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki / 'service-accounts.pub'}",
        f"--service-account-signing-key-file={pki / 'service-accounts.key'}",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged",
        *(audit if cluster.has_audit else []),
    ]


def audit_policy() -> str:
    """Return the policy that writes one line for each request, without its body."""
    policy = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata"}],
    }
    return json.dumps(policy)


def kube_controller_manager(cluster: Layout) -> list[str]:
    pki = cluster.pki
    return [
        f"--kubeconfig={pki / 'kube-controller-manager.kubeconfig'}",
        f"--root-ca-file={pki / 'ca.crt'}",
        f"--service-account-private-key-file={pki / 'service-accounts.key'}",
        "--use-service-account-credentials",
        f"--cluster-signing-cert-file={pki / 'ca.crt'}",
        f"--cluster-signing-key-file={pki / 'ca.key'}",
        "--leader-elect=false",
        "--secure-port=0",
    ]


def kube_scheduler(cluster: Layout) -> list[str]:
    return [
        f"--kubeconfig={cluster.pki / 'kube-scheduler.kubeconfig'}",
        "--leader-elect=false",
        "--secure-port=0",
    ]


def kubelet(cluster: Layout) -> list[str]:
    return [
        f"--config={cluster.state / 'kubelet.json'}",
        f"--kubeconfig={cluster.pki / 'kubelet.kubeconfig'}",
        f"--hostname-override={NODE}",
        f"--node-ip={GATEWAY}",
        f"--root-dir={cluster.state / 'kubelet'}",
    ]


def kubelet_config(cluster: Layout) -> str:
    config = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": GATEWAY,
        "healthzPort": 0,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": str(cluster.pki / "ca.crt")},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "tlsCertFile": str(cluster.pki / "kubelet-server.crt"),
        "tlsPrivateKeyFile": str(cluster.pki / "kubelet-server.key"),
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [GATEWAY],
        "clusterDomain": "cluster.local",
        "resolvConf": "",
        "podLogsDir": str(cluster.state / "pod-logs"),
        # Images are loaded, not pulled: one that is collected would not come back.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "100Mi"},
        "maxPods": 200,
        "nodeStatusUpdateFrequency": "5s",
    }
    return json.dumps(config, indent=1)


def kube_proxy(cluster: Layout) -> list[str]:
    return [f"--config={cluster.state / 'kube-proxy.json'}"]


def kube_proxy_config(cluster: Layout) -> str:
    config = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(cluster.pki / "kube-proxy.kubeconfig")},
        "mode": "iptables",
        "clusterCIDR": POD_CIDR,
        "hostnameOverride": NODE,
        "bindAddress": GATEWAY,
        "healthzBindAddress": "",
        "metricsBindAddress": "",
        "conntrack": {"maxPerCore": 0},
    }
    return json.dumps(config, indent=1)


def containerd_config(cluster: Layout) -> str:
    return f"""\
version = 3
root = "{cluster.state / "containerd"}"
state = "{RUN / "containerd"}"
disabled_plugins = [
  "io.containerd.nri.v1.nri",
  "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{cluster.state / "opt"}"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{PAUSE_IMAGE}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = {json.dumps(CNI_BIN)}
  conf_dir = "{cluster.state / "cni"}"
"""


def cni_config(ipam: Path) -> str:
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": str(ipam),
            "ranges": [[{"subnet": POD_CIDR, "gateway": GATEWAY}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    return json.dumps({"cniVersion": "1.0.0", "name": CNI_NAME, "plugins": [bridge]}, indent=1)


def corefile(cluster: Layout) -> str:
    return f"""\
. {{
  bind {GATEWAY}
  errors
  kubernetes cluster.local {{
    kubeconfig {cluster.kubeconfig}
    ttl 5
  }}
}}
"""
