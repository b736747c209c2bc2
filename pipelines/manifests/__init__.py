"""The table of steps as plain manifests (kustomize): what lies in manifests/ is written from here."""
