"""Helpers that several tests share; on the path as `support`."""
