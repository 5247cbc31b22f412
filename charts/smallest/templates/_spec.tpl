{{- /* SmallestDeployment's spec, made of the keys of chart smallest-self-host. `spec` of the values is laid over it. */ -}}

{{- define "smallest.spec" -}}
{{- with include "smallest.license" . }}
license:
  {{- . | nindent 2 }}
{{- end }}
gateway:
  {{- include "smallest.gateway" . | nindent 2 }}
{{- if or .Values.models.asrModelUrl .Values.spec.asr }}
asr:
  {{- include "smallest.worker" (list . "asr" "lightningAsr" "lightning-asr") | nindent 2 }}
{{- end }}
{{- if or .Values.models.ttsModelUrl .Values.spec.tts }}
tts:
  {{- include "smallest.worker" (list . "tts" "lightningTts" "lightning-tts") | nindent 2 }}
{{- end }}
{{- if not .Values.spec.redis }}
redis:
  {{- include "smallest.redis" . | nindent 2 }}
{{- end }}
{{- if dig "servicemonitor" "enabled" false .Values.scaling.auto.lightningAsr }}
monitoring:
  serviceMonitor: true
{{- end }}
{{- with compact (list .Values.global.pullSecretRef .Values.global.imageCredentialsSecretRef (include "smallest.registrySecret" .)) | uniq }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "smallest.license" -}}
{{- $license := dict }}
{{- with include "smallest.licenseSecret" . }}{{ $_ := set $license "secretRef" (dict "name" . "key" "license-key") }}{{ end }}
{{- with .Values.licenseProxy.port }}{{ $_ := set $license "port" . }}{{ end }}
{{- with .Values.licenseProxy.resources }}{{ $_ := set $license "resources" . }}{{ end }}
{{- with $license }}{{ toYaml . }}{{ end }}
{{- end }}

{{- define "smallest.gateway" -}}
service:
  type: {{ .Values.apiServer.service.type }}
  port: {{ .Values.apiServer.port | int }}
  {{- with .Values.apiServer.service.loadBalancerSourceRanges }}
  loadBalancerSourceRanges: {{ toJson . }}
  {{- end }}
  {{- with .Values.apiServer.service.externalTrafficPolicy }}
  externalTrafficPolicy: {{ . }}
  {{- end }}
  {{- with .Values.apiServer.service.annotations }}
  annotations: {{ toJson . }}
  {{- end }}
{{- if not (dig "gateway" "auth" "" .Values.spec) }}
{{- /* As with smallest-self-host, clients call with the license key, until API keys are named. */}}
{{- with include "smallest.licenseSecret" . }}
auth:
  secretRef: {name: {{ . }}, key: license-key}
{{- end }}
{{- end }}
{{ include "smallest.common" (list . "gateway" "apiServer") }}
{{- end }}

{{- /* Workers of one kind, as (list $ "asr" "lightningAsr" "name of the model"). */ -}}
{{- define "smallest.worker" -}}
{{- $root := index . 0 -}}
{{- $kind := index . 1 -}}
{{- $values := get $root.Values (index . 2) -}}
{{- $default := index . 3 -}}
{{- with get $root.Values.models (printf "%sModelUrl" $kind) }}
models:
  - name: {{ $values.modelName | default $default | trim }}
    url: {{ trim . | quote }}
    sha256: {{ get $root.Values.models (printf "%sModelSha256" $kind) | trim | trimPrefix "sha256:" | quote }}
{{- end }}
{{- if eq $kind "asr" }}
{{- with include "smallest.efsClaim" $root }}
cache:
  existingClaim: {{ . }}
{{- end }}
{{- end }}
{{- with $values.port }}
port: {{ . | int }}
{{- end }}
{{- with $values.updateStrategy }}
updateStrategy: {{ merge (dict) . (dict "type" "RollingUpdate") | toJson }}
{{- end }}
{{ include "smallest.common" (list $root $kind (index . 2)) }}
{{- end }}

{{- /* What all components have, as (list $ "field of the spec" "key of the values"): number, end, pods. */ -}}
{{- define "smallest.common" -}}
{{- $root := index . 0 -}}
{{- $field := index . 1 -}}
{{- $key := index . 2 -}}
{{- $values := get $root.Values $key -}}
{{- $own := get $root.Values.spec $field | default dict -}}
{{- $hpa := dig $key "hpa" dict $root.Values.scaling.auto -}}
{{- /* A number in `spec` wins over the ones here: a component has either replicas or scaling. */}}
{{- if or (hasKey $own "replicas") (hasKey $own "scaling") }}
{{- else if and $root.Values.scaling.auto.enabled (dig "enabled" true $hpa) }}
scaling: {{ pick $hpa "minReplicas" "maxReplicas" "targetActiveRequests" "targetQueueDepth" "idleSeconds" "schedules" "scaleUpStabilizationWindowSeconds" "scaleDownStabilizationWindowSeconds" "behavior" | toJson }}
{{- else if regexMatch "^[0-9]+$" (get $root.Values.scaling.replicas $key | toString) }}
replicas: {{ get $root.Values.scaling.replicas $key | int }}
{{- end }}
{{- with $root.Values.global.outstandingRequestGracePeriod }}
lifecycle:
  drainSeconds: {{ . | int }}
  # The drain, the pause before it, and time to write the last answers.
  terminationGracePeriodSeconds: {{ add . 30 }}
{{- end }}
{{- $pod := dict }}
{{- range $from, $to := dict "resources" "resources" "nodeSelector" "nodeSelector" "tolerations" "tolerations" "podAnnotations" "podAnnotations" "labels" "podLabels" }}
{{- with get $values $from }}{{ $_ := set $pod $to . }}{{ end }}
{{- end }}
{{- with $pod }}
pod:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "smallest.redis" -}}
{{- if .Values.redis.enabled }}
embedded:
  port: {{ .Values.redis.port | int }}
  auth:
    enabled: {{ .Values.redis.auth.enabled }}
  {{- with .Values.redis.master.persistence }}
  {{- if .enabled }}
  persistence:
    size: {{ .size }}
    {{- with .storageClass }}
    storageClassName: {{ . }}
    {{- end }}
  {{- end }}
  {{- end }}
  {{- with .Values.redis.master.resources }}
  resources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- else if include "smallest.redisSecret" . }}
external:
  urlSecretRef: {name: {{ include "smallest.redisSecret" . }}, key: redis-url}
{{- else }}
external:
  url: {{ ternary "rediss" "redis" .Values.redis.ssl }}://{{ include "smallest.redisHost" . }}
{{- end }}
{{- end }}
