"""The figures of a comparison: one file each, on the canvas that `plots` has."""
