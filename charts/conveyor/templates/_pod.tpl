{{/*
The pod of our image: what components/cluster/pods.py makes for steps, for the chart's own pods. What they share with the
steps (image, environment, Secret, mounts) is read from the config's section `kubernetes`, so that it is the same. Claims
are the launcher's only: a disk that one node can have would stay at the exporter's, and no step on another could begin.
Arguments: root, component, account, args, resources; optional: token (the API is used), env (list), restartPolicy,
ports and probes (maps into the container), webhook.
*/}}
{{- define "conveyor.podTemplate" -}}
{{- $values := .root.Values -}}
metadata:
  labels:
    {{- include "conveyor.podLabels" . | nindent 4 }}
  annotations:
    checksum/config: {{ include "conveyor.config" .root | sha256sum | trunc 16 | quote }}
    {{- with $values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- include "conveyor.podSpec" . | nindent 2 }}
{{- end }}

{{- define "conveyor.podSpec" -}}
{{- $values := .root.Values -}}
{{- $config := include "conveyor.config" .root | fromYaml -}}
{{- $pods := $config.kubernetes -}}
{{- $secret := $pods.secret -}}
{{- $authority := default "" $config.store.ca_bundle -}}
{{- $mounts := list -}}
{{- range $pods.mounts -}}
  {{- if or (not .claim) (eq $.component "launcher") (hasPrefix (printf "%s/" (trimSuffix "/" .path)) $authority) -}}
    {{- $mounts = append $mounts . -}}
  {{- end -}}
{{- end -}}
serviceAccountName: {{ .account | quote }}
automountServiceAccountToken: {{ default false .token }}
enableServiceLinks: false
{{- with .restartPolicy }}
restartPolicy: {{ . }}
{{- end }}
terminationGracePeriodSeconds: 30
securityContext:
  {{- toYaml $values.podSecurityContext | nindent 2 }}
{{- $placed := pick $pods "image_pull_secrets" "node_selector" "tolerations" "affinity" "priority_class" -}}
{{- if eq .component "launcher" -}}
  {{- range $key, $value := dig "placement" "launcher" dict $pods -}}
    {{- if not (kindIs "invalid" $value) }}{{ $_ := set $placed $key $value }}{{ end -}}
  {{- end -}}
{{- end -}}
{{- include "conveyor.placement" $placed }}
containers:
  - name: conveyor
    image: {{ $pods.image | quote }}
    imagePullPolicy: {{ $pods.image_pull_policy }}
    args: {{ toJson .args }}
    env:
      - {name: CONVEYOR_CORES, value: "1"}
      - {name: CONVEYOR_GPUS, value: "0"}
      {{- if .token }}
      - name: CONVEYOR_POD
        valueFrom: {fieldRef: {fieldPath: metadata.name}}
      {{- end }}
      {{- range $name, $value := $pods.env }}
      - {name: {{ $name | quote }}, value: {{ $value | quote }}}
      {{- end }}
      {{- with .env }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
      {{- if $secret }}
      - name: AWS_ACCESS_KEY_ID
        valueFrom: {secretKeyRef: {name: {{ $secret | quote }}, key: access-key}}
      - name: AWS_SECRET_ACCESS_KEY
        valueFrom: {secretKeyRef: {name: {{ $secret | quote }}, key: secret-key}}
      - name: AWS_SESSION_TOKEN
        valueFrom: {secretKeyRef: {name: {{ $secret | quote }}, key: session-token, optional: true}}
      {{- end }}
      {{- if .webhook }}
      - name: CONVEYOR_WEBHOOK_URL
        valueFrom: {secretKeyRef: {name: {{ $values.webhook.existingSecret | quote }}, key: {{ $values.webhook.key }}, optional: true}}
      - name: CONVEYOR_WEBHOOK_SECRET
        valueFrom: {secretKeyRef: {name: {{ $values.webhook.existingSecret | quote }}, key: {{ $values.webhook.secretKey }}, optional: true}}
      {{- end }}
    {{- with .container }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    resources:
      {{- toYaml .resources | nindent 6 }}
    securityContext:
      {{- toYaml $values.securityContext | nindent 6 }}
    terminationMessagePolicy: FallbackToLogsOnError
    volumeMounts:
      - {name: tmp, mountPath: /tmp}
      - {name: config, mountPath: /etc/conveyor, readOnly: true}
      {{- range $mounts }}
      - {name: {{ .name | quote }}, mountPath: {{ .path | quote }}, readOnly: {{ dig "read_only" true . }}}
      {{- end }}
volumes:
  - name: tmp
    emptyDir: {sizeLimit: {{ dig "limits" "ephemeral-storage" "1Gi" .resources }}}
  - name: config
    configMap: {name: {{ include "conveyor.fullname" .root }}-config}
  {{- range $mounts }}
  - name: {{ .name | quote }}
    {{- with .claim }}
    persistentVolumeClaim: {claimName: {{ . | quote }}}
    {{- end }}
    {{- with .secret }}
    secret: {secretName: {{ . | quote }}}
    {{- end }}
    {{- with .config_map }}
    configMap: {name: {{ . | quote }}}
    {{- end }}
  {{- end }}
{{- end }}

{{/* Pull secrets and placement, under their names in the config's section `kubernetes`. */}}
{{- define "conveyor.placement" -}}
{{- with .image_pull_secrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- with .node_selector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priority_class }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .runtime_class }}
runtimeClassName: {{ . | quote }}
{{- end }}
{{- end }}
