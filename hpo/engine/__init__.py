"""One study on Ray Tune, from its first trial to its last."""
