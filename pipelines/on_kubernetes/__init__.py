"""Runs on Kubernetes: a pod in the cluster launches the steps, and any machine may follow it."""
