"""Make a model smaller and faster, judged by measured latency."""
