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
{{- if ne .Release.Namespace (default .Release.Namespace (get $pods "namespace")) -}}
  {{- fail (printf "config.kubernetes.namespace: %s, and the release's accounts, rights and Secret are in %s: leave it out" $pods.namespace .Release.Namespace) -}}
{{- end -}}
{{- $labels := merge (dict "app.kubernetes.io/instance" .Release.Name) .Values.podLabels -}}
{{- /* Names that are set one by one: what is set there adds to the values' own, and wins where both name it. */ -}}
{{- range $key, $value := dict "labels" $labels "annotations" .Values.podAnnotations "env" .Values.extraEnv -}}
  {{- $theirs := default dict (get $pods $key) -}}
  {{- range $name, $each := $value -}}
    {{- include "conveyor.fill" (dict "in" $theirs "key" $name "value" $each) -}}
  {{- end -}}
  {{- $_ := set $pods $key $theirs -}}
{{- end -}}
{{- $own := dict
    "image" (include "conveyor.image" .Values.image)
    "image_pull_policy" .Values.image.pullPolicy
    "secret" (include "conveyor.secret" .)
    "service_account" (include "conveyor.stepAccount" .)
    "launcher_service_account" (include "conveyor.launcherAccount" .) -}}
{{- $_ := merge $own (include "conveyor.ownPlacement" . | fromYaml) -}}
{{- if .Values.kueue.queue }}{{ $_ := set $own "queue" .Values.kueue.queue }}{{ end -}}
{{- range $key, $value := $own -}}
  {{- include "conveyor.fill" (dict "in" $pods "key" $key "value" $value) -}}
{{- end -}}
{{- $security := default dict (get $pods "security") -}}
{{- range $key, $name := dict "user" "runAsUser" "group" "runAsGroup" "fs_group" "fsGroup" -}}
  {{- include "conveyor.fill" (dict "in" $security "key" $key "value" (index $.Values.podSecurityContext $name)) -}}
{{- end -}}
{{- $_ := set $pods "security" $security -}}
{{- $_ := set $config "kubernetes" $pods -}}
{{- toYaml $config -}}
{{- end }}

{{/* Where pods run, of the values, under the names that the config has for it. */}}
{{- define "conveyor.ownPlacement" -}}
{{- $found := dict
    "image_pull_secrets" .Values.image.pullSecrets
    "node_selector" .Values.nodeSelector
    "tolerations" .Values.tolerations -}}
{{- with .Values.affinity }}{{ $_ := set $found "affinity" . }}{{ end -}}
{{- with .Values.priorityClassName }}{{ $_ := set $found "priority_class" . }}{{ end -}}
{{- toYaml $found -}}
{{- end }}

{{/* The bucket of a store section. */}}
{{- define "conveyor.bucket" -}}
{{- index (splitList "/" (trimPrefix "s3://" .url)) 0 -}}
{{- end }}
