{{- /* Names and labels: the only place where this chart makes them. */ -}}

{{- define "smallest.name" -}}
{{ .Values.nameOverride | default .Release.Name }}
{{- end }}

{{- define "smallest.labels" -}}
app.kubernetes.io/name: smallest
app.kubernetes.io/instance: {{ include "smallest.name" . }}
app.kubernetes.io/part-of: smallest
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* Secret with the license key: the user's, or the one this chart makes; nothing when the license is another. */ -}}
{{- define "smallest.licenseSecret" -}}
{{- if .Values.global.licenseKeySecretRef }}{{ .Values.global.licenseKeySecretRef }}
{{- else if .Values.global.licenseKey }}{{ include "smallest.name" . }}-license{{ end }}
{{- end }}

{{- /* Secret for pulling images that this chart makes of user and password; nothing without them. */ -}}
{{- define "smallest.registrySecret" -}}
{{- with .Values.global.imageCredentials }}
{{- if and .create .username }}{{ include "smallest.name" $ }}-registry{{ end }}
{{- end }}
{{- end }}

{{- /* Secret with the address of the user's Redis; nothing when it has no password, or is not named by these keys. */ -}}
{{- define "smallest.redisSecret" -}}
{{- if and (not .Values.redis.enabled) .Values.redis.auth.password (not .Values.spec.redis) }}{{ include "smallest.name" . }}-redis-url{{ end }}
{{- end }}

{{- /* Address of the user's Redis, without a password. */ -}}
{{- define "smallest.redisHost" -}}
{{ .Values.redis.externalHost }}:{{ .Values.redis.port | int }}
{{- end }}

{{- /* Claim on the EFS file system for models; nothing without one. */ -}}
{{- define "smallest.efsClaim" -}}
{{- with .Values.models.volumes.aws.efs }}
{{- if .enabled }}{{ .namePrefix }}-{{ include "smallest.name" $ }}{{ end }}
{{- end }}
{{- end }}
