"""A local cluster in one command: what tools/local_cluster.py is made of."""
