"""One long study, watched: does anything grow that should not?"""
