"""`conveyor metrics`: runs, models and retrainings of a store, for Prometheus."""
