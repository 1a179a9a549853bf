"""Replays: studies on a virtual clock whose trials read the recorded curves of a bank."""
