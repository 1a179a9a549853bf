"""Reference pages of docs/, made from the code."""
