{{/*
What the operator does with Kubernetes, and nothing else: the rules of its Role or ClusterRole.
There is no wildcard; it cannot make roles, act as somebody else, or run a command in a pod.
*/}}
{{- define "script-runner.rules" -}}
# The resources it is there for. `patch`: the finalizer of deletionPolicy Drain.
- apiGroups: [script-runner.io]
  resources: [scriptrunners]
  verbs: [list, watch, patch]
# Conditions, counts, the selector of /scale.
- apiGroups: [script-runner.io]
  resources: [scriptrunners/status]
  verbs: [patch]
# What a ScriptRunner is made of. Server-side apply is `patch`, and `create` for what is not there;
# `delete` for what the resource no longer asks for.
- apiGroups: [apps]
  resources: [deployments, statefulsets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services, configmaps]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [ingresses, networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
# The volume of artifacts. No `delete`: data outlives the resource.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, create, patch]
# The Secret with the internal password and token of each ScriptRunner is made once, and read. Of all others, to see
# that one which a resource names has changed, only the metadata is asked for; but a role cannot say so.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create]
# Which workers run, why one does not start; and which of them shall go first when there are fewer.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, patch]
# Events on the resource when its state changes.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}
