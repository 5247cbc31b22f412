{{- /* Keys of chart smallest-self-host that say nothing here (files/keys.yaml), found in the values. */ -}}

{{- /* The value at a dotted path, as JSON, of (list $ "a.b.c"); nothing when it is absent. */ -}}
{{- define "smallest.lookup" -}}
{{- $at := dict "value" (index . 0).Values -}}
{{- range splitList "." (index . 1) -}}
{{- $value := $at.value -}}
{{- if kindIs "map" $value -}}{{- $_ := set $at "value" (get $value .) -}}{{- else -}}{{- $_ := set $at "value" "" -}}{{- end -}}
{{- end -}}
{{- $at.value | toJson -}}
{{- end }}

{{- /* What is found of a kind, as (list $ "noted"): JSON of {text: [keys]}. */ -}}
{{- define "smallest.found" -}}
{{- $root := index . 0 -}}
{{- $kind := index . 1 -}}
{{- $found := dict -}}
{{- range $key, $rule := $root.Files.Get "files/keys.yaml" | fromYaml -}}
{{- with get $rule $kind -}}
{{- $json := include "smallest.lookup" (list $root $key) -}}
{{- if and (fromJson (printf "{\"value\":%s}" $json)).value (ne $json (toJson $rule.default)) -}}
{{- $_ := set $found . (append (get $found . | default list) $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end }}
