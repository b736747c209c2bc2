"""Kubernetes objects and how steps are launched as them; shared by pipelines and by a step that starts pods itself."""
