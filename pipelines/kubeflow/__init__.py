"""The table of steps as a Kubeflow pipeline: compiled, run locally, submitted and scheduled.

Nothing is imported here: inside a task's pod kfp is only half there, and what makes pipelines cannot be imported.
"""
