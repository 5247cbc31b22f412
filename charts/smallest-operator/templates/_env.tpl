{{- /* The operator's configuration. `smallest-operator --help` explains each name. */ -}}
{{- define "smallest-operator.env" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
{{- with .Values.watchNamespace }}
- name: WATCH_NAMESPACE
  value: {{ . | quote }}
{{- end }}
- name: SMALLEST_IMAGE_GATEWAY
  value: {{ include "smallest-operator.image" (list . "gateway") | quote }}
- name: SMALLEST_IMAGE_WORKER
  value: {{ include "smallest-operator.image" (list . "worker") | quote }}
- name: SMALLEST_IMAGE_WORKER_CUDA
  value: {{ include "smallest-operator.image" (list . "workerCuda") | quote }}
- name: SMALLEST_IMAGE_LICENSE_PROXY
  value: {{ include "smallest-operator.image" (list . "licenseProxy") | quote }}
- name: SMALLEST_IMAGE_REDIS
  value: {{ include "smallest-operator.image" (list . "redis") | quote }}
- name: IMAGE_PULL_POLICY
  value: {{ .Values.images.pullPolicy | quote }}
{{- with .Values.licenseTrustedKeys }}
- name: LICENSE_TRUSTED_KEYS
  value: {{ . | quote }}
{{- end }}
{{- with .Values.asrEngine }}
- name: ASR_ENGINE
  value: {{ . | quote }}
{{- end }}
{{- with .Values.ttsEngine }}
- name: TTS_ENGINE
  value: {{ . | quote }}
{{- end }}
- name: EXTERNAL_METRICS
  value: {{ .Values.externalMetrics.enabled | quote }}
{{- if .Values.externalMetrics.tls.existingSecret }}
- name: EXTERNAL_METRICS_TLS_DIR
  value: /etc/smallest/tls
{{- end }}
- name: RUST_LOG
  value: {{ .Values.logFilter | quote }}
- name: LOG_FORMAT
  value: {{ .Values.logFormat | quote }}
{{- with .Values.otlpEndpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- end }}
