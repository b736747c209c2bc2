"""What several steps share and nothing else: store, references, records, configuration, progress."""
