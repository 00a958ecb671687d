"""How the holder of a lease is named: ``<worker>.<slot>``, the worker ``<name>_<instance>``.

*instance* is fresh for each process start. *name* is the setting WORKER_NAME, on Kubernetes that
of the pod; without it the worker is its instance alone. It is part of keys of the artifact
store, hence no other sign than ``_``; a name may hold dots and hyphens, and never a ``_``.
The Lua scripts take a name apart as here (``lua/prelude.lua``).
"""

import uuid

#: What WORKER_NAME may be: what the name of a pod can be.
NAME_PATTERN = r"^[a-z0-9.-]{0,63}$"


def new_instance() -> str:
    """Return what no other process start has: 48 random bits, 12 letters and digits."""
    return uuid.uuid4().hex[:12]


def worker_id(name: str, instance: str) -> str:
    """Return the worker of process start *instance*."""
    return f"{name}_{instance}" if name else instance


def name_of(worker: str) -> str:
    """Return the name of *worker*; of one without a name its instance."""
    return worker.rpartition("_")[0] or worker


def instance_of(lease_owner: str) -> str:
    """Return the process start that *lease_owner* belongs to."""
    return lease_owner.rpartition(".")[0].rpartition("_")[2]
