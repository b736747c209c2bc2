{{/* Sets `key` of a map where it is not there yet: an explicit false, 0 or "" of the user's stays. */}}
{{- define "conveyor.fill" -}}
{{- if not (hasKey .in .key) -}}{{- $_ := set .in .key .value -}}{{- end -}}
{{- end }}

{{/* The whole config file: values.config, and what the chart knows. */}}
{{- define "conveyor.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $name := include "conveyor.fullname" . -}}
{{- $store := default dict (get $config "store") -}}
{{- if eq .Values.storage.kind "minio" -}}
  {{- include "conveyor.fill" (dict "in" $store "key" "url" "value" "s3://conveyor/store") -}}
  {{- include "conveyor.fill" (dict "in" $store "key" "endpoint" "value" (printf "http://%s-storage.%s.svc:9000" $name .Release.Namespace)) -}}
{{- end -}}
{{- if not (hasPrefix "s3://" (default "" (get $store "url"))) -}}
  {{- fail "config.store.url must be s3://bucket/prefix: pods share no folder (storage.kind external needs it set)" -}}
{{- end -}}
{{- $_ := set $config "store" $store -}}
{{- if .Values.example.enabled -}}
  {{- $ingest := default dict (get $config "ingest") -}}
  {{- include "conveyor.fill" (dict "in" $ingest "key" "source" "value" (printf "s3://%s/digits" (include "conveyor.bucket" $store))) -}}
  {{- include "conveyor.fill" (dict "in" $ingest "key" "dataset" "value" "digits") -}}
  {{- $_ := set $config "ingest" $ingest -}}
{{- end -}}
{{- $pods := default dict (get $config "kubernetes") -}}
{{- $labels := merge (dict "app.kubernetes.io/instance" .Release.Name) .Values.podLabels -}}
{{- $own := dict
    "image" (include "conveyor.image" .Values.image)
    "image_pull_policy" .Values.image.pullPolicy
    "image_pull_secrets" .Values.image.pullSecrets
    "secret" (include "conveyor.secret" .)
    "service_account" (include "conveyor.stepAccount" .)
    "launcher_service_account" (include "conveyor.launcherAccount" .)
    "labels" $labels
    "annotations" .Values.podAnnotations
    "node_selector" .Values.nodeSelector
    "tolerations" .Values.tolerations
    "env" .Values.extraEnv -}}
{{- if .Values.affinity }}{{ $_ := set $own "affinity" .Values.affinity }}{{ end -}}
{{- if .Values.priorityClassName }}{{ $_ := set $own "priority_class" .Values.priorityClassName }}{{ end -}}
{{- if .Values.kueue.queue }}{{ $_ := set $own "queue" .Values.kueue.queue }}{{ end -}}
{{- range $key, $value := $own -}}
  {{- include "conveyor.fill" (dict "in" $pods "key" $key "value" $value) -}}
{{- end -}}
{{- $_ := set $config "kubernetes" $pods -}}
{{- toYaml $config -}}
{{- end }}

{{/* The bucket of a store section. */}}
{{- define "conveyor.bucket" -}}
{{- index (splitList "/" (trimPrefix "s3://" .url)) 0 -}}
{{- end }}
