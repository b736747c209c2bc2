"""Decide whether a challenger replaces the champion."""
