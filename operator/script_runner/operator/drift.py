"""Whether an object of the cluster still is what we want it to be. (pure)

A manifest names what we care for; a live object also has what the API server
filled in and what others added. So the question is not "equal" but "is all
that we want in there", and an object of which that is true costs no request.
What we wanted once and want no more is not seen here: the annotation with the
manifest's hash, which is compared like everything else, tells of that.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from script_runner.operator.resource_types import quantity_value

#: What is answered when there is no live object at all.
ABSENT = "(absent)"

#: Lists that Kubernetes merges by a key: others may add entries, such as a side-car, and an
#: apply of ours would not remove them. Any other list belongs to one writer as a whole.
_MERGED_BY = {
    "containers": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "initContainers": "name",
    "ownerReferences": "uid",
    "topologySpreadConstraints": "topologyKey",
    "volumeMounts": "mountPath",
    "volumes": "name",
}

#: Below these the API server fills in nothing, and a thing more says something else: whom a
#: policy lets in, which pods a Service sends requests to.
_EXACT = frozenset({"ingress", "labelSelector", "podSelector", "selector"})

Path = tuple[str, ...]


def differs(wanted: Mapping[str, Any], live: Mapping[str, Any] | None) -> str | None:
    """Return where *live* is not as *wanted*, for a log; None when it is.

    Only the place is told, never a value: it may be a secret.
    """
    if live is None:
        return ABSENT
    path = _in_map(wanted, live, ())
    return None if path is None else "".join(_parts(path))


def _difference(wanted: Any, live: Any, path: Path) -> Path | None:
    if isinstance(wanted, Mapping) and isinstance(live, Mapping):
        return _in_map(wanted, live, path)
    if isinstance(wanted, list) and isinstance(live, list):
        return _in_list(wanted, live, path)
    # The API server drops what is empty.
    if _is_empty(wanted) and _is_empty(live):
        return None
    if _is_quantity(path):
        return None if _same_quantity(wanted, live) else path
    # True == 1 for Python, not for Kubernetes.
    same = wanted == live and isinstance(wanted, bool) == isinstance(live, bool)
    return None if same else path


def _in_map(wanted: Mapping[str, Any], live: Mapping[str, Any], path: Path) -> Path | None:
    # A dict and not a set, for the order: the first difference is the same each time.
    keys = dict.fromkeys([*wanted, *live] if _EXACT.intersection(path) else wanted)
    found = (_difference(wanted.get(key), live.get(key), (*path, key)) for key in keys)
    return next((place for place in found if place is not None), None)


def _in_list(wanted: Sequence[Any], live: Sequence[Any], path: Path) -> Path | None:
    key = _merge_key(path)
    if key is not None and all(isinstance(item, Mapping) and key in item for item in wanted):
        by_key = {item.get(key): item for item in live if isinstance(item, Mapping)}
        pairs = [(f"[{item[key]}]", item, by_key.get(item[key])) for item in wanted]
    elif len(wanted) != len(live):
        return path
    else:
        pairs = [(f"[{index}]", *pair) for index, pair in enumerate(zip(wanted, live, strict=True))]
    found = (_difference(item, other, (*path, name)) for name, item, other in pairs)
    return next((place for place in found if place is not None), None)


def _merge_key(path: Path) -> str | None:
    field = path[-1]
    if field != "ports":
        return _MERGED_BY.get(field)
    if path == ("spec", "ports"):
        return "port"  # of a Service
    return "containerPort" if "containers" in path else None  # a NetworkPolicy's are one value


def _is_empty(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_empty(item) for item in value.values())
    return value is None or value == "" or value == []


def _is_quantity(path: Path) -> bool:
    return "resources" in path[:-1] or path[-1] in ("sizeLimit", "storage")


def _same_quantity(wanted: Any, live: Any) -> bool:
    kinds = (str, int)
    if not isinstance(wanted, kinds) or not isinstance(live, kinds):
        return False
    return quantity_value(wanted) == quantity_value(live)


def _parts(path: Path) -> Iterator[str]:
    for index, part in enumerate(path):
        yield part if index == 0 or part.startswith("[") else f".{part}"
