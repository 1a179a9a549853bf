"""Methods compared over several benchmarks, a task each: scores, regrets, and statements about further tasks."""
