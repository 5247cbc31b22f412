{{- /* Everything that is wrong with the values, a line each, so that one look is enough. Nothing when all is well. */ -}}

{{- define "smallest.problems" -}}
{{- range $text, $keys := include "smallest.found" (list . "refused") | fromJson }}
{{ join ", " $keys }}: {{ $text }}
{{- end }}
{{- include "smallest.problems.name" . }}
{{- include "smallest.problems.license" . }}
{{- include "smallest.problems.models" . }}
{{- include "smallest.problems.scaling" . }}
{{- include "smallest.problems.redis" . }}
{{- with .Values.models.volumes.aws.efs }}{{ if and .enabled (not .fileSystemId) }}
models.volumes.aws.efs.fileSystemId: is needed with models.volumes.aws.efs.enabled
{{- end }}{{ end }}
{{- with .Values.global.imageCredentials }}{{ if and .create .username (not .password) }}
global.imageCredentials.password: is needed with global.imageCredentials.username
{{- end }}{{ end }}
{{- end }}

{{- define "smallest.problems.name" -}}
{{- if gt (len (include "smallest.name" .)) 40 }}
nameOverride: the release's name has more than 40 characters, and names of pods and Services are made from it; give a shorter one here
{{- end }}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" (include "smallest.name" .)) }}
nameOverride: the release's name is none that a Service's could begin with (lower-case letters, digits and '-', a letter first); give another one here
{{- end }}
{{- end }}

{{- define "smallest.problems.license" -}}
{{- $ways := list }}
{{- if .Values.global.licenseKey }}{{ $ways = append $ways "global.licenseKey" }}{{ end }}
{{- if .Values.global.licenseKeySecretRef }}{{ $ways = append $ways "global.licenseKeySecretRef" }}{{ end }}
{{- if or (dig "license" "secretRef" "" .Values.spec) (dig "license" "offline" "" .Values.spec) }}{{ $ways = append $ways "spec.license" }}{{ end }}
{{- if not $ways }}
global.licenseKey: is needed, or global.licenseKeySecretRef, or an offline license in spec.license.offline.secretRef
{{- else if gt (len $ways) 1 }}
{{ join ", " $ways }}: one license is enough; keep one of them
{{- end }}
{{- if and $ways (not (include "smallest.licenseSecret" .)) (not (dig "gateway" "auth" "" .Values.spec)) }}
spec.gateway.auth: say who may call the gateway: secretRef names a Secret with API keys, allowAnonymous lets everyone in who reaches it
{{- end }}
{{- end }}

{{- define "smallest.problems.models" -}}
{{- $served := or (dig "asr" "models" "" .Values.spec) (dig "tts" "models" "" .Values.spec) }}
{{- if not (or .Values.models.asrModelUrl .Values.models.ttsModelUrl $served) }}
models.asrModelUrl: is needed, or models.ttsModelUrl: the model to serve
{{- end }}
{{- range $kind := list "asr" "tts" }}
{{- $url := get $.Values.models (printf "%sModelUrl" $kind) }}
{{- $sha256 := get $.Values.models (printf "%sModelSha256" $kind) }}
{{- $urls := splitList "," $url }}
{{- range $urls }}
{{- if regexMatch "\\.(smlst|zip|gz|tgz|tar|bin|pt|onnx|safetensors)$" (trim . | splitList "?" | first) }}
models.{{ $kind }}ModelUrl: {{ trim . }} is one file; name the folder of a model in Hugging Face layout (config.json, model.safetensors, tokenizer.json)
{{- end }}
{{- end }}
{{- /* The operator says so too, but only in a condition, once the release counts as installed. */}}
{{- $own := dig $kind "models" list $.Values.spec }}
{{- if gt (len $urls) 1 }}
models.{{ $kind }}ModelUrl: names {{ len $urls }} models; one deployment serves one of each kind: give each model a release of its own
{{- else if gt (len $own) 1 }}
spec.{{ $kind }}.models: names {{ len $own }} models; one deployment serves one of each kind: give each model a release of its own
{{- end }}
{{- if and $url (not $sha256) }}
models.{{ $kind }}ModelSha256: is needed with models.{{ $kind }}ModelUrl; `smallest model digest FOLDER` prints it, and so does `sha256sum config.json model.safetensors tokenizer.json | sha256sum` in the model's folder
{{- else if and $url (gt (len (splitList "," $sha256)) 1) }}
models.{{ $kind }}ModelSha256: has {{ len (splitList "," $sha256) }} digests; one deployment serves one model of each kind: give the digest of that model alone
{{- end }}
{{- end }}
{{- end }}

{{- define "smallest.problems.scaling" -}}
{{- range $component := list "apiServer" "lightningAsr" "lightningTts" }}
{{- if and (not $.Values.scaling.auto.enabled) (dig "hpa" "enabled" false (get $.Values.scaling.auto $component)) }}
scaling.auto.{{ $component }}.hpa.enabled: has no effect while scaling.auto.enabled is false; set that too, or remove this key
{{- end }}
{{- end }}
{{- if kindIs "slice" .Values.lightningAsr.labels }}{{ if .Values.lightningAsr.labels }}
lightningAsr.labels: is a list; write the labels as a map (name: value)
{{- end }}{{ end }}
{{- end }}

{{- define "smallest.problems.redis" -}}
{{- if not .Values.spec.redis }}
{{- if and (not .Values.redis.enabled) (not .Values.redis.externalHost) }}
redis.externalHost: is needed when redis.enabled is false
{{- else if and .Values.redis.enabled .Values.redis.externalHost }}
redis.externalHost: set redis.enabled to false to use this Redis instead of the service's own
{{- end }}
{{- end }}
{{- end }}
