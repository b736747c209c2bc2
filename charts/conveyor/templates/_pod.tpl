{{/*
The pod of our image: what components/cluster/pods.py makes for steps, for the chart's own pods.
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
{{- $secret := include "conveyor.secret" .root -}}
serviceAccountName: {{ .account }}
automountServiceAccountToken: {{ default false .token }}
enableServiceLinks: false
{{- with .restartPolicy }}
restartPolicy: {{ . }}
{{- end }}
terminationGracePeriodSeconds: 30
securityContext:
  {{- toYaml $values.podSecurityContext | nindent 2 }}
{{- include "conveyor.placement" .root }}
containers:
  - name: conveyor
    image: {{ include "conveyor.image" $values.image | quote }}
    imagePullPolicy: {{ $values.image.pullPolicy }}
    args: {{ toJson .args }}
    env:
      - {name: CONVEYOR_CORES, value: "1"}
      - {name: CONVEYOR_GPUS, value: "0"}
      {{- if .token }}
      - name: CONVEYOR_POD
        valueFrom: {fieldRef: {fieldPath: metadata.name}}
      {{- end }}
      {{- range $name, $value := $values.extraEnv }}
      - {name: {{ $name }}, value: {{ $value | quote }}}
      {{- end }}
      {{- with .env }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
      {{- if $secret }}
      - name: AWS_ACCESS_KEY_ID
        valueFrom: {secretKeyRef: {name: {{ $secret }}, key: access-key}}
      - name: AWS_SECRET_ACCESS_KEY
        valueFrom: {secretKeyRef: {name: {{ $secret }}, key: secret-key}}
      - name: AWS_SESSION_TOKEN
        valueFrom: {secretKeyRef: {name: {{ $secret }}, key: session-token, optional: true}}
      {{- end }}
      {{- if .webhook }}
      - name: CONVEYOR_WEBHOOK_URL
        valueFrom: {secretKeyRef: {name: {{ $values.webhook.existingSecret }}, key: {{ $values.webhook.key }}, optional: true}}
      - name: CONVEYOR_WEBHOOK_SECRET
        valueFrom: {secretKeyRef: {name: {{ $values.webhook.existingSecret }}, key: {{ $values.webhook.secretKey }}, optional: true}}
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
volumes:
  - name: tmp
    emptyDir: {sizeLimit: {{ dig "limits" "ephemeral-storage" "1Gi" .resources }}}
  - name: config
    configMap: {name: {{ include "conveyor.fullname" .root }}-config}
{{- end }}

{{/* Pull secrets and placement, for every pod of the chart. */}}
{{- define "conveyor.placement" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
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
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}
