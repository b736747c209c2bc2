"""The run's report: what each step left, told as one page."""
