{{/*
Names and labels. Everything is named `<release>-operator`, with `script-runner` in between when the
release's name does not say it; so no object bears the name of one that belongs to a ScriptRunner.
*/}}
{{- define "script-runner.name" -}}
{{- $base := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) -}}
{{- printf "%s-operator" ($base | trunc 26 | trimSuffix "-") -}}
{{- end }}

{{- define "script-runner.identity" -}}
app.kubernetes.io/name: script-runner-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* The operator's pod, and no pod of a hook. */}}
{{- define "script-runner.selectorLabels" -}}
{{ include "script-runner.identity" . }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "script-runner.labels" -}}
{{ include "script-runner.identity" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "script-runner.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "script-runner.name" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end }}

{{- define "script-runner.image" -}}
{{- with .Values.image -}}
{{- .repository -}}
{{- if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end -}}
{{- end -}}
{{- end }}

{{/* Where `helm test` makes its ScriptRunner: a namespace that the operator looks after. */}}
{{- define "script-runner.testNamespace" -}}
{{- if and .Values.namespaces (not (has .Release.Namespace .Values.namespaces)) -}}
{{- first .Values.namespaces -}}
{{- else -}}
{{- .Release.Namespace -}}
{{- end -}}
{{- end }}

{{/* What every pod of the chart has: the account's user, no root, nothing that a namespace with "restricted" refuses. */}}
{{- define "script-runner.podSecurity" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{- define "script-runner.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{- define "script-runner.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{- define "script-runner.scheduling" -}}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/*
Hooks leave nothing behind but a pod that failed, for its log. The accounts they run as are hooks too, so that they
exist only meanwhile; the argument is the order among them.
*/}}
{{- define "script-runner.uninstallHook" -}}
helm.sh/hook: pre-delete
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{- define "script-runner.testHook" -}}
helm.sh/hook: test
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{/* Where the Dockerfile puts the service; `python3` on PATH is that of scripts. */}}
{{- define "script-runner.python" -}}
/opt/script-runner/bin/python3
{{- end }}
