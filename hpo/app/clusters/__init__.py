"""The commands that hand trials to a cluster, or to HyperQueue."""
