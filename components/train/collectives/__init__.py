"""Collective operations of the ranks of one training, and the engines that do them."""
