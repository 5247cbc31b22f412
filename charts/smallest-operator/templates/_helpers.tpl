{{- /* Names, labels and images: the only place where this chart makes them. */ -}}

{{- /* Name of every object. It is fixed: the operator finds its Service, Lease and Secret by it. */ -}}
{{- define "smallest-operator.name" -}}
smallest-operator
{{- end }}

{{- /* Name of objects without a namespace. Operators that run one namespace each can stand beside each other. */ -}}
{{- define "smallest-operator.clusterName" -}}
{{- if .Values.watchNamespace }}smallest-operator-{{ .Release.Namespace }}{{ else }}smallest-operator{{ end }}
{{- end }}

{{- define "smallest-operator.selector" -}}
app.kubernetes.io/name: smallest-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "smallest-operator.labels" -}}
{{ include "smallest-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: smallest
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* One image of `images`, as (list $ "operator"): registry, repository, then digest or tag. */ -}}
{{- define "smallest-operator.image" -}}
{{- $root := index . 0 -}}
{{- $image := index $root.Values.images (index . 1) -}}
{{- with $root.Values.images.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default $root.Chart.AppVersion }}{{ end -}}
{{- end }}
