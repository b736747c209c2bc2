"""What tools/chart.py makes the chart's README and schema from: its values.yaml, comments included."""
