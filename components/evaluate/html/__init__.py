"""Building blocks of the reports: one self-contained page, plots as inline SVG, no script, no network."""
