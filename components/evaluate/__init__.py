"""Measure a model on one split."""
