"""Bring images in: validate, deduplicate, group, split and pack them into a snapshot."""
